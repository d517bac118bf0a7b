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
  /** Replace an existing bundle. Default false. */
  overwrite?: boolean;
  /** Read and check everything, report what would be done, and write nothing. Default false. */
  dryRun?: boolean;
}

/** Result of converting a single-file checkpoint; with `dryRun`, what would be done. */
export interface LegacyConversion {
  /** The old file, which does not change. */
  file: string;
  /** The bundle's directory. */
  directory: string;
  /** `convert`; `skip` if a bundle exists already; `fail` if the file cannot be converted. */
  action: 'convert' | 'skip' | 'fail';
  /** Whether the bundle was written. */
  written: boolean;
  /** Why it was skipped or failed; null otherwise. */
  reason: string | null;
  /** Contents of the file; null if it was not opened. */
  holds: LegacyContents | null;
  /** The bundle's files. */
  files: string[];
}

/** Contents of a single-file checkpoint, as `convertLegacy` found them. */
export interface LegacyContents {
  /** Form of the file and family of its keys, as in `GPT.origin`. */
  form: string;
  layout: string;
  /** Number of optimizer updates made; null if the file does not say. */
  step: number | null;
  parameters: number;
  /** Kind of the tokenizer; null without one. */
  tokenizer: string | null;
  /** Whether the file holds the optimizer's state. */
  optimizer: boolean;
}

/**
 * Converts a single-file checkpoint to a bundle: `latest.pt` and `final.pt` of MyPT, and every other single file that
 * `GPT.load` opens. The old file stays.
 *
 * @param options `to`: directory of the bundle. Default: the file's directory; for a file named
 *   `checkpoint_{model}_{source}_step{N}_{timestamp}.pt` the subdirectory `{model}_{source}`
 * @throws ERR_TORCHBIND_EXISTS if a bundle exists already; CheckpointError if the file is invalid
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

/** Refuses an optimizer state from which training could not resume. */
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
 * Converts the single-file checkpoints of all models in a directory, one after the other: `latest.pt` in each model's
 * directory, or else `final.pt`. A failure does not stop the others.
 *
 * @param from the parent directory of the models. Default `checkpoints`
 * @param options `checkpoint`: the file name to search instead
 * @returns one result for each model with such a file, sorted by name
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
    const reason = action === 'skip' ? 'a bundle already exists' : error.message;
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
