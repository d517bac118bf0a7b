import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  openSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';

/** Small files that are written between two updates of a training, and whose loss costs no weights: they are not synced. */

/** Adds to the end of a file. A FIFO or device is written into, if that needs no waiting. */
export function appendTo(file: string, content: string | Buffer): void {
  if (isSpecial(file)) writeInto(file, content);
  else appendFileSync(file, content);
}

/**
 * Gives a file another content, the old one or the new one being there at every moment. Symbolic links are followed, mode and
 * owner stay; a FIFO or device is written into, if that needs no waiting.
 */
export function replaceContent(file: string, content: string | Buffer): void {
  if (isSpecial(file)) return writeInto(file, content);
  const place = followLinks(file);
  const before = statSync(place, { throwIfNoEntry: false });
  const temporary = `${place}.${process.pid}`;
  try {
    writeFileSync(temporary, content, { mode: before === undefined ? 0o666 : 0o600 });
    if (before !== undefined) {
      const own = statSync(temporary);
      if (own.uid !== before.uid || own.gid !== before.gid) giveTo(temporary, before);
      chmodSync(temporary, before.mode & 0o7777);
    }
    renameSync(temporary, place);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** Whether something is there that is not a regular file. */
export function isSpecial(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isFile() === false;
}

/** Never waits: opening a FIFO for writing waits for a reader, and writing to a full one for room. */
function writeInto(file: string, content: string | Buffer): void {
  const bytes = Buffer.from(content);
  const target = openSync(file, constants.O_WRONLY | constants.O_APPEND | (constants.O_NONBLOCK ?? 0));
  try {
    for (let done = 0; done < bytes.length;) done += writeSync(target, bytes, done);
  } finally {
    closeSync(target);
  }
}

function followLinks(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    try {
      return followLinks(path.resolve(path.dirname(file), readlinkSync(file)));
    } catch {
      return file;
    }
  }
}

function giveTo(file: string, { uid, gid }: { uid: number; gid: number }): void {
  try {
    chownSync(file, uid, gid);
  } catch {
    // Only root may give files away.
  }
}
