import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { CheckpointCode, CheckpointError } from '../errors';
import {
  adoptOwners,
  bundleFiles,
  copyOf,
  exists,
  makeDirectory,
  manifestFile,
  readJson,
  syncDirectory,
  writeJson,
} from './files';
import { listSteps, readManifest, savedDirectory, stepDirectory, writeManifest } from './manifest';
import { digests, examine } from './verdict';

/** What other programs leave in place of a bundle of ours: found, and kept before a save replaces it. */

/** Holds, by number, what was found in place of ours and not understood. */
const replacedDirectory = 'replaced';

/** In `.saved`: SHA-256 of the flat files when it was made, so that what is written over them later is known for new. */
export const digestsFile = 'flat.json';

const flatNames: readonly string[] = [...Object.values(bundleFiles), manifestFile];

/**
 * Copies what is in place of our bundle, and is not ours, before a save replaces it: a newer save of another program to
 * `steps/`, anything else to `replaced/`. A bundle without a manifest is another program's alone, and is replaced.
 *
 * @param keepSteps whether the save keeps bundles under `steps/`
 * @param known contents that need no copy
 * @returns SHA-256 of the files that are there
 */
export async function preserve(
  target: string,
  { keepSteps, known }: { keepSteps: boolean; known?: ReadonlySet<string> },
): Promise<string[]> {
  const found = await examine(target).catch(() => undefined);
  if (found?.verdict === 'whole') {
    const manifest = await digests(target, [manifestFile]);
    return [...Object.values(found.manifest.files).map(({ sha256 }) => sha256), ...manifest.values()];
  }
  const there = await digests(target, flatNames);
  const all = [...there.values()];
  const isKnown = [...there].every(([name, digest]) => name === manifestFile || known?.has(digest) === true);
  const isBundle = [bundleFiles.model, bundleFiles.config].every((name) => there.has(name));
  const isPlain = isBundle && !there.has(manifestFile);
  if (all.length === 0 || isPlain || isKnown) return all;
  const isStep = found?.verdict === 'newer' && keepSteps && (await keepAsStep(target, there));
  if (!isStep && !(await isKept(target, there))) await copyAll(target, await nextReplaced(target), [...there.keys()]);
  return all;
}

/** Makes a step of another program's save; false if it does not say which, or that step is there. */
async function keepAsStep(target: string, there: ReadonlyMap<string, string>): Promise<boolean> {
  const state = await readJson(path.join(target, bundleFiles.trainingState)).catch(() => undefined);
  const step = state?.step;
  if (!Number.isSafeInteger(step) || (step as number) < 0) return false;
  const place = stepDirectory(target, step as number);
  const [newest] = await listSteps(target);
  if (await exists(place)) return false;
  await copyAll(
    target,
    place,
    [...there.keys()].filter((name) => name !== manifestFile),
    (staging, names) =>
      writeManifest(staging, names, {
        step: step as number,
        sequence: (newest?.manifest.sequence ?? 0) + 1,
        metrics: {},
        dropped: [],
      }),
  );
  return true;
}

async function copyAll(
  target: string,
  place: string,
  names: readonly string[],
  finish: (staging: string, names: readonly string[]) => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const staging = path.join(target, `.saving-${randomBytes(6).toString('hex')}`);
  try {
    await mkdir(staging, { mode: 0o700 });
    for (const name of names) await copyOf(path.join(target, name), path.join(staging, name));
    await finish(staging, names);
    await adoptOwners(staging, target);
    await syncDirectory(staging);
    await makeDirectory(path.dirname(place));
    await rename(staging, place);
  } catch (error) {
    await rm(staging, { recursive: true, force: true }).catch(() => undefined);
    throw error;
  }
  await syncDirectory(path.dirname(place));
  await syncDirectory(target);
}

/** Whether the last of those that were kept holds the same. */
async function isKept(target: string, there: ReadonlyMap<string, string>): Promise<boolean> {
  const last = (await replacedNumbers(target)).at(-1);
  if (last === undefined) return false;
  const kept = await digests(placeOf(target, last), flatNames);
  return kept.size === there.size && [...there].every(([name, digest]) => kept.get(name) === digest);
}

/** The next free place under `replaced/`. */
export async function nextReplaced(target: string): Promise<string> {
  await makeDirectory(path.join(target, replacedDirectory));
  return placeOf(target, ((await replacedNumbers(target)).at(-1) ?? 0) + 1);
}

async function replacedNumbers(target: string): Promise<number[]> {
  const names = await readdir(path.join(target, replacedDirectory)).catch(() => []);
  return names
    .filter((name) => /^\d{8,}$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

function placeOf(target: string, number: number): string {
  return path.join(target, replacedDirectory, String(number).padStart(8, '0'));
}

/** Records what the flat files are, in a directory that becomes `.saved`. */
export async function noteFlat(staging: string, flat: readonly string[]): Promise<void> {
  if (flat.length > 0) await writeJson(path.join(staging, digestsFile), flat);
}

/** The contents that flat files have while a save is put in place: those before, and those of the save. */
export async function knownDigests(target: string): Promise<Set<string>> {
  const saved = path.join(target, savedDirectory);
  const listed: unknown = await readJsonList(path.join(saved, digestsFile));
  const known = new Set<string>(Array.isArray(listed) ? listed.map(String) : []);
  for (const directory of [saved, target]) {
    const manifest = await readManifest(directory).catch(() => undefined);
    for (const { sha256 } of Object.values(manifest?.files ?? {})) known.add(sha256);
  }
  for (const digest of (await digests(saved, [manifestFile])).values()) known.add(digest);
  return known;
}

async function readJsonList(file: string): Promise<unknown> {
  return readFile(file, 'utf8').then(JSON.parse, () => undefined);
}

/** Whether another program has saved whole weights over the flat files since `.saved` was made. */
export async function isOverwritten(target: string): Promise<boolean> {
  const [digest] = (await digests(target, [bundleFiles.model])).values();
  if (digest === undefined || (await knownDigests(target)).has(digest)) return false;
  const found = await examine(target).catch(() => undefined);
  return found === undefined || found.verdict === 'newer' || found.verdict === 'weights-only';
}

/** The error for a bundle whose file is not what was saved. */
export function damaged(directory: string, { name, reason }: { name: string; reason: string }): CheckpointError {
  return new CheckpointError(
    `${path.join(directory, name)} is not the file that was saved: ${reason}. The bundle is damaged; if you replaced ` +
      `the file on purpose, delete ${manifestFile} in its directory.`,
    CheckpointCode.checksum,
  );
}
