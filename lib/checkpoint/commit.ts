import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError } from '../errors';
import { bundleFiles, exists, installFile, makeDirectory, manifestFile, syncDirectory } from './files';
import { readManifest, verifyBundle, writeManifest } from './integrity';

/**
 * How a bundle is replaced so that a crash at any moment leaves the old one or the new one, complete:
 *
 * 1. All files are written and synced in `.saving-<pid>-<random>/`, the manifest last.
 * 2. That directory is renamed to `.saved`: from here on the new bundle is the one that counts.
 * 3. Its files are linked over those of the bundle, and `.saved` is removed.
 *
 * Whoever finds `.saved` reads from there: the files beside it may be a mixture.
 */
const savedDirectory = '.saved';
const stagingPattern = /^\.saving-(\d+)-[0-9a-f]+$/;
const trashPattern = /^\.trash-(\d+)-[0-9a-f]+$/;

/** A reader begins again when the bundle was replaced meanwhile; saves that follow each other closely do so repeatedly. */
const READ_ATTEMPTS = 25;

/** What to put in a bundle. */
export interface BundleWriter {
  /** Writes the bundle's files into an empty directory, each synced. */
  write(directory: string): Promise<void>;
  step: number | null;
}

const saves = new Map<string, Promise<unknown>>();

/** Replaces the bundle in a directory. Saves of one directory wait for each other. */
export function commitBundle(directory: string, writer: BundleWriter): Promise<void> {
  const target = path.resolve(directory);
  const previous = saves.get(target) ?? Promise.resolve();
  const save = previous.catch(() => undefined).then(() => replaceBundle(target, writer));
  saves.set(target, save);
  const forget = (): void => {
    if (saves.get(target) === save) saves.delete(target);
  };
  save.then(forget, forget);
  return save;
}

async function replaceBundle(target: string, writer: BundleWriter): Promise<void> {
  const staging = path.join(target, `.saving-${process.pid}-${randomBytes(6).toString('hex')}`);
  try {
    await makeDirectory(target);
    await recoverBundle(target);
    await mkdir(staging);
    await writer.write(staging);
    await writeManifest(staging, await readdir(staging), writer.step);
    await syncDirectory(staging);
    await rename(staging, path.join(target, savedDirectory));
    await syncDirectory(target);
    await install(target);
  } catch (error) {
    await rm(staging, { recursive: true, force: true }).catch(() => undefined);
    throw asSaveError(target, error);
  }
}

/** Finishes a save that a crash cut short after it counted, and removes what others left unfinished. */
export async function recoverBundle(target: string): Promise<void> {
  if (!(await exists(target))) return;
  if (await exists(path.join(target, savedDirectory))) await install(target);
  for (const name of await readdir(target)) {
    const pid = (stagingPattern.exec(name) ?? trashPattern.exec(name))?.[1];
    if (pid !== undefined && !isRunning(Number(pid))) {
      await rm(path.join(target, name), { recursive: true, force: true });
    }
  }
}

/** Where a bundle's files are to be read from. */
export async function currentBundle(target: string): Promise<string> {
  const saved = path.join(target, savedDirectory);
  return (await exists(path.join(saved, manifestFile))) ? saved : target;
}

/**
 * Reads a bundle while others may be saving it: what `read` gives belongs to one bundle, whose files were verified.
 *
 * @throws CheckpointError where the files do not match the manifest
 */
export async function readBundleFiles<T>(target: string, read: (directory: string) => Promise<T>): Promise<T> {
  for (let attempts = READ_ATTEMPTS; ; attempts--) {
    const before = await identity(target);
    try {
      const directory = await currentBundle(target);
      await verifyBundle(directory);
      const result = await read(directory);
      if (attempts === 1 || (await identity(target)) === before) return result;
    } catch (error) {
      if (attempts === 1 || (await identity(target)) === before) throw error;
    }
  }
}

/** Differs when the bundle was replaced in between. */
async function identity(target: string): Promise<string> {
  const manifest = await readManifest(await currentBundle(target)).catch(() => undefined);
  return JSON.stringify([await exists(path.join(target, savedDirectory)), manifest]);
}

async function install(target: string): Promise<void> {
  const saved = path.join(target, savedDirectory);
  const manifest = await readManifest(saved);
  const names = Object.keys(manifest?.files ?? {});
  for (const name of names) await installFile(path.join(saved, name), path.join(target, name));
  for (const name of Object.values(bundleFiles)) {
    if (!names.includes(name)) await rm(path.join(target, name), { force: true });
  }
  await installFile(path.join(saved, manifestFile), path.join(target, manifestFile));
  await syncDirectory(target);
  const trash = path.join(target, `.trash-${process.pid}-${randomBytes(6).toString('hex')}`);
  await rename(saved, trash);
  await rm(trash, { recursive: true, force: true });
}

function isRunning(pid: number): boolean {
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function asSaveError(target: string, error: unknown): unknown {
  if (!(error instanceof Error) || !('syscall' in error)) return error;
  return new TorchBindError(`cannot save the bundle '${target}': ${error.message}`, 'ERR_TORCHBIND_SAVE', {
    cause: error,
  });
}
