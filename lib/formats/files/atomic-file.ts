import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, realpath, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { describe, TorchBindError } from '../../errors';

/** A file whose new content is on the disk, under another name beside it. */
export interface StagedFile {
  /** Moves the content to its place, at once. The directory must be synced afterwards. */
  commit(): Promise<void>;
  /** Removes what `commit` did not move. */
  discard(): Promise<void>;
}

/**
 * Writes a file so that at every moment, crash included, the path holds the old content or the new one and never a
 * part: into a temporary file in the same directory, synced, then renamed, and the directory synced.
 *
 * @param durable false leaves out the syncs: the path then holds one or the other as long as the system runs, and after a
 *   power failure perhaps neither

 * @throws what `body` throws, or TorchBindError ERR_TORCHBIND_SAVE; the old content is then untouched
 */
export async function writeFileAtomically(
  target: string,
  body: (file: FileHandle) => Promise<void>,
  durable = true,
): Promise<void> {
  const staged = await stageFile(target, body, durable);
  try {
    await staged.commit();
    if (durable) await syncDirectoryOf(target);
  } finally {
    await staged.discard();
  }
}

/** Writes and syncs the new content of `target`, without moving it there yet. */
export async function stageFile(
  target: string,
  body: (file: FileHandle) => Promise<void>,
  durable = true,
): Promise<StagedFile> {
  // Through a symbolic link the file itself is replaced, not the link.
  const file = await realpath(target).catch(() => path.resolve(target));
  const unique = `${process.pid}-${randomBytes(6).toString('hex')}`;
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${unique}.tmp`);
  try {
    await writeAndClose(await open(temporary, 'wx'), body, durable);
  } catch (error) {
    await rm(temporary, { force: true });
    throw asFailure(target, error);
  }
  return {
    commit: () => rename(temporary, file).catch((error: unknown) => Promise.reject(asFailure(target, error))),
    discard: () => rm(temporary, { force: true }),
  };
}

async function writeAndClose(
  handle: FileHandle,
  body: (file: FileHandle) => Promise<void>,
  durable: boolean,
): Promise<void> {
  try {
    await body(handle);
    // After a failed sync the bytes may be lost though a second one succeeds: it is never tried again.
    if (durable) await handle.sync();
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
  await handle.close();
}

/** Makes renames and removals beside `target` durable. */
export async function syncDirectoryOf(target: string): Promise<void> {
  // Windows cannot open directories, and makes renames durable by itself.
  if (process.platform === 'win32') return;
  try {
    const handle = await open(path.dirname(await realpath(target)), 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw asFailure(target, error);
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

/** A directory and those above it, where they are missing. */
export async function makeDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true }).catch((error: Error) => {
    throw new TorchBindError(
      `Cannot make the directory ${describe(directory)}: ${error.message}`,
      'ERR_TORCHBIND_SAVE',
      {
        cause: error,
      },
    );
  });
}
