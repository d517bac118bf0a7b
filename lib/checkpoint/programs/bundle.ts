import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError, withPath } from '../../errors';
import { load, save } from '../../formats/pt';
import { configToJson } from '../../models/config';
import type { GPTModel } from '../../models/gpt-model';
import { recogniseAdapted } from '../../models/layouts';
import { fromTypedArray } from '../../tensor/creation';
import { dispose } from '../../tensor/scope';
import { Tensor } from '../../tensor/tensor';
import { loadTokenizer } from '../../tokenizers';
import { adapterFields } from '../adapters';
import { bundleDirectories, commitBundle, isSaved } from '../commit';
import {
  bundleFiles,
  copyOf,
  exists,
  type JsonObject,
  readJson,
  readOptionalJson,
  writeJson,
  writeText,
} from '../files';
import { listSteps, isStepDirectory, type Metrics, readManifest, savedDirectory, stepsDirectory } from '../manifest';
import { damaged } from '../replaced';
import type { KeepOptions } from '../retention';
import {
  commonDType,
  formatError,
  loadDict,
  mapIn,
  type Origin,
  noTraining,
  type ReadOptions,
  resolveJsonConfig,
  resolveTokenizer,
  type SavedModel,
  type SavedRun,
  type TrainingState,
  wrong,
} from '../saved-model';
import { generationBeside, type TextFacts, textFiles } from '../text-files';
import { examine, type FileState } from '../verdict';
import { hfWeightsIn, isHfConfig } from './hf-gpt2';
import { type DirectoryProgram, Listing, type ModelFiles, type Use, type Verified, type WriteRequest } from './program';
import type { DeviceName } from '../../tensor/schema-types';

export const bundle: DirectoryProgram = {
  name: 'bundle',
  place: 'directory',
  container: 'bundle',
  holdsOptimizer: false,
  locate: async (listing) =>
    (await holdsBundle(listing)) ? (await bundleDirectories(listing.directory)).map(filesIn) : [],
  verify,
  read,
  write: writeWeights,
};

/** Whether a directory holds a bundle: weights and the config to make a model for them, or one that was kept. */
export async function isBundle(directory: string): Promise<boolean> {
  const names = await readdir(directory).catch((): string[] => []);
  return holdsBundle(new Listing(directory, names));
}

async function holdsBundle(listing: Listing): Promise<boolean> {
  const needed = [bundleFiles.model, bundleFiles.config];
  if (await isSaved(listing.directory, listing)) return true;
  if (needed.every((name) => listing.has(name))) return !(await isHuggingFace(listing));
  // A save that was ending when the directory was read has moved its files by now.
  if (listing.has(savedDirectory) && (await Promise.all(needed.map((name) => exists(listing.at(name))))).every(Boolean))
    return true;
  return listing.has(stepsDirectory) && (await listSteps(listing.directory)).length > 0;
}

/** Weights of Hugging Face with a config.json of theirs are their model, whatever else is there. */
async function isHuggingFace(listing: Listing): Promise<boolean> {
  if (hfWeightsIn(listing) === undefined) return false;
  const json = await readJson(listing.at(bundleFiles.config)).catch(() => undefined);
  return json !== undefined && isHfConfig(json);
}

function filesIn(directory: string): ModelFiles {
  return {
    directory,
    weights: path.join(directory, bundleFiles.model),
    others: [bundleFiles.optimizer, bundleFiles.randomState],
    config: bundleFiles.config,
    state: bundleFiles.trainingState,
  };
}

/** The table "Changed by another program" in docs/checkpoints.md. */
async function verify(files: ModelFiles, { training, allowMixed }: Use): Promise<Verified> {
  const { directory } = files;
  const found = await examine(directory);
  if (found === undefined || found.verdict === 'whole') return { files };
  const { verdict, reason, files: states } = found;
  // Nobody but us writes under steps/ and .saved: what differs there is damaged.
  if (isStepDirectory(directory) || path.basename(directory) === savedDirectory || verdict === 'broken')
    throw damaged(directory, reason!);
  if (verdict === 'newer') {
    const hasRun = states[bundleFiles.randomState] === 'other';
    return { files: { ...files, saw: 'saved over a bundle of torchbind', ...(hasRun ? {} : { stale: 'run' }) } };
  }
  if (allowMixed) return { files };
  if (verdict === 'edited') {
    const error = damaged(directory, reason!);
    if (training) throw error;
    return { files, warning: `${error.message} It was opened as it is.` };
  }
  if (training) throw mixed(directory, states);
  return {
    files: {
      ...files,
      saw: 'weights that another program replaced',
      stale: states[bundleFiles.trainingState] === 'other' ? 'run' : 'state',
    },
  };
}

function mixed(directory: string, states: Readonly<Record<string, FileState>>): TorchBindError {
  const old = [bundleFiles.optimizer, bundleFiles.trainingState].filter((name) => states[name] === 'same');
  return new TorchBindError(
    `${directory}: expected weights, optimizer and step of one save, got new weights in ${bundleFiles.model} with the ` +
      `${old.join(' and ')} of the weights before. To open the weights alone, use GPT.load(path); to train them with that ` +
      'state all the same, pass { allowMixed: true }.',
    'ERR_TORCHBIND_MIXED_STATE',
  );
}

async function read({ directory, saw, stale }: ModelFiles, options: ReadOptions): Promise<SavedModel> {
  const at = (name: string): string => path.join(directory, name);
  const weightsFile = at(bundleFiles.model);
  const json = await readJson(at(bundleFiles.config));
  const tokenizer = await resolveTokenizer(options, async () =>
    (await exists(at(bundleFiles.tokenizer))) ? loadTokenizer(at(bundleFiles.tokenizer)) : null,
  );
  const state = stale === 'state' ? noTraining : await readTrainingState(at(bundleFiles.trainingState));
  const training = stale === 'run' ? { ...state, run: null } : state;
  const { weights, kept, recognised } = await withPath(weightsFile, async () => {
    const found = weightsOf(mapIn(await load(weightsFile, { device: options.device })));
    return { ...found, recognised: recogniseAdapted(found.weights) };
  });
  const config = withPath(at(bundleFiles.config), () => resolveJsonConfig(json, recognised, options));
  const hasOptimizer = training.optimizerFile !== null && !(await wasDropped(directory, training.optimizerFile));
  const optimizerState =
    options.optimizer && hasOptimizer ? await readOptimizer(at(training.optimizerFile!), options.device) : null;
  const origin: Origin = {
    program: 'bundle',
    path: directory,
    saw: [`${bundleFiles.model} with ${bundleFiles.config}`, ...(saw === undefined ? [] : [saw]), ...recognised.saw],
    dtype: commonDType(weights),
    kept,
    hasOptimizer,
  };
  const generationConfig = await generationBeside(weightsFile);
  return { config, tokenizer, weights, recognised, training, optimizerState, origin, generationConfig };
}

function readOptimizer(file: string, device: DeviceName): Promise<Map<string, unknown>> {
  return loadDict(file, { device, exact: true });
}

/** Whether retention took the file away: then it is not missing. */
async function wasDropped(directory: string, name: string): Promise<boolean> {
  const manifest = await readManifest(directory).catch(() => undefined);
  return manifest?.dropped.includes(name) === true && !(await exists(path.join(directory, name)));
}

function readTrainingState(file: string): Promise<TrainingState> {
  return withPath(file, async () => {
    const json = await readOptionalJson(file);
    return json === undefined ? noTraining : trainingStateOf(json, path.dirname(file));
  });
}

async function trainingStateOf(json: JsonObject, directory: string): Promise<TrainingState> {
  const { step = null, optimizer_file: optimizerFile = null, run: runJson, ...extra } = json;
  if (step !== null && !(Number.isSafeInteger(step) && (step as number) >= 0)) {
    throw wrong('step to be an integer of at least 0', step);
  }
  if (optimizerFile !== null && (typeof optimizerFile !== 'string' || path.basename(optimizerFile) !== optimizerFile)) {
    throw wrong('optimizer_file to be the name of a file in the same directory', optimizerFile);
  }
  const run = isObject(runJson) ? { json: runJson, random: await readRandomStates(directory) } : null;
  return { step: step as number | null, optimizerFile, run, extra };
}

async function readRandomStates(directory: string): Promise<Map<string, Uint8Array>> {
  const file = path.join(directory, bundleFiles.randomState);
  const states = await loadDict(file);
  try {
    return new Map(Array.from(states, ([name, state]) => [name, withPath(file, () => bytesIn(name, state))]));
  } finally {
    dispose(states);
  }
}

function bytesIn(name: string, state: unknown): Uint8Array {
  if (state instanceof Tensor && state.dtype === 'uint8') return state.toTypedArray() as Uint8Array;
  throw wrong(`${name} to be the state of a random number generator, a uint8 tensor`, state);
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The state dict in a file of weights, which may lie in a dict with notes on dtypes; these are kept. */
export function weightsOf(outer: Map<string, unknown>): { weights: Map<string, unknown>; kept: Map<string, unknown> } {
  const inner = outer.get('state_dict');
  if (inner instanceof Map) return { weights: inner as Map<string, unknown>, kept: outer };
  if (!outer.has('model_state_dict')) return { weights: outer, kept: new Map() };
  throw formatError('it is a single-file checkpoint with config and optimizer inside: read it with GPT.loadLegacy()');
}

/** A state dict with the notes that lay around the one which was read. */
export function wrapWeights(
  weights: Map<string, unknown>,
  wrapper: ReadonlyMap<string, unknown>,
  dtype: string,
): Map<string, unknown> {
  if (wrapper.size === 0) return weights;
  const wrapped = new Map(wrapper).set('state_dict', weights);
  return wrapped.has('checkpoint_dtype') ? wrapped.set('checkpoint_dtype', dtype) : wrapped;
}

/** What a bundle says that inference needs. */
export interface BundledModel {
  /** Whose save it is: while a model is trained into the directory, nobody else saves there. */
  owner: object;
  /** State dict, in the keys of the layout, in the dict that was around it. */
  weights: ReadonlyMap<string, unknown>;
  /** As `configToJson` gives it. */
  config: JsonObject;
  text: TextFacts;
}

/** What to write into a bundle. */
export interface BundleToWrite extends BundledModel {
  step: number | null;
  /** In the layout's form, as `model.optimizerStateDict(optimizer)` gives it. */
  optimizerState: ReadonlyMap<string, unknown> | null;
  run: SavedRun | null;
  extra: JsonObject;
  /** Which bundles to keep under `steps/`; null to keep none, this one included. */
  keep: KeepOptions | null;
  metrics: Metrics;
}

/**
 * Replaces the bundle in a directory. Calls for one directory take effect in their order.
 *
 * @param prepare is awaited when the call's turn has come, before anything is written
 */
export function writeBundle(
  directory: string,
  contents: BundleToWrite,
  prepare: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const { owner, step, keep, metrics, optimizerState, run } = contents;
  const write = async (staging: string): Promise<void> => {
    await writeModel(staging, contents);
    if (optimizerState !== null) await save(optimizerState, path.join(staging, bundleFiles.optimizer));
    if (run !== null) await writeRandomStates(path.join(staging, bundleFiles.randomState), run.random);
    const state = trainingJson(contents);
    if (state !== undefined) await writeJson(path.join(staging, bundleFiles.trainingState), state);
  };
  return commitBundle(directory, owner, async () => {
    await prepare();
    return { step, keep, metrics, write };
  });
}

async function writeRandomStates(file: string, states: ReadonlyMap<string, Uint8Array>): Promise<void> {
  const tensors = new Map(Array.from(states, ([name, bytes]) => [name, fromTypedArray(bytes, [bytes.length])]));
  try {
    await save(tensors, file);
  } finally {
    dispose(tensors);
  }
}

/** What a bundle says of a model. */
export function bundledModel(
  model: GPTModel,
  weights: Map<string, unknown>,
  kept: ReadonlyMap<string, unknown>,
): BundledModel {
  const { tokenizer, generationJson } = model;
  return {
    owner: model,
    weights: wrapWeights(weights, kept, 'fp32'),
    config: { ...configToJson(model.config, model.layout.facts), ...adapterFields(model) },
    text: { tokenizer, generationJson },
  };
}

/** Replaces weights, config and tokenizer of the bundle in a directory; what it holds of training stays as it is. */
async function writeWeights(directory: string, request: WriteRequest): Promise<void> {
  const model = bundledModel(request.model, request.weights, request.kept);
  await commitBundle(directory, model.owner, async () => {
    const { step, optimizerFile } = await readTrainingState(path.join(directory, bundleFiles.trainingState));
    const write = async (staging: string): Promise<void> => {
      await writeModel(staging, model);
      for (const name of [bundleFiles.trainingState, bundleFiles.randomState, optimizerFile]) {
        if (name === null || !(await exists(path.join(directory, name)))) continue;
        await copyOf(path.join(directory, name), path.join(staging, name));
      }
    };
    return { step, keep: null, write };
  });
}

async function writeModel(directory: string, { weights, config, text }: BundledModel): Promise<void> {
  await save(weights, path.join(directory, bundleFiles.model));
  await writeJson(path.join(directory, bundleFiles.config), config);
  for (const [name, contents] of await textFiles(text)) await writeText(path.join(directory, name), contents);
}

/** As the Python programs write it: each field only if there is something to say. */
function trainingJson({ step, optimizerState, run, extra }: BundleToWrite): JsonObject | undefined {
  const fields = {
    ...(step === null ? {} : { step }),
    ...(optimizerState === null ? {} : { optimizer_file: bundleFiles.optimizer }),
    ...(run === null ? {} : { run: run.json }),
    ...extra,
  };
  return Object.keys(fields).length === 0 ? undefined : fields;
}
