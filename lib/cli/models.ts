import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { resolveCheckpoint } from '../checkpoint';
import { closest } from '../errors';
import { CheckpointManager } from '../gpt';
import { isHubReference } from '../hub/reference';
import { usageError } from './errors';

/** Flags that say which model is meant. */
export interface ModelFlags {
  modelName?: string;
  checkpointDir: string;
  checkpointPath?: string;
  legacyCheckpoint?: string;
  step?: number;
}

/**
 * The file or directory of the model that is meant: a path, in which `*` may stand for parts of a checkpoint's name; or the name of a model below the checkpoint directory, `name@500` for a step that is kept of it.
 */
export async function findModel(reference: string | undefined, flags: ModelFlags): Promise<string> {
  const { modelName, checkpointPath, checkpointDir, legacyCheckpoint } = flags;
  if (reference !== undefined && modelName !== undefined) {
    throw usageError(`Two models are named: '${reference}', and --model-name ${modelName}. Name one.`);
  }
  const named = reference ?? modelName;
  if (named === undefined) {
    if (checkpointPath !== undefined) return resolveCheckpoint(checkpointPath);
    throw usageError('Expected a model: a name, such as --model-name dante, or the path of a file or directory.');
  }
  if (isHubReference(named)) return named;
  if (legacyCheckpoint !== undefined) return path.join(checkpointDir, named, legacyCheckpoint);
  if (modelName === undefined && (await isThere(named))) return named;
  if (named.includes('*')) return resolveCheckpoint(named);
  const [name, step = flags.step] = splitStep(named);
  const directory = path.join(checkpointDir, name);
  if (!(await isThere(directory))) throw await noSuchModel(named, name, checkpointDir);
  return step === undefined ? directory : keptStep(name, checkpointDir, step);
}

/** `dante@500` as its parts. */
function splitStep(named: string): [name: string, step?: number] {
  const [, name, step] = /^(.+)@(\d+)$/.exec(named) ?? [];
  return name === undefined ? [named] : [name, Number(step)];
}

async function keptStep(name: string, root: string, step: number): Promise<string> {
  const kept = (await new CheckpointManager(name, { root }).list()).filter(({ kind }) => kind === 'step');
  const found = kept.find((entry) => entry.step === step);
  if (found !== undefined) return found.path;
  const steps = kept.map((entry) => entry.step).join(', ');
  throw usageError(`The model '${name}' has no bundle of step ${step}. Its steps: ${steps || 'none'}.`);
}

async function noSuchModel(named: string, name: string, root: string): Promise<Error> {
  const models = await modelNames(root);
  const near = closest(name, models);
  const hint = near === undefined ? `Models there: ${models.join(', ') || 'none'}.` : `Did you mean '${near}'?`;
  return usageError(`Found no file or directory ${named}, and no model '${name}' in ${root}. ${hint}`);
}

/** Names of the directories that hold a model. */
export async function modelNames(root: string): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map(({ name }) => name);
}

async function isThere(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
