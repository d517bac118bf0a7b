import { readdir } from 'node:fs/promises';
import type { CheckpointEntry } from '../checkpoint/entries';
import { CheckpointManager } from '../gpt';
import { HttpError } from './http-error';

/** A training run: a model's directory below the root. */
export interface Run {
  name: string;
  /** Of the current bundle; null where that is not known. */
  step: number | null;
  /** The step that is best by its validation loss. */
  best: number | null;
  /** When the newest checkpoint was saved, ISO 8601; null without a checkpoint. */
  saved: string | null;
  checkpoints: { id: string; kind: string; step: number | null; size: number; saved: string; loss: number | null }[];
}

/** Directories that are looked at. A root with more than this is not one of models. */
const MOST_RUNS = 500;

/** Names of the models below a root, in their order. */
export async function runNames(root: string): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map(({ name }) => name);
  return names.sort().slice(0, MOST_RUNS);
}

export async function listRuns(root: string): Promise<Run[]> {
  const runs: Run[] = [];
  for (const name of await runNames(root)) runs.push(await runOf(root, name));
  return runs;
}

async function runOf(root: string, name: string): Promise<Run> {
  const entries = await checkpointsOf(root, name);
  const best = await new CheckpointManager(name, { root }).best().catch(() => undefined);
  return {
    name,
    step: entries.find(({ kind }) => kind === 'bundle')?.step ?? null,
    best: best?.step ?? null,
    saved: entries[0]?.modified.toISOString() ?? null,
    checkpoints: entries.map(({ kind, step, size, modified, metrics }) => ({
      id: kind === 'step' ? `${name}@${step}` : name,
      kind,
      step,
      size,
      saved: modified.toISOString(),
      loss: metrics.val_loss ?? null,
    })),
  };
}

/** A model's bundles, the newest first; a directory that cannot be read has none. */
export async function checkpointsOf(root: string, name: string): Promise<CheckpointEntry[]> {
  const entries = await new CheckpointManager(name, { root }).list().catch(() => []);
  return entries.filter(({ kind }) => kind === 'bundle' || kind === 'step');
}

/** @throws HttpError 404 */
export async function managerOf(root: string, name: string): Promise<CheckpointManager> {
  if ((await runNames(root)).includes(name)) return new CheckpointManager(name, { root });
  throw new HttpError(404, `The run '${name.slice(0, 100)}' does not exist.`, { code: 'run_not_found' });
}
