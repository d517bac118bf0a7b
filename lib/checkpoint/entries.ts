import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { isBundle } from './programs/bundle';
import { parseCheckpointFileName } from './checkpoint-files';
import { bundleFiles, readOptionalJson } from './files';
import { listSteps, type Metrics, readManifest, type StepBundle } from './manifest';

/** A checkpoint of a model. */
export interface CheckpointEntry {
  /** `bundle`: the newest bundle; `step`: a kept bundle; `legacy`: a single file; `sampler`: weights for inference. */
  kind: 'bundle' | 'step' | 'legacy' | 'sampler';
  /** Directory or file. */
  path: string;
  /** Number of optimizer updates made; null if only the contents of the file would tell. */
  step: number | null;
  /** Total size of its files, in bytes. */
  size: number;
  modified: Date;
  /** Metrics that were passed to the save, such as `val_loss`. */
  metrics: Metrics;
}

/** The checkpoints in a model's directory, the newest first. */
export async function listEntries(directory: string, samplerDirectory: string): Promise<CheckpointEntry[]> {
  const entries = [await bundleEntry('bundle', directory), await bundleEntry('sampler', samplerDirectory)];
  for (const step of await listSteps(directory)) entries.push(await stepEntry(step));
  const names = await readdir(directory).catch(() => []);
  const own: readonly string[] = Object.values(bundleFiles);
  for (const name of names.filter((file) => file.endsWith('.pt') && !own.includes(file))) {
    const file = path.join(directory, name);
    const { size, mtime } = await stat(file);
    const step = parseCheckpointFileName(name)?.step ?? null;
    entries.push({ kind: 'legacy', path: file, step, size, modified: mtime, metrics: {} });
  }
  const found = entries.filter((entry) => entry !== undefined);
  return found.sort((a, b) => b.modified.getTime() - a.modified.getTime());
}

async function bundleEntry(kind: 'bundle' | 'sampler', directory: string): Promise<CheckpointEntry | undefined> {
  if (!(await isBundle(directory))) return undefined;
  const state = await readOptionalJson(path.join(directory, bundleFiles.trainingState)).catch(() => undefined);
  const step = typeof state?.step === 'number' ? state.step : null;
  const { metrics = {} } = (await readManifest(directory).catch(() => undefined)) ?? {};
  return { kind, path: directory, step, metrics, ...(await sizeAndTime(directory)) };
}

/** What there is of a bundle that was kept. */
export async function stepEntry({ step, directory, manifest: { metrics } }: StepBundle): Promise<CheckpointEntry> {
  return { kind: 'step', path: directory, step, metrics, ...(await sizeAndTime(directory)) };
}

async function sizeAndTime(directory: string): Promise<{ size: number; modified: Date }> {
  const sizes = await Promise.all(Object.values(bundleFiles).map((name) => sizeOf(path.join(directory, name))));
  const info = await stat(path.join(directory, bundleFiles.model)).catch(() => undefined);
  return { size: sizes.reduce((sum, size) => sum + size, 0), modified: info?.mtime ?? new Date(0) };
}

async function sizeOf(file: string): Promise<number> {
  return stat(file).then(
    ({ size }) => size,
    () => 0,
  );
}
