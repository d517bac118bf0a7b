import { createHash } from 'node:crypto';
import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { checkArgument, CheckpointCode, CheckpointError, describe } from '../errors';
import { bundleFiles, exists, manifestFile, readJson, specialFileAt, writeJson } from './files';

const formatVersion = 1;

export interface FileRecord {
  size: number;
  sha256: string;
}

/** Metrics of a bundle, such as `val_loss`. */
export type Metrics = Record<string, number>;

/** Refuses a metric that is not a number, by name. */
export function checkMetrics(metrics: unknown): void {
  const isPlain = typeof metrics === 'object' && metrics !== null && !Array.isArray(metrics);
  checkArgument(isPlain, 'an object of numbers', metrics, 'metrics');
  for (const [name, value] of Object.entries(metrics as object))
    checkArgument(typeof value === 'number', `a number for '${name}'`, value, 'metrics');
}

/** Facts of a save. */
export interface BundleFacts {
  /** Number of optimizer updates made; null if the bundle holds no training state. */
  step: number | null;
  /**
   * Counts the saves of a directory, so that the newest is known whatever its time and step; null for a bundle that is
   * not kept under `steps/`.
   */
  sequence: number | null;
  metrics: Metrics;
  /** Files of the bundle that retention removed. */
  dropped: string[];
}

/** The contents of `manifest.json`. */
export interface Manifest extends BundleFacts {
  format_version: number;
  /** When it was written, ISO 8601; null in older ones. */
  saved_at: string | null;
  /** Every file of the bundle but the manifest, by name. */
  files: Record<string, FileRecord>;
}

/** Writes the manifest of the files in a directory: the last thing to be written. */
export async function writeManifest(directory: string, names: readonly string[], facts: BundleFacts): Promise<void> {
  const files: Record<string, FileRecord> = {};
  for (const name of names) files[name] = await recordOf(path.join(directory, name));
  const { step, sequence, metrics, dropped } = facts;
  const savedAt = new Date().toISOString();
  const manifest: Manifest = {
    format_version: formatVersion,
    step,
    sequence,
    saved_at: savedAt,
    metrics,
    files,
    dropped,
  };
  await writeJson(path.join(directory, manifestFile), manifest);
}

/** The manifest of a directory; undefined without one. */
export async function readManifest(directory: string): Promise<Manifest | undefined> {
  const file = path.join(directory, manifestFile);
  if (!(await exists(file))) return undefined;
  const { format_version: version, step, sequence, saved_at: savedAt, metrics, files, dropped } = await readJson(file);
  if (version !== formatVersion) {
    throw refuse(file, `format_version is ${describe(version)}, this version of torchbind reads ${formatVersion}`);
  }
  if (typeof files !== 'object' || files === null || !Object.entries(files).every(isRecord)) {
    throw refuse(file, 'files must give size and sha256 of each file by its plain name');
  }
  return {
    format_version: version,
    step: typeof step === 'number' ? step : null,
    sequence: typeof sequence === 'number' ? sequence : null,
    saved_at: typeof savedAt === 'string' ? savedAt : null,
    metrics: numbersOf(metrics),
    files: files as Manifest['files'],
    dropped: Array.isArray(dropped) ? dropped.filter((name): name is string => typeof name === 'string') : [],
  };
}

function isRecord([name, value]: [string, unknown]): boolean {
  const { size, sha256 } = (value ?? {}) as Partial<Record<keyof FileRecord, unknown>>;
  return path.basename(name) === name && Number.isSafeInteger(size) && /^[0-9a-f]{64}$/.test(String(sha256));
}

function numbersOf(value: unknown): Metrics {
  const entries = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  return Object.fromEntries(entries.filter((entry): entry is [string, number] => typeof entry[1] === 'number'));
}

/** The first file that differs from the manifest, and how; undefined if none does. */
export async function firstDifference(
  directory: string,
  manifest: Manifest,
): Promise<{ name: string; reason: string } | undefined> {
  for (const [name, expected] of Object.entries(manifest.files)) {
    const reason = await differenceOf(path.join(directory, name), expected);
    if (reason !== undefined) return { name, reason };
  }
  return undefined;
}

/** All files that differ from the manifest; with `hash` false only sizes are compared. */
export async function differences(
  directory: string,
  { files }: Manifest,
  hash: boolean,
): Promise<{ name: string; reason: string }[]> {
  const found: { name: string; reason: string }[] = [];
  for (const [name, expected] of Object.entries(files)) {
    const reason = await differenceOf(path.join(directory, name), expected, hash);
    if (reason !== undefined) found.push({ name, reason });
  }
  return found;
}

async function differenceOf(file: string, expected: FileRecord, hash = true): Promise<string | undefined> {
  const info = await stat(file).catch(() => undefined);
  if (info === undefined) return 'it is missing';
  const special = await specialFileAt(file);
  if (special !== undefined) return `it is ${special}`;
  if (info.size !== expected.size) return `it has ${info.size} bytes, ${manifestFile} says ${expected.size}`;
  if (!hash) return undefined;
  const { sha256 } = await recordOf(file);
  if (sha256 !== expected.sha256) return `its SHA-256 is ${sha256}, ${manifestFile} says ${expected.sha256}`;
  return undefined;
}

/**
 * Size and SHA-256 of a file.
 *
 * @throws CheckpointError for what is not a regular file
 */
export async function recordOf(file: string): Promise<FileRecord> {
  const special = await specialFileAt(file);
  if (special !== undefined)
    throw new CheckpointError(`${file}: expected a regular file, got ${special}`, CheckpointCode.open);
  const hash = createHash('sha256');
  // One buffer for all: a stream's chunks of a large file are garbage to collect.
  const buffer = Buffer.allocUnsafe(1 << 20);
  let size = 0;
  const handle = await open(file);
  try {
    for (;;) {
      const { bytesRead } = await handle.read(buffer);
      if (bytesRead === 0) return { size, sha256: hash.digest('hex') };
      hash.update(buffer.subarray(0, bytesRead));
      size += bytesRead;
    }
  } finally {
    await handle.close();
  }
}

function refuse(file: string, reason: string): CheckpointError {
  return new CheckpointError(`${file}: ${reason}`, CheckpointCode.format);
}

/** Directory of complete bundles by step, which never change. */
export const stepsDirectory = 'steps';

/** A complete save that has not been moved to its place yet. */
export const savedDirectory = '.saved';

/** A kept bundle. */
export interface StepBundle {
  step: number;
  directory: string;
  manifest: Manifest;
  /** Whether the bundle still has the optimizer's state. */
  hasOptimizer: boolean;
}

/** `steps/00001000`: eight digits, so that names sort as numbers do. */
export function stepDirectory(target: string, step: number): string {
  return path.join(target, stepsDirectory, String(step).padStart(8, '0'));
}

/** Whether a directory is one of a step. */
export function isStepDirectory(directory: string): boolean {
  return path.basename(path.dirname(directory)) === stepsDirectory;
}

/** The kept bundles, the one saved last first. Directories without a readable manifest are skipped. */
export async function listSteps(target: string): Promise<StepBundle[]> {
  const names = await readdir(path.join(target, stepsDirectory)).catch(() => []);
  const bundles = await Promise.all(
    names.filter((name) => /^\d{8,}$/.test(name)).map((name) => readStep(target, name)),
  );
  return bundles
    .filter((bundle) => bundle !== undefined)
    .sort((a, b) => b.manifest.sequence! - a.manifest.sequence! || b.step - a.step);
}

async function readStep(target: string, name: string): Promise<StepBundle | undefined> {
  const directory = path.join(target, stepsDirectory, name);
  const manifest = await readManifest(directory).catch(() => undefined);
  if (manifest?.step !== Number(name) || manifest.sequence === null) return undefined;
  return { step: manifest.step, directory, manifest, hasOptimizer: bundleFiles.optimizer in manifest.files };
}
