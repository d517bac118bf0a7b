import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { checkArgument, CheckpointCode, CheckpointError, TorchBindError } from '../errors';
import {
  adoptOwners,
  bundleFiles,
  copyOf,
  exists,
  installFile,
  linkOrCopy,
  makeDirectory,
  manifestFile,
  specialFileAt,
  syncDirectory,
} from './files';
import {
  firstDifference,
  listSteps,
  type Manifest,
  type Metrics,
  readManifest,
  type StepBundle,
  stepDirectory,
  stepsDirectory,
  writeManifest,
  savedDirectory,
} from './manifest';
import { damaged, digestsFile, isOverwritten, knownDigests, nextReplaced, preserve, noteFlat } from './replaced';
import { discard, type KeepOptions, keepRules, prune, trashPrefix } from './retention';
import { lockWriter } from './writer-lock';

/**
 * How a bundle is replaced so that a crash at any moment leaves the old one or the new one, complete:
 *
 * 1. All files are written and synced in `.saving-<random>/`, the manifest last.
 * 2. What another program left in place of the bundle before is copied to `steps/` or `replaced/`.
 * 3. The new directory is renamed to `.saved`: from here on the new bundle is the one that counts.
 * 4. Its files are copied over the flat ones, and `.saved` is renamed to `steps/<step>`, where it stays until retention
 *    removes it. The files of a bundle that is not kept are linked, and `.saved` removed.
 *
 * Whoever finds `.saved` reads from there: the flat files may be a mixture. Only if another program has saved over them since,
 * they are newer.
 */
const stagingPrefix = '.saving-';

/** A reader begins again when the bundle was replaced meanwhile; saves that follow each other closely do so repeatedly. */
const READ_ATTEMPTS = 25;

/** What to put in a bundle. */
export interface BundleWriter {
  /** Writes the bundle's files into an empty directory, each synced. */
  write(directory: string): Promise<void>;
  step: number | null;
  /** Which bundles to keep under `steps/`, this one first; null to put nothing there. */
  keep: KeepOptions | null;
  metrics?: Metrics;
}

const work = new Map<string, Promise<unknown>>();

/**
 * Changes a directory, after the changes to it that this thread began before. Nobody but the owner writes there meanwhile: see
 * `lockWriter`.
 */
function exclusively<T>(directory: string, owner: object, change: (target: string) => Promise<T>): Promise<T> {
  const target = path.resolve(directory);
  const previous = work.get(target) ?? Promise.resolve();
  const result = previous
    .catch(() => undefined)
    .then(async () => {
      await makeDirectory(target);
      const unlock = await lockWriter(target, owner);
      try {
        return await change(target);
      } finally {
        unlock();
      }
    });
  work.set(target, result);
  const forget = (): void => {
    if (work.get(target) === result) work.delete(target);
  };
  result.then(forget, forget);
  return result;
}

/** Keeps all but the owner from writing to a directory, until the function that this gives is called. */
export function lockDirectory(directory: string, owner: object): Promise<() => void> {
  return exclusively(directory, owner, (target) => lockWriter(target, owner));
}

/**
 * Replaces the bundle in a directory. Saves of one directory wait for each other.
 *
 * @param owner whose bundle it is; while a model is trained into the directory, nobody else saves there
 * @param writer or what makes it, for one that depends on the bundle which is there when its turn comes
 * @throws ERR_TORCHBIND_SAVE where a file cannot be written, ERR_TORCHBIND_LOCKED if another process or run writes there; the
 *   old bundle then stands
 */
export async function commitBundle(
  directory: string,
  owner: object,
  writer: BundleWriter | (() => Promise<BundleWriter>),
): Promise<void> {
  try {
    await exclusively(directory, owner, async (target) => {
      await begin(target);
      await replaceBundle(target, typeof writer === 'function' ? await writer() : writer);
    });
  } catch (error) {
    throw asSaveError(directory, error);
  }
}

/** @throws CheckpointError where something else than a file has the name of one: what is not a file is never replaced */
async function begin(target: string): Promise<void> {
  for (const name of [...Object.values(bundleFiles), manifestFile]) {
    const special = await specialFileAt(path.join(target, name));
    if (special === undefined) continue;
    throw new CheckpointError(
      `expected a file or nothing at ${path.join(target, name)}, got ${special}. Remove it, or save to another directory.`,
      CheckpointCode.open,
    );
  }
  await recover(target);
}

async function replaceBundle(target: string, writer: BundleWriter): Promise<void> {
  const { step, keep, metrics = {} } = writer;
  const rules = keep === null || step === null ? null : keepRules(keep);
  await stage(target, async (staging) => {
    await writer.write(staging);
    const names = await readdir(staging);
    const flat = await preserve(target, { keepSteps: rules !== null });
    const sequence = rules === null ? null : await nextSequence(target);
    await writeManifest(staging, names, { step, sequence, metrics, dropped: [] });
    await noteFlat(staging, flat);
  });
  await install(target);
  if (rules !== null) await prune(target, rules);
}

/** Fills a directory aside and makes it the one that counts, or removes it. */
async function stage(target: string, fill: (staging: string) => Promise<void>): Promise<void> {
  const staging = path.join(target, `${stagingPrefix}${randomBytes(6).toString('hex')}`);
  try {
    await mkdir(staging, { mode: 0o700 });
    await fill(staging);
    await adoptOwners(staging, target);
    await syncDirectory(staging);
    await rename(staging, path.join(target, savedDirectory));
  } catch (error) {
    await rm(staging, { recursive: true, force: true }).catch(() => undefined);
    throw error;
  }
  await syncDirectory(target);
}

async function nextSequence(target: string): Promise<number> {
  const [newest] = await listSteps(target);
  return (newest?.manifest.sequence ?? 0) + 1;
}

async function install(target: string): Promise<void> {
  const saved = path.join(target, savedDirectory);
  const manifest = (await readManifest(saved))!;
  const put = manifest.sequence === null ? linkOrCopy : copyOf;
  const names = Object.keys(manifest.files);
  for (const name of names) await installFile(path.join(saved, name), path.join(target, name), put);
  for (const name of Object.values(bundleFiles)) {
    if (!names.includes(name)) await rm(path.join(target, name), { force: true });
  }
  await installFile(path.join(saved, manifestFile), path.join(target, manifestFile), put);
  await syncDirectory(target);
  await rm(path.join(saved, digestsFile), { force: true });
  await putAway(target, saved, manifest);
}

async function putAway(target: string, saved: string, { step, sequence }: Manifest): Promise<void> {
  if (step === null || sequence === null) return discard(target, saved);
  const place = stepDirectory(target, step);
  await makeDirectory(path.dirname(place));
  if (await exists(place)) await discard(target, place);
  await rename(saved, place);
  await syncDirectory(path.dirname(place));
  await syncDirectory(target);
}

/**
 * Finishes a save that a crash cut short after it counted, and removes what was left unfinished.
 *
 * @throws ERR_TORCHBIND_LOCKED if another process or run writes there
 */
export async function recoverBundle(directory: string): Promise<void> {
  if ((await leftovers(directory)).length > 0 || (await sharedFiles(directory)).length > 0)
    await exclusively(directory, {}, recover);
}

/** Call only while holding the writer lock: leftovers then belong to no live process. */
async function recover(target: string): Promise<void> {
  const saved = path.join(target, savedDirectory);
  if (await exists(saved)) {
    if (!(await isWhole(saved))) await discard(target, saved);
    else if (await isOverwritten(target)) await putBehind(target, saved);
    else {
      await preserve(target, { keepSteps: false, known: await knownDigests(target) });
      await install(target);
    }
  }
  for (const name of await leftovers(target)) await rm(path.join(target, name), { recursive: true, force: true });
  // Versions before this one linked the flat files and those of a step, which programs that write in place then spoil.
  for (const name of await sharedFiles(target))
    await installFile(path.join(target, name), path.join(target, name), copyOf);
}

/** The flat files have become another program's newer save: the bundle that was to replace them goes behind them. */
async function putBehind(target: string, saved: string): Promise<void> {
  const manifest = (await readManifest(saved))!;
  await rm(path.join(saved, digestsFile), { force: true });
  if (manifest.step !== null && manifest.sequence !== null) return putAway(target, saved, manifest);
  await rename(saved, await nextReplaced(target));
  await syncDirectory(target);
}

async function leftovers(target: string): Promise<string[]> {
  const names = await readdir(target).catch(() => []);
  return names.filter(
    (name) => name === savedDirectory || name.startsWith(stagingPrefix) || name.startsWith(trashPrefix),
  );
}

/** Flat files that have a second name. */
async function sharedFiles(target: string): Promise<string[]> {
  const names = [...Object.values(bundleFiles), manifestFile];
  const links = await Promise.all(
    names.map((name) =>
      stat(path.join(target, name)).then(
        ({ nlink }) => nlink,
        () => 0,
      ),
    ),
  );
  return names.filter((_, i) => links[i]! > 1);
}

async function isWhole(directory: string): Promise<boolean> {
  const manifest = await readManifest(directory).catch(() => undefined);
  return manifest !== undefined && (await firstDifference(directory, manifest)) === undefined;
}

/** Whether a save has put its bundle there that counts, and has not moved it to its place yet. */
export async function isSaved(target: string, names: { has(name: string): boolean }): Promise<boolean> {
  return names.has(savedDirectory) && (await exists(path.join(target, savedDirectory, manifestFile)));
}

/** The directories that may hold a bundle's files, the newest first. */
export async function bundleDirectories(target: string): Promise<string[]> {
  const saved = path.join(target, savedDirectory);
  const steps = (await listSteps(target)).map(({ directory }) => directory);
  if (!(await exists(path.join(saved, manifestFile)))) return [target, ...steps];
  if (await isOverwritten(target)) return [target, saved, ...steps];
  // With `.saved` there, the flat files are the bundle before only if its manifest says so.
  return [saved, ...((await isWhole(target)) ? [target] : []), ...steps];
}

/** What `read` gives, or throws, where the bundle was not replaced while it read. */
export async function ofOneBundle<T>(target: string, read: () => Promise<T>): Promise<T> {
  for (let attempts = READ_ATTEMPTS; ; attempts--) {
    const before = await identity(target);
    const isFinal = async (): Promise<boolean> => attempts === 1 || (await identity(target)) === before;
    try {
      const result = await read();
      if (await isFinal()) return result;
    } catch (error) {
      if (await isFinal()) throw error;
    }
  }
}

/** Differs when the bundle was replaced in between. */
async function identity(target: string): Promise<string> {
  const saved = path.join(target, savedDirectory);
  const current = (await exists(path.join(saved, manifestFile))) ? saved : target;
  const manifest = await readManifest(current).catch(() => undefined);
  return JSON.stringify([await exists(saved), manifest]);
}

/**
 * Makes the bundle of a step the current one again, and removes those that were saved after it.
 *
 * @throws CheckpointError if that step has no bundle, or it is damaged
 */
export async function rollbackBundle(directory: string, step: number): Promise<void> {
  if (!(await exists(directory))) refuseStep(directory, step, []); // locking would make it
  await exclusively(directory, {}, async (target) => {
    await begin(target);
    const steps = await listSteps(target);
    const wanted = steps.find((bundle) => bundle.step === step) ?? refuseStep(target, step, steps);
    const difference = await firstDifference(wanted.directory, wanted.manifest);
    if (difference !== undefined) throw damaged(wanted.directory, difference);
    await stage(target, async (staging) => {
      for (const name of Object.keys(wanted.manifest.files)) {
        await copyOf(path.join(wanted.directory, name), path.join(staging, name));
      }
      const names = await readdir(staging);
      const flat = await preserve(target, { keepSteps: true });
      const sequence = await nextSequence(target);
      await writeManifest(staging, names, { ...wanted.manifest, sequence });
      await noteFlat(staging, flat);
    });
    await install(target);
    const later = steps.filter(({ manifest }) => manifest.sequence! > wanted.manifest.sequence!);
    for (const bundle of later) await discard(target, bundle.directory);
  });
}

/** @throws CheckpointError that says which steps there are */
export function refuseStep(directory: string, step: number, steps: readonly StepBundle[]): never {
  checkArgument(Number.isSafeInteger(step), 'a step, an integer,', step, 'CheckpointManager');
  const there = steps.map((bundle) => bundle.step).sort((a, b) => a - b);
  throw new CheckpointError(
    `${path.join(directory, stepsDirectory)} holds no bundle of step ${step}. ` +
      (there.length === 0 ? 'It holds none at all.' : `Its steps are ${there.join(', ')}.`),
    CheckpointCode.open,
  );
}

function asSaveError(target: string, error: unknown): unknown {
  // Files that were just written and cannot be read back are a save that failed, too.
  if (!(error instanceof CheckpointError) && !(error instanceof Error && 'syscall' in error)) return error;
  return new TorchBindError(`cannot save the bundle '${target}': ${error.message}`, 'ERR_TORCHBIND_SAVE', {
    cause: error,
  });
}
