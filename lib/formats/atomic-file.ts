import { randomBytes } from 'node:crypto';
import { type FileHandle, open, realpath, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError } from '../errors';

/**
 * Writes a file so that at every moment, crash included, the path holds the old content or the new one and never a
 * part: into a temporary file in the same directory, synced, then renamed, and the directory synced.
 *
 * @throws what `body` throws, or TorchBindError ERR_TORCHBIND_SAVE; the old content is then untouched
 */
export async function writeFileAtomically(target: string, body: (file: FileHandle) => Promise<void>): Promise<void> {
  // Through a symbolic link the file itself is replaced, not the link.
  const file = await realpath(target).catch(() => path.resolve(target));
  const directory = path.dirname(file);
  const temporary = path.join(
    directory,
    `.${path.basename(file)}.${process.pid}-${randomBytes(6).toString('hex')}.tmp`,
  );
  try {
    await writeAndClose(await open(temporary, 'wx'), body);
    await rename(temporary, file);
    await syncDirectory(directory);
  } catch (error) {
    await rm(temporary, { force: true });
    throw asFailure(target, error);
  }
}

async function writeAndClose(handle: FileHandle, body: (file: FileHandle) => Promise<void>): Promise<void> {
  try {
    await body(handle);
    // After a failed sync the bytes may be lost though a second one succeeds: it is never tried again.
    await handle.sync();
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
  await handle.close();
}

async function syncDirectory(directory: string): Promise<void> {
  // Windows cannot open directories, and makes renames durable by itself.
  if (process.platform === 'win32') return;
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Errors of the operating system get the path and our type; all others pass. */
function asFailure(target: string, error: unknown): Error {
  if (!(error instanceof Error) || !('syscall' in error)) return error as Error;
  const { code, message } = error as NodeJS.ErrnoException;
  let reason = message;
  if (code === 'ENOENT') reason = 'its directory does not exist';
  if (code === 'EISDIR') reason = 'it is a directory';
  return new TorchBindError(`cannot save '${target}': ${reason}`, 'ERR_TORCHBIND_SAVE', { cause: error });
}
