import { constants, type Stats } from 'node:fs';
import { access, copyFile, type FileHandle, link, open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { CheckpointCode, CheckpointError, describe, withPath } from '../errors';
import { adoptOwner, followLinks, writeFileAtomically } from '../formats/files/atomic-file';
import { parseSettings, pythonJson } from '../formats/files/python-json';
import { readSmallFile } from '../formats/files/small-file';

export { makeDirectory } from '../formats/files/atomic-file';

/** The files of a bundle, as the Python programs name them. */
export const bundleFiles = {
  model: 'model.pt',
  config: 'config.json',
  tokenizer: 'tokenizer.json',
  tokenizerConfig: 'tokenizer_config.json',
  generation: 'generation_config.json',
  trainingState: 'training_state.json',
  optimizer: 'optimizer.pt',
  randomState: 'random_state.pt',
} as const;

/** Sizes and checksums of a bundle's files; Python's bundles have none. */
export const manifestFile = 'manifest.json';

export type JsonObject = Record<string, unknown>;

export async function exists(file: string): Promise<boolean> {
  return access(file, constants.F_OK).then(
    () => true,
    () => false,
  );
}

/** What is at a path that is not a regular file: `a FIFO`, which would be waited for, `a directory`; undefined for a file or nothing. */
export async function specialFileAt(file: string): Promise<string | undefined> {
  const info = await stat(file).catch(() => undefined);
  if (info === undefined || info.isFile()) return undefined;
  if (info.isDirectory()) return 'a directory';
  return info.isFIFO() ? 'a FIFO' : info.isSocket() ? 'a socket' : 'a device';
}

/** The object in a JSON file, as Python reads it. */
export function readJson(file: string): Promise<JsonObject> {
  return withPath(file, async () => parseJson(await readText(file)));
}

/** @throws CheckpointError for a text that is not a JSON object */
export function parseJson(text: string): JsonObject {
  const value = parseSettings(text);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new CheckpointError(`expected a JSON object, got ${describe(value)}`, CheckpointCode.format);
}

/** As `readJson`; undefined if the file does not exist. */
export async function readOptionalJson(file: string): Promise<JsonObject | undefined> {
  return (await exists(file)) ? readJson(file) : undefined;
}

/** @throws CheckpointError naming the file, where it cannot be read or is too large */
export async function readText(file: string): Promise<string> {
  return (await readSmallFile(file)).toString('utf8');
}

/** Writes JSON as `json.dumps(value, indent=2)` does, in ASCII, and syncs the file. */
export async function writeJson(file: string, value: object): Promise<void> {
  await writeText(file, pythonJson(value));
}

/** Writes a file that is not there yet, and syncs it. */
export async function writeText(file: string, text: string | Uint8Array): Promise<void> {
  const handle = await open(file, 'wx');
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The same over a file that may be there, which holds the old content or the new at every moment. */
export async function replaceJson(file: string, value: object): Promise<void> {
  await writeFileAtomically(file, (handle) => handle.writeFile(`${pythonJson(value)}\n`));
}

/** Makes the entries of a directory durable. */
export async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === 'win32') return; // Directories cannot be opened there, and renames are durable.
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Gives a file a second name; where the file system has no hard links, a copy. */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
    await copyOf(from, to);
  }
}

/** A copy of a file, synced. It shares blocks with the first one if the file system can, and never the inode. */
export async function copyOf(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  const before = await stat(from);
  await changed(to, async (handle) => {
    await adoptOwner(handle, before);
    await handle.sync();
  });
}

/** Gives the files of a new directory, and the directory, the mode and owner of those that they replace: what was private stays so. */
export async function adoptOwners(directory: string, replaced: string): Promise<void> {
  for (const name of ['.', ...(await readdir(directory))]) {
    const before = await stat(path.join(replaced, name)).catch(() => undefined);
    if (before !== undefined) await adoptOwnerOf(path.join(directory, name), before);
  }
}

/** Gives a new file or directory the mode and owner of the one that it replaces. */
export async function adoptOwnerOf(file: string, before: Stats): Promise<void> {
  // Windows opens no directories.
  if (process.platform === 'win32' && before.isDirectory()) return;
  await changed(file, (handle) => adoptOwner(handle, before));
}

/** Opens a file to sync it or to change its mode. It may be one that only root may write, which Windows needs all the same. */
async function changed(file: string, change: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await open(file, process.platform === 'win32' ? 'r+' : 'r');
  await change(handle).finally(() => handle.close());
}

/**
 * Puts a file of another directory under `target` too, in one step: a reader finds the old content or the new. Symbolic links
 * at `target` stay, and what they lead to is replaced.
 *
 * @param put how: by a link where the other name goes away, else by a copy, because other programs write in place
 */
export async function installFile(
  from: string,
  target: string,
  put: (from: string, to: string) => Promise<void>,
): Promise<void> {
  const place = await followLinks(target);
  const directory = path.dirname(place);
  const temporary = path.join(directory, `.${path.basename(place)}.installing`);
  await rm(temporary, { force: true });
  await put(from, temporary);
  await rename(temporary, place);
  await rm(temporary, { force: true }); // Renaming between two names of one file does nothing and leaves both.
  if (directory !== path.dirname(target)) await syncDirectory(directory);
}

/** Optimizer updates made, as a JSON file of training state says; null where it does not. */
export function stepIn(json: JsonObject | undefined): number | null {
  const step = json?.global_step ?? json?.step;
  return Number.isSafeInteger(step) ? (step as number) : null;
}
