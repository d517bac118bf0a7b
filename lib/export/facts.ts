import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { isStepDirectory } from '../checkpoint/manifest';
import type { Origin } from '../checkpoint/saved-model';
import { readSmallFile } from '../formats/files/small-file';
import type { MetricsLine } from '../train';
import { turnTimer } from '../workers/slices';

/** What is known of a model's training. */
export interface TrainingFacts {
  data: string | null;
  steps: number | null;
  tokensSeen: number | null;
  /** The last ones that were measured. */
  loss: number | null;
  trainLoss: number | null;
  valLoss: number | null;
  /** The lowest validation loss. */
  bestValLoss: { loss: number; step: number } | null;
  lines: readonly MetricsLine[];
}

const metricsFile = 'metrics.jsonl';

/** Metrics of longer runs have a hundred bytes a step. */
const maxMetrics = 256 * 2 ** 20;

/** @param metrics the directory with the run's metrics, where the caller says it */
export async function trainingFacts(
  step: number | null,
  origin: Origin | undefined,
  { metrics, data = null }: { metrics?: string | undefined; data?: string | null | undefined },
): Promise<TrainingFacts> {
  const directory = metrics ?? (origin === undefined ? undefined : await directoryOf(origin.path));
  const all = directory === undefined ? [] : await readLines(path.join(directory, metricsFile), metrics !== undefined);
  // A run that was resumed from an earlier step has made the later ones anew.
  const lines = step === null ? all : all.filter((line) => line.step <= step);
  const last = (field: 'loss' | 'train_loss' | 'val_loss' | 'tokens_seen'): number | null =>
    [...lines].reverse().find((line) => isNumber(line[field]))?.[field] ?? null;
  let best: TrainingFacts['bestValLoss'] = null;
  for (const { step, val_loss: loss } of lines)
    if (isNumber(loss) && (best === null || loss < best.loss)) best = { loss, step };
  return {
    data,
    steps: step ?? lines.at(-1)?.step ?? null,
    tokensSeen: last('tokens_seen'),
    loss: last('loss'),
    trainLoss: last('train_loss'),
    valLoss: last('val_loss'),
    bestValLoss: best,
    lines,
  };
}

/** Where a bundle's metrics are: those of one under `steps/` are those of the run. */
async function directoryOf(place: string): Promise<string> {
  const info = await stat(place).catch(() => undefined);
  const directory = path.resolve(info?.isDirectory() === true ? place : path.dirname(place));
  return isStepDirectory(directory) ? path.dirname(path.dirname(directory)) : directory;
}

async function readLines(file: string, isRequired: boolean): Promise<MetricsLine[]> {
  if (!isRequired && (await stat(file).catch(() => undefined))?.isFile() !== true) return [];
  const text = (await readSmallFile(file, maxMetrics)).toString('utf8');
  const lines: MetricsLine[] = [];
  const turn = turnTimer();
  for (const line of text.split('\n')) {
    await turn();
    try {
      const value = JSON.parse(line) as MetricsLine | null;
      if (Number.isSafeInteger(value?.step)) lines.push(value!);
    } catch {
      continue; // the last line of a run that was killed
    }
  }
  return lines;
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** Bytes of what a model was opened from: a file, or the files of a directory; null where that is not known any more. */
export async function checkpointSize(origin: Origin | undefined): Promise<number | null> {
  if (origin === undefined) return null;
  const info = await stat(origin.path).catch(() => undefined);
  if (info?.isDirectory() !== true) return info?.size ?? null;
  const entries = await readdir(origin.path, { withFileTypes: true });
  const sizes = entries.map(async (entry) =>
    entry.isDirectory() ? 0 : (await stat(path.join(origin.path, entry.name))).size,
  );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
