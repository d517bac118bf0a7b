import { readdir } from 'node:fs/promises';
import path from 'node:path';
import {
  checkFlags,
  checkOptions,
  CheckpointCode,
  CheckpointError,
  type PathLike,
  toPath,
  TorchBindError,
} from '../errors';
import { GPT } from './gpt';
import { dispose } from '../tensor/scope';
import { isBundle } from '../checkpoint/programs/bundle';
import { parseCheckpointFileName } from '../checkpoint/checkpoint-files';
import { bundleFiles, exists } from '../checkpoint/files';
import { legacyFiles } from '../checkpoint/programs/legacy';
import { openModel } from '../checkpoint/open';

/** Options of `convertLegacy`. */
export interface ConvertLegacyOptions {
  /** Replace a bundle that is there already. Default false. */
  overwrite?: boolean;
  /** Read and check everything, write nothing, and say what would be done. Default false. */
  dryRun?: boolean;
}

/** What was done with a single-file checkpoint, or with `dryRun` what would be. */
export interface LegacyConversion {
  /** The old file, which stays as it is. */
  file: string;
  /** The bundle's directory. */
  directory: string;
  /** `convert`, or why not: `skip` if there is a bundle already, `fail` where the file cannot be converted. */
  action: 'convert' | 'skip' | 'fail';
  /** Whether the bundle was written. */
  written: boolean;
  /** Of `skip` and `fail`: why. */
  reason: string | null;
  /** What the file holds; null where it was not opened. */
  holds: LegacyContents | null;
  /** The bundle's files. */
  files: string[];
}

/** What `GPT.loadLegacy` returns. */
export interface LegacyContents {
  /** The form of the file, and the family of its keys, as `GPT.load` tells them. */
  form: string;
  layout: string;
  /** Optimizer updates made; null where the file does not say. */
  step: number | null;
  parameters: number;
  /** Kind of the tokenizer; null without one. */
  tokenizer: string | null;
  /** Whether the optimizer's state is there. */
  optimizer: boolean;
}

/**
 * Converts a single-file checkpoint to a bundle: `latest.pt` and `final.pt` of MyPT, and whatever else `GPT.load` opens as one
 * file. The old file is kept.
 *
 * @param options to: where the bundle goes; default: the file's directory, and of a file named
 *   `checkpoint_{model}_{source}_step{N}_{timestamp}.pt` the directory `{model}_{source}` there
 * @throws ERR_TORCHBIND_EXISTS if there is a bundle already; CheckpointError where the file is not right
 */
export async function convertLegacy(
  target: PathLike,
  options: ConvertLegacyOptions & { to?: PathLike } = {},
): Promise<LegacyConversion> {
  const file = toPath(target, 'convertLegacy');
  checkOptions(options, ['to', 'overwrite', 'dryRun'], 'convertLegacy');
  const { to = defaultTarget(file), overwrite = false, dryRun = false } = options;
  const directory = toPath(to, 'convertLegacy(): to');
  checkFlags({ overwrite, dryRun }, 'convertLegacy');
  if (!overwrite && (await isBundle(directory))) {
    throw new TorchBindError(
      `convertLegacy: ${directory} already holds a bundle. To replace it, pass { overwrite: true }.`,
      'ERR_TORCHBIND_EXISTS',
    );
  }
  const saved = await openModel(file, { device: 'cpu', optimizer: true });
  const { optimizerState, training } = saved;
  let model: GPT | undefined;
  try {
    model = await GPT.fromSaved(saved, { device: 'cpu' });
    if (optimizerState !== null) checkOptimizer(model, optimizerState);
    const state = { optimizerState, ...(training.step === null ? {} : { step: training.step }) };
    if (!dryRun) await model.saveCheckpointBundle(directory, state);
    const holds = {
      form: model.origin!.form,
      layout: model.layout.name,
      step: training.step,
      parameters: model.parameters().reduce((sum, parameter) => sum + parameter.numel(), 0),
      tokenizer: model.tokenizer?.kind ?? null,
      optimizer: optimizerState !== null,
    };
    return { file, directory, action: 'convert', written: !dryRun, reason: null, holds, files: filesFor(holds) };
  } finally {
    model?.dispose();
    dispose(optimizerState);
  }
}

/** Refuses a state that resuming would refuse later. */
function checkOptimizer(model: GPT, state: ReadonlyMap<string, unknown>): void {
  const optimizer = model.resumeOptimizer(state);
  dispose(optimizer.state);
}

function filesFor({ step, tokenizer, optimizer }: LegacyContents): string[] {
  return [
    bundleFiles.model,
    bundleFiles.config,
    ...(tokenizer === null ? [] : [bundleFiles.tokenizer]),
    ...(step === null && !optimizer ? [] : [bundleFiles.trainingState]),
    ...(optimizer ? [bundleFiles.optimizer] : []),
  ];
}

function defaultTarget(file: string): string {
  const name = parseCheckpointFileName(file);
  return name === undefined ? path.dirname(file) : path.join(path.dirname(file), `${name.model}_${name.source}`);
}

/**
 * Converts the single-file checkpoints of all models in a directory, one after the other: of each model's directory
 * `latest.pt`, or else `final.pt`. One that cannot be converted does not keep the others from it.
 *
 * @param from the directory that holds a directory for each model. Default `checkpoints`
 * @param options checkpoint: the name of the file to look for instead
 * @returns what was done with each, by name; models without such a file are left out
 * @throws CheckpointError if the directory does not exist
 */
export async function convertAllLegacy(
  from: PathLike = 'checkpoints',
  options: ConvertLegacyOptions & { checkpoint?: string } = {},
): Promise<LegacyConversion[]> {
  const root = toPath(from, 'convertAllLegacy');
  checkOptions(options, ['checkpoint', 'overwrite', 'dryRun'], 'convertAllLegacy');
  const { checkpoint, ...rest } = options;
  if (checkpoint !== undefined) toPath(checkpoint, 'convertAllLegacy(): checkpoint');
  const found: LegacyConversion[] = [];
  for (const name of await directoriesIn(root)) {
    const directory = path.join(root, name);
    const file = await firstOf(directory, checkpoint === undefined ? legacyFiles.inference : [checkpoint]);
    if (file !== undefined) found.push(await attempt(file, directory, rest));
  }
  return found;
}

async function attempt(file: string, directory: string, options: ConvertLegacyOptions): Promise<LegacyConversion> {
  try {
    return await convertLegacy(file, { ...options, to: directory });
  } catch (error) {
    if (!(error instanceof TorchBindError)) throw error;
    const action = error.code === 'ERR_TORCHBIND_EXISTS' ? 'skip' : 'fail';
    const reason = action === 'skip' ? 'there is a bundle already' : error.message;
    return { file, directory, action, written: false, reason, holds: null, files: [] };
  }
}

async function directoriesIn(root: string): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch((error: Error) => {
    throw new CheckpointError(`cannot open ${root}: ${error.message}`, CheckpointCode.open, { cause: error });
  });
  return entries
    .filter((entry) => !entry.isFile() && !entry.name.startsWith('.'))
    .map(({ name }) => name)
    .sort();
}

async function firstOf(directory: string, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) if (await exists(path.join(directory, name))) return path.join(directory, name);
  return undefined;
}
