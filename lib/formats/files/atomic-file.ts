import { randomBytes } from 'node:crypto';
import { constants, createReadStream, type Stats } from 'node:fs';
import { type FileHandle, mkdir, mkdtemp, open, readlink, realpath, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { describe, TorchBindError } from '../../errors';

/** A file whose new content is on the disk, under another name next to it. */
export interface StagedFile {
  /** Moves the content to its place atomically. The directory must be synced afterwards. */
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

/**
 * Writes and syncs the new content of `target`, without moving it there yet. The path is resolved now: symbolic links are
 * followed, and what the process or its working directory become later changes nothing. A file that is replaced keeps its
 * mode and owner. A FIFO, device or socket is never replaced: the content is written into it, as torch.save does.
 */
export async function stageFile(
  target: string,
  body: (file: FileHandle) => Promise<void>,
  durable = true,
): Promise<StagedFile> {
  try {
    const given = path.resolve(target);
    const before = await stat(given).catch(() => undefined);
    if (before !== undefined && !before.isFile() && !before.isDirectory())
      return await stageStream(given, target, body);
    const file = await followLinks(given);
    const unique = `${process.pid}-${randomBytes(6).toString('hex')}`;
    const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${unique}.tmp`);
    try {
      const handle = await open(temporary, 'wx', before === undefined ? 0o666 : 0o600);
      await writeAndClose(handle, body, durable, before);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    return {
      commit: () => rename(temporary, file).catch((error: unknown) => Promise.reject(asFailure(target, error))),
      discard: () => rm(temporary, { force: true }),
    };
  } catch (error) {
    throw asFailure(target, error);
  }
}

const maxLinks = 40;

/** The path behind symbolic links; the last one may lead to a file that is not there yet. */
export async function followLinks(file: string): Promise<string> {
  let at = file;
  for (let links = 0; links < maxLinks; links++) {
    const found = await realpath(at).catch(() => undefined);
    if (found !== undefined) return found;
    const link = await readlink(at).catch(() => undefined);
    if (link === undefined) {
      const directory = await realpath(path.dirname(at)).catch(() => path.dirname(at));
      return path.join(directory, path.basename(at));
    }
    at = path.resolve(path.dirname(at), link);
  }
  await stat(file); // throws: the links lead in a circle
  return file;
}

/** For what is not a regular file: bytes may be written there in their order only, so the content is made in a file first. */
async function stageStream(
  file: string,
  target: string,
  body: (file: FileHandle) => Promise<void>,
): Promise<StagedFile> {
  const directory = await mkdtemp(path.join(tmpdir(), 'torchbind-'));
  const discard = (): Promise<void> => rm(directory, { recursive: true, force: true });
  const temporary = path.join(directory, 'content');
  try {
    await writeAndClose(await open(temporary, 'wx', 0o600), body, false);
  } catch (error) {
    await discard();
    throw error;
  }
  const commit = async (): Promise<void> => {
    try {
      const handle = await open(file, constants.O_WRONLY);
      await pipeline(createReadStream(temporary), handle.createWriteStream());
    } catch (error) {
      throw asFailure(target, error);
    }
  };
  return { commit, discard };
}

/** Gives a new file or directory the owner and the mode of the one that it replaces. */
export async function adoptOwner(handle: FileHandle, { uid, gid, mode }: Stats): Promise<void> {
  const own = await handle.stat();
  if (own.uid !== uid || own.gid !== gid) {
    // Only root may give files away; a group of one's own may be kept.
    await handle.chown(uid, gid).catch(() => handle.chown(own.uid, gid).catch(() => undefined));
  }
  await handle.chmod(mode & 0o7777);
}

async function writeAndClose(
  handle: FileHandle,
  body: (file: FileHandle) => Promise<void>,
  durable: boolean,
  before?: Stats,
): Promise<void> {
  try {
    await body(handle);
    if (before !== undefined) await adoptOwner(handle, before);
    // After a failed sync the bytes may be lost though a second one succeeds: it is never tried again.
    if (durable) await handle.sync();
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
  await handle.close();
}

/** Makes renames and removals next to `target` durable. */
export async function syncDirectoryOf(target: string): Promise<void> {
  // Windows cannot open directories, and makes renames durable by itself.
  if (process.platform === 'win32') return;
  try {
    const handle = await open(path.dirname(await realpath(target).catch(() => path.resolve(target))), 'r');
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
