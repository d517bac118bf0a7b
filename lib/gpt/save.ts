import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { checkpointFileName } from '../checkpoint/checkpoint-files';
import { type JsonObject, makeDirectory } from '../checkpoint/files';
import { checkMetrics, type Metrics } from '../checkpoint/manifest';
import { buildLlm, buildLlmName, newBuildLlm } from '../checkpoint/programs/build-llm';
import { bundle, bundledModel, writeBundle } from '../checkpoint/programs/bundle';
import { distributed } from '../checkpoint/programs/distributed';
import { hfTrainer } from '../checkpoint/programs/hf-trainer';
import { peft } from '../checkpoint/programs/peft';
import type { Program } from '../checkpoint/programs/program';
import { type KeepOptions, keepRules } from '../checkpoint/retention';
import type { Origin, SavedRun } from '../checkpoint/saved-model';
import { takeSnapshot, type TensorSnapshot } from '../checkpoint/snapshot';
import { chooseProgram, mayHoldOptimizer, programByName, writeAs } from '../checkpoint/write';
import { NO_COPIES, type StorageCopies } from '../compute';
import {
  checkArgument,
  checkFlags,
  checkOptions,
  type PathLike,
  requireOptions,
  toPath,
  TorchBindError,
} from '../errors';
import { convertModel } from '../models/convert';
import type { GPTModel } from '../models/gpt-model';
import type { Parameter } from '../nn/parameter';
import type { AnyOptimizer } from '../optim';
import type { ParameterGroup } from '../optim/optimizer';
import type { DType } from '../tensor/dtype';
import { isGgufPath, saveGguf } from './save-gguf';
import { isPlainObject } from '../objects';
import { type RunState, saveRun } from '../train';

/** How a GPT is saved: the methods of class GPT that write files. */

/** Training state for saving. */
export interface Training {
  /** The model's last optimizer. */
  optimizer: AnyOptimizer | undefined;
  /** Number of optimizer updates made; null if unknown. */
  step: number | null;
  run: (() => RunState) | undefined;
  /** Fields of training_state.json that this library does not use. */
  extra: JsonObject;
  origin: Origin | undefined;
}

/** Options of `gpt.save`. */
export interface SaveModelOptions {
  /** Family to write: `hf-gpt2`, `nanogpt`, `mypt`, ... Default: the family and form that the model came in. */
  layout?: string;
  /** The optimizer to save, in forms that hold one; null for none. Default: the model's last optimizer. */
  optimizer?: AnyOptimizer | null;
  /** Number of optimizer updates made, in forms that hold it. Default: the model's `step`. */
  step?: number;
  /** Dtype of the weights in the files; `q8_0` only in a GGUF file. Default: the dtype that they came in. */
  dtype?: DType | 'q8_0';
  /**
   * Write a distributed checkpoint, a directory for `torch.distributed.checkpoint.load`, whatever form the model came
   * in. Default: only for a model that came from one.
   */
  distributed?: boolean;
  /** Convert even to a family that cannot express the model exactly, so that results differ. Default false. */
  force?: boolean;
}

/** Options of `saveCheckpointFile`. */
export interface SaveCheckpointFileOptions {
  /** Name or path of the training data. */
  source: string;
  /**
   * Kind of model in the file name. Default: `bigram` for a from-scratch model, `bigramlora` with adapters, or GPT-2's
   * name.
   */
  model?: string;
  /** Number of optimizer updates made. Default: the model's `step`. */
  step?: number;
  /** The optimizer to save; null for none. Default: the model's last optimizer. */
  optimizer?: AnyOptimizer | null;
  /** Further hyperparameters by Python's names, such as `{ training_steps: 2000 }`. */
  hyperparameters?: Readonly<Record<string, unknown>>;
  /** Time in the file name. Default: now. */
  saved?: Date;
}

/** Options of `saveCheckpointBundle`. */
export interface SaveBundleOptions {
  /** Number of optimizer updates made. Default: the model's `step`. */
  step?: number;
  /** The optimizer to save. Default: the model's last optimizer. */
  optimizer?: AnyOptimizer;
  /** A state dict to save instead of an optimizer, in the layout's form, as from Python's `optimizer.state_dict()`. */
  optimizerState?: ReadonlyMap<string, unknown> | null;
  /** Which bundles to keep under `steps/`. Default `{ last: 2 }`. null keeps none. */
  keep?: KeepOptions | null;
  /** Metrics of the bundle, such as `val_loss`, for `keep.best`. */
  metrics?: Metrics;
}

/** Contents of a bundle besides the model. */
export interface BundleContents {
  step: number | null;
  optimizer: AnyOptimizer | undefined;
  /** Instead of the optimizer's own. */
  optimizerState?: ReadonlyMap<string, unknown> | null;
  run: SavedRun | null;
  metrics: Metrics;
  keep: KeepOptions | null;
}

export async function saveModel(
  model: GPTModel,
  training: Training,
  target: PathLike,
  options: SaveModelOptions,
  copies: StorageCopies,
): Promise<void> {
  const path = toPath(target, 'save');
  checkOptions(options, ['layout', 'optimizer', 'step', 'dtype', 'distributed', 'force'], 'save');
  checkFlags({ distributed: options.distributed }, 'save');
  const { layout = model.layout.name, force } = options;
  if (isGgufPath(path)) return saveAsGguf(model, training, path, options, copies);
  const { dtype, ...others } = options;
  if (dtype === 'q8_0') throw onlyGguf(path);
  const written = { ...others, ...(dtype && { dtype }) };
  if (layout === model.layout.name)
    return writeModel(path, model, { ...training, origin: unfolded(model, training.origin) }, written, copies);
  // Neither the optimizer's state nor what the program kept fits in another family.
  const elsewhere = { ...training, optimizer: undefined, origin: undefined };
  const converted = convertModel(model, layout, { force });
  try {
    await writeModel(path, converted, elsewhere, { ...written, optimizer: undefined }, NO_COPIES);
  } finally {
    converted.dispose();
  }
}

async function saveAsGguf(
  model: GPTModel,
  { origin }: Training,
  path: string,
  { layout, distributed, ...options }: SaveModelOptions,
  copies: StorageCopies,
): Promise<void> {
  if (layout === undefined && distributed !== true) return saveGguf(model, origin, path, options, copies);
  throw new TorchBindError(
    "save: the layout of a GGUF file is llama.cpp's. Leave out the options layout and distributed.",
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function onlyGguf(path: string): TorchBindError {
  return new TorchBindError(
    `save: 'q8_0' is a form of GGUF files, whose names end in .gguf; got ${path}. gpt.export(path, { dtype: 'int8' }) writes int8.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

async function writeModel(
  path: string,
  model: GPTModel,
  { origin, ...training }: Training,
  {
    optimizer = training.optimizer,
    step = training.step ?? undefined,
    dtype = origin?.dtype ?? undefined,
    distributed: isDistributed = origin?.program === 'distributed',
  }: Omit<SaveModelOptions, 'dtype'> & { dtype?: DType },
  copies: StorageCopies,
): Promise<void> {
  // Before anything is awaited: what is saved is the state at the call.
  const held = isDistributed || mayHoldOptimizer(model.layout.name, origin) ? (optimizer ?? undefined) : undefined;
  const snapshot = snapshotFor(origin && programByName(origin.program), model, held, copies);
  try {
    await snapshot.pack();
    const isAdapter = model.lora?.keys === 'peft' && origin?.program !== 'build-llm' && !isAdapterRun(origin);
    const program = isDistributed
      ? distributed
      : isAdapter
        ? peft
        : await chooseProgram(path, model.layout.name, origin);
    if (program !== hfTrainer) await refuseOldMoments(path);
    const wanted = program.holdsOptimizer ? optimizer : undefined;
    if (wanted === undefined && origin?.hasOptimizer === true && program !== bundle && program !== peft)
      await refuseToLoseOptimizer(path, origin);
    const optimizerState = program.holdsOptimizer ? snapshot.optimizerState : null;
    const kept = keptFor(program, origin);
    const request = {
      model,
      weights: snapshot.weights,
      optimizerState,
      step: step ?? null,
      kept,
      dtype: dtype ?? null,
    };
    await writeAs(program, path, request);
  } finally {
    snapshot.release();
  }
}

/** Data with which a program writes a model back in the form that it came in. */
function keptFor(program: unknown, origin: Origin | undefined): ReadonlyMap<string, unknown> {
  if (program === bundle) return wrapperOf(origin);
  if (program === distributed) return origin?.program === 'distributed' ? origin.kept : new Map();
  if (program !== peft || origin?.program === 'peft' || isAdapterRun(origin)) return origin?.kept ?? new Map();
  return new Map(origin?.program === 'hf-gpt2' ? [['path', origin.path]] : []);
}

/** The model's tensors in the keys of a program's files. */
function snapshotFor(
  program: Program | undefined,
  model: GPTModel,
  optimizer: AnyOptimizer | undefined,
  copies: StorageCopies,
): TensorSnapshot {
  const { layout } = model;
  const wanted = program?.layout?.(model);
  if (wanted === undefined) return takeSnapshot(model, optimizer, copies);
  try {
    model.setLayout(wanted);
    return takeSnapshot(model, optimizer, copies);
  } finally {
    model.setLayout(layout);
  }
}

/** For a model whose PEFT adapters were folded into its weights: the origin of the base model. */
function unfolded({ lora }: GPTModel, origin: Origin | undefined): Origin | undefined {
  const isAdapter = origin?.program === 'peft' || isAdapterRun(origin);
  return isAdapter && lora === null ? (origin!.kept.get('base') as Origin) : origin;
}

/** Whether a model came from a Trainer checkpoint that holds only an adapter. */
function isAdapterRun(origin: Origin | undefined): boolean {
  return origin?.program === 'hf-trainer' && origin.kept.has('base');
}

/** Saving over the model's own file must not lose the optimizer in it. */
async function refuseToLoseOptimizer(path: string, origin: Origin): Promise<void> {
  const [there, source] = await Promise.all([path, origin.path].map((file) => stat(file).catch(() => undefined)));
  if (there === undefined || there.ino !== source?.ino || there.dev !== source.dev) return;
  throw new TorchBindError(
    `save: ${path} holds the state of an optimizer, and this model was opened without it. Open it with ` +
      `GPT.load(path, { optimizer: true }) to keep it, or pass { optimizer: null } to drop it.`,
    'ERR_TORCHBIND_SAVE',
  );
}

/** Trainer would train the weights of another model with the optimizer state next to them. */
async function refuseOldMoments(directory: string): Promise<void> {
  const there = ['trainer_state.json', 'optimizer.pt'].map((name) =>
    stat(join(directory, name)).catch(() => undefined),
  );
  if ((await Promise.all(there)).includes(undefined)) return;
  throw new TorchBindError(
    `save: ${directory} is a checkpoint of Trainer, whose optimizer.pt belongs to other weights than these. Save to another ` +
      'directory, or remove the checkpoint.',
    'ERR_TORCHBIND_SAVE',
  );
}

export async function saveSingleFile(
  own: GPTModel,
  training: Training,
  target: PathLike,
  options: SaveCheckpointFileOptions,
  copies: StorageCopies,
): Promise<string> {
  const names = ['source', 'model', 'step', 'optimizer', 'hyperparameters', 'saved'];
  const directory = toPath(target, 'saveCheckpointFile');
  requireOptions(options, names, 'saveCheckpointFile');
  const { source, step = training.step, optimizer = training.optimizer, hyperparameters: more = {}, saved } = options;
  checkArgument(isPlainObject(more), 'an object', more, 'saveCheckpointFile: hyperparameters');
  if (typeof source !== 'string' || step === null) {
    throw new TorchBindError(
      'saveCheckpointFile: give the source, the name of the data, and the step, the number of updates made.',
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const isOwn = ['build-llm', 'hf-gpt2'].includes(own.layout.name);
  const model = isOwn ? own : convertModel(own, 'build-llm');
  const { origin } = training;
  const file = join(
    directory,
    checkpointFileName({ model: options.model ?? buildLlmName(model, origin, nameIn(more)), source, step, saved }),
  );
  const learningRate = optimizer?.paramGroups[0]?.lr;
  const kept =
    origin?.program === 'build-llm' ? origin.kept : newBuildLlm(model, { source, learningRate, more, origin });
  const held = isOwn && optimizer != null ? inOneGroup(model, optimizer) : undefined;
  const snapshot = snapshotFor(buildLlm, model, held, copies);
  try {
    await snapshot.pack();
    await makeDirectory(directory);
    await writeAs(buildLlm, file, { model, ...snapshot, step, kept, dtype: null });
  } finally {
    snapshot.release();
    if (!isOwn) model.dispose();
  }
  return file;
}

/**
 * An optimizer as build_llm_karpathy's program makes it, with all parameters in one group.
 *
 * @throws ERR_TORCHBIND_SAVE where the groups are trained in different ways
 */
function inOneGroup(model: GPTModel, optimizer: AnyOptimizer): AnyOptimizer {
  const [first, ...others] = optimizer.paramGroups;
  if (others.length === 0) return optimizer;
  const valuesOf = ({ params: _, paramNames: __, ...values }: ParameterGroup): string => JSON.stringify(values);
  if (others.some((group) => valuesOf(group) !== valuesOf(first!))) {
    throw new TorchBindError(
      'saveCheckpointFile: the program of such files trains all parameters in one group, and the groups of this optimizer differ. ' +
        'Make them alike (weightDecay, lr), or pass { optimizer: null }.',
      'ERR_TORCHBIND_SAVE',
    );
  }
  const trained = new Set(optimizer.paramGroups.flatMap(({ params }) => params));
  const params = model.parameters().filter((parameter) => trained.has(parameter));
  const one = new (optimizer.constructor as new (params: Parameter[]) => AnyOptimizer)(params);
  Object.assign(one.paramGroups[0]!, { ...first!, params, paramNames: undefined });
  for (const [parameter, values] of optimizer.state) one.state.set(parameter, values);
  return one;
}

/** The name of GPT-2 that the caller gives. */
function nameIn({ gpt2_model_name: name }: Readonly<Record<string, unknown>>): string | undefined {
  return typeof name === 'string' ? name : undefined;
}

export async function saveAdapter(
  model: GPTModel,
  { origin, step }: Pick<Training, 'origin' | 'step'>,
  target: PathLike,
  copies: StorageCopies,
  dtype: DType | null = origin?.program === 'peft' || isAdapterRun(origin) ? origin!.dtype : null,
): Promise<void> {
  const directory = toPath(target, 'saveAdapter');
  const snapshot = takeSnapshot(model, undefined, copies);
  try {
    await snapshot.pack();
    await refuseOldMoments(directory);
    await writeAs(peft, directory, { model, ...snapshot, step, kept: keptFor(peft, origin), dtype });
  } finally {
    snapshot.release();
  }
}

export async function saveBundle(
  model: GPTModel,
  training: Training,
  target: PathLike,
  options: SaveBundleOptions,
  copies: StorageCopies,
): Promise<void> {
  const directory = toPath(target, 'saveCheckpointBundle');
  checkOptions(options, ['step', 'optimizer', 'optimizerState', 'keep', 'metrics'], 'saveCheckpointBundle');
  const { step = training.step, optimizer = training.optimizer, keep = {}, metrics = {} } = options;
  if (keep !== null) keepRules(keep);
  checkMetrics(metrics);
  const isCount = step === null || (Number.isSafeInteger(step) && step >= 0);
  checkArgument(isCount, "a number of updates for 'step'", step, 'saveCheckpointBundle');
  const state = options.optimizerState;
  const isState = state == null || state instanceof Map;
  checkArgument(isState, "a Map or null for 'optimizerState'", state, 'saveCheckpointBundle');
  const isOwn = state === undefined && optimizer === training.optimizer && step === training.step;
  const run = isOwn && training.run !== undefined ? saveRun(training.run()) : null;
  const contents = { step, optimizer, optimizerState: state, run, metrics, keep };
  await replaceBundle(model, training, directory, contents, copies, async () => {
    if (state === undefined && optimizer === undefined) await refuseToDropOptimizer(directory);
  });
}

/** A model that was opened without its optimizer must not overwrite the one in its bundle. */
async function refuseToDropOptimizer(directory: string): Promise<void> {
  const there = await stat(join(directory, 'optimizer.pt')).catch(() => undefined);
  if (there === undefined) return;
  throw new TorchBindError(
    `saveCheckpointBundle: ${directory} holds an optimizer.pt, and this model has no optimizer to replace it. ` +
      `To keep it and write the weights only, use save(directory); to continue training, use CheckpointManager's ` +
      `initializeForTraining; to drop it, pass { optimizerState: null }.`,
    'ERR_TORCHBIND_SAVE',
  );
}

/**
 * Takes a snapshot of the model before it returns, so the model may change while the bundle is written.
 *
 * @param check is awaited before anything is written, when it is this save's turn
 */
export async function replaceBundle(
  model: GPTModel,
  { origin, extra }: Pick<Training, 'origin' | 'extra'>,
  directory: string,
  { optimizer, optimizerState: given, ...facts }: BundleContents,
  copies: StorageCopies,
  check?: () => Promise<void>,
): Promise<void> {
  const snapshot = takeSnapshot(model, given === undefined ? optimizer : (given ?? undefined), copies);
  try {
    const { weights, optimizerState } = snapshot;
    const files = bundledModel(model, weights, wrapperOf(origin));
    await writeBundle(directory, { ...facts, ...files, optimizerState, extra }, async () => {
      await check?.();
      await snapshot.pack();
    });
  } finally {
    snapshot.release();
  }
}

/** The dict that contained the weights in the bundle. */
function wrapperOf(origin: Origin | undefined): ReadonlyMap<string, unknown> {
  return origin?.program === 'bundle' ? origin.kept : new Map<string, unknown>();
}
