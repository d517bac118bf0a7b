import path from 'node:path';
import { describe, TorchBindError } from '../errors';
import { CheckpointCode, CheckpointError } from '../formats/errors';
import { load, save } from '../formats/pt';
import { configFromJson, configToJson, type GPTConfig } from '../models/config';
import type { GPTModel } from '../models/gpt';
import { dispose } from '../tensor/scope';
import { type Tokenizer, tokenizerFromJson } from '../tokenizers';
import { commitBundle, currentBundle, readBundleFiles } from './commit';
import { bundleFiles, exists, type JsonObject, linkOrCopy, readJson, readOptionalJson, writeJson } from './files';
import { type Metrics, readManifest } from './integrity';
import type { KeepOptions } from './retention';
import { listSteps } from './steps';

/** What `training_state.json` holds. */
export interface TrainingState {
  /** Optimizer updates made, which is the index of the next one. */
  step: number | null;
  /** Name of the file with the optimizer's state; null where there is none. */
  optimizerFile: string | null;
  /** Fields that say nothing to this library: kept, and written back. */
  extra: JsonObject;
}

/** What a model's files hold. */
export interface SavedModel {
  config: GPTConfig;
  tokenizer: Tokenizer | null;
  /** State dict, in the keys of the program that wrote it. */
  weights: Map<string, unknown>;
  training: TrainingState;
  /** State dict of the optimizer, as the program that wrote it has it; null where there is none, or none was asked for. */
  optimizerState: Map<string, unknown> | null;
}

export interface ReadOptions {
  device: string;
  /** Read the optimizer's state as well. */
  optimizer: boolean;
}

const noTraining: TrainingState = { step: null, optimizerFile: null, extra: {} };

/** Whether a directory holds a bundle, weights and the config to make a model for them, or one that was kept. */
export async function isBundle(directory: string): Promise<boolean> {
  const current = await currentBundle(directory);
  const needed = [bundleFiles.model, bundleFiles.config].map((name) => exists(path.join(current, name)));
  return (await Promise.all(needed)).every(Boolean) || (await listSteps(directory)).length > 0;
}

/**
 * Reads a bundle. Where there is a manifest, the files must match it.
 *
 * @throws CheckpointError naming the file that is missing or not right
 */
export function readBundle(directory: string, options: ReadOptions): Promise<SavedModel> {
  return readBundleFiles(directory, (current) => readFiles(current, bundleFiles.model, options));
}

/** Reads a file of weights, and the config and the tokenizer beside it. */
export function readWeightsFile(file: string, options: ReadOptions): Promise<SavedModel> {
  return readFiles(path.dirname(file), path.basename(file), options);
}

async function readFiles(directory: string, weightsFile: string, options: ReadOptions): Promise<SavedModel> {
  const at = (name: string): string => path.join(directory, name);
  const config = inFile(at(bundleFiles.config), configFromJson, await readJson(at(bundleFiles.config)));
  const tokenizerJson = await readOptionalJson(at(bundleFiles.tokenizer));
  const tokenizer = tokenizerJson === undefined ? null : tokenizerFromJson(tokenizerJson, at(bundleFiles.tokenizer));
  const training = await readTrainingState(at(bundleFiles.trainingState));
  const weights = weightsOf(at(weightsFile), await load(at(weightsFile), { device: options.device }));
  const optimizerState =
    options.optimizer && training.optimizerFile !== null && !(await wasDropped(directory, training.optimizerFile))
      ? mapIn(
          at(training.optimizerFile),
          await load(at(training.optimizerFile), { device: options.device, exact: true }),
        )
      : null;
  return { config, tokenizer, weights, training, optimizerState };
}

/** Whether retention took the file away: then it is not missing. */
async function wasDropped(directory: string, name: string): Promise<boolean> {
  const manifest = await readManifest(directory).catch(() => undefined);
  return manifest?.dropped.includes(name) === true && !(await exists(path.join(directory, name)));
}

async function readTrainingState(file: string): Promise<TrainingState> {
  const json = await readOptionalJson(file);
  if (json === undefined) return noTraining;
  const { step = null, optimizer_file: optimizerFile = null, ...extra } = json;
  if (step !== null && !(Number.isSafeInteger(step) && (step as number) >= 0)) {
    throw wrong(file, `step must be an integer of at least 0, got ${describe(step)}`);
  }
  if (optimizerFile !== null && (typeof optimizerFile !== 'string' || path.basename(optimizerFile) !== optimizerFile)) {
    throw wrong(file, `optimizer_file must be the name of a file beside it, got ${describe(optimizerFile)}`);
  }
  return { step: step as number | null, optimizerFile, extra };
}

/** The state dict in a file of weights, which may lie in a dict with notes on dtypes. */
function weightsOf(file: string, value: unknown): Map<string, unknown> {
  const outer = mapIn(file, value);
  if (outer.get('state_dict') instanceof Map) return outer.get('state_dict') as Map<string, unknown>;
  if (!outer.has('model_state_dict')) return outer;
  throw wrong(file, 'it is a single-file checkpoint with config and optimizer inside: read it with GPT.loadLegacy()');
}

/** The dict that a file must hold. */
export function mapIn(file: string, value: unknown): Map<string, unknown> {
  if (value instanceof Map) return value as Map<string, unknown>;
  throw wrong(file, `expected a dict, got ${describe(value)}`);
}

/** Runs a reader of JSON whose errors should name the file. */
export function inFile<T>(file: string, read: (json: unknown) => T, json: unknown): T {
  try {
    return read(json);
  } catch (error) {
    if (error instanceof TorchBindError)
      throw new TorchBindError(`${file}: ${error.message}`, error.code, { cause: error });
    throw error;
  }
}

/** What to write beside weights, config and tokenizer. */
export interface TrainingToWrite {
  step: number | null;
  /** In the layout's form, as `model.optimizerStateDict(optimizer)` gives it. */
  optimizerState: ReadonlyMap<string, unknown> | null;
  extra: JsonObject;
  /** Which bundles to keep under `steps/`; null to keep none, this one included. */
  keep: KeepOptions | null;
  metrics: Metrics;
}

/** Replaces the bundle in a directory by one of this model. */
export function writeBundle(directory: string, model: GPTModel, training: TrainingToWrite): Promise<void> {
  const { step, keep, metrics } = training;
  return commitBundle(directory, {
    step,
    keep,
    metrics,
    write: async (staging) => {
      await writeModel(staging, model);
      if (training.optimizerState !== null) {
        await save(training.optimizerState, path.join(staging, bundleFiles.optimizer));
      }
      const state = trainingJson(training);
      if (state !== undefined) await writeJson(path.join(staging, bundleFiles.trainingState), state);
    },
  });
}

/** Replaces weights, config and tokenizer of the bundle in a directory; what it holds of training stays as it is. */
export async function writeWeights(directory: string, model: GPTModel): Promise<void> {
  const state = path.join(await currentBundle(directory), bundleFiles.trainingState);
  const { step, optimizerFile } = await readTrainingState(state);
  await commitBundle(directory, {
    step,
    keep: null,
    write: async (staging) => {
      await writeModel(staging, model);
      for (const name of [bundleFiles.trainingState, optimizerFile]) {
        if (name === null || !(await exists(path.join(directory, name)))) continue;
        await linkOrCopy(path.join(directory, name), path.join(staging, name));
      }
    },
  });
}

async function writeModel(directory: string, model: GPTModel): Promise<void> {
  const weights = model.stateDict();
  try {
    await save(weights, path.join(directory, bundleFiles.model));
  } finally {
    dispose(weights);
  }
  await writeJson(path.join(directory, bundleFiles.config), configToJson(model.config));
  if (model.tokenizer !== null) {
    await writeJson(path.join(directory, bundleFiles.tokenizer), model.tokenizer.toJson());
  }
}

/** As the Python programs write it: each field only where there is something to say. */
function trainingJson({ step, optimizerState, extra }: TrainingToWrite): JsonObject | undefined {
  const fields = {
    ...(step === null ? {} : { step }),
    ...(optimizerState === null ? {} : { optimizer_file: bundleFiles.optimizer }),
    ...extra,
  };
  return Object.keys(fields).length === 0 ? undefined : fields;
}

function wrong(file: string, reason: string): CheckpointError {
  return new CheckpointError(`${file}: ${reason}`, CheckpointCode.format);
}
