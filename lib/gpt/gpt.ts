import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { checkArgument, checkOptions, checkPath, requireOptions, TorchBindError } from '../errors';
import { readBundle, wrapWeights, writeBundle, writeWeights } from '../checkpoint/programs/bundle';
import { type JsonObject, makeDirectory } from '../checkpoint/files';
import { checkMetrics, type Metrics } from '../checkpoint/integrity';
import { type KeepOptions, keepRules } from '../checkpoint/retention';
import { takeSnapshot } from '../checkpoint/snapshot';
import { lockWriter } from '../checkpoint/writer-lock';
import { readLegacy } from '../checkpoint/programs/legacy';
import { adapterFields, attachPeft, attachSaved } from '../checkpoint/adapters';
import { openModel } from '../checkpoint/open';
import {
  checkVocabulary,
  type LoraFacts,
  type Origin,
  type SavedModel,
  type SavedRun,
} from '../checkpoint/saved-model';
import { checkpointFileName } from '../checkpoint/checkpoint-files';
import { buildLlmName, newBuildLlm } from '../checkpoint/programs/build-llm';
import { chooseForm, holdsOptimizer, writeForm } from '../checkpoint/write';
import {
  type GenerateOptions,
  generateText,
  type GenerateTokensOptions,
  streamText,
  streamTokens,
} from '../models/generate';
import { configToJson, type GPTConfig, type GPTOptions } from '../models/config';
import { convertModel } from '../models/convert';
import { GPTModel, type GPTModelOptions } from '../models/gpt-model';
import type { AdamW, SGD } from '../optim';
import { cuda } from '../tensor/device';
import type { DType } from '../tensor/dtype';
import { dispose, isPlainObject } from '../tensor/scope';
import type { Tokenizer } from '../tokenizers';
import {
  type Bundles,
  FIT_OPTIONS,
  type FitOptions,
  type FitResult,
  readRun,
  type RunState,
  saveRun,
  train,
  type TrainEvent,
} from '../train';

export interface LoadModelOptions {
  /** Where the parameters go. Default: the device that the config names if this machine has it, else `cpu`. */
  device?: string;
  /**
   * Facts of the architecture that the files do not say, as `{ nHead: 12 }` for a bare state dict; they go before what the
   * files say.
   */
  config?: Partial<GPTOptions>;
  /**
   * Instead of the tokenizer that lies with the model, which is then not looked at; null for none. Default: what
   * `loadTokenizer` finds beside it.
   */
  tokenizer?: Tokenizer | null;
  /** Load the optimizer too where the files hold one, and the step: `fit` then goes on with it. Default false. */
  optimizer?: boolean;
  /** Of LoRA adapters what the files do not say: `{ alpha: 32 }`. It goes before what they say. */
  lora?: LoraFacts;
  /** Of a PEFT adapter's directory: where the model is that it belongs to. Default: the local path that it names. */
  base?: string;
}

export interface SaveModelOptions {
  /**
   * The family to write for, as `hf-gpt2`, `nanogpt` or `mypt`. Default: the one that the model came from, in the form that it
   * came in.
   */
  layout?: string;
  /** Of forms that hold one: the optimizer. Default: the one that the model was last trained with; null for none. */
  optimizer?: AdamW | SGD | null;
  /** Of forms that hold it: optimizer updates made. Default: those of the model's training so far. */
  step?: number;
  /** Dtype of the weights in the files. Default: the one that they came in. */
  dtype?: DType;
  /** Convert to a family that cannot hold all of the model, although results then differ. Default false. */
  force?: boolean;
}

export interface SaveCheckpointFileOptions {
  /** Name of the data, or its path. */
  source: string;
  /** The model's kind in the file's name. Default: `bigram` of one made from scratch, `bigramlora`, or GPT-2's name. */
  model?: string;
  /** Optimizer updates made. Default: those of the model's training so far. */
  step?: number;
  /** The optimizer to save; null for none. Default: the one that the model was last trained with. */
  optimizer?: AdamW | SGD | null;
  /** More to note among the hyperparameters, by Python's names, as `{ training_steps: 2000 }`. */
  hyperparameters?: Readonly<Record<string, unknown>>;
  /** The moment in the file's name. Default: now. */
  saved?: Date;
}

export interface SaveBundleOptions {
  /** Optimizer updates made. Default: those of the model's training so far. */
  step?: number;
  /** The optimizer to save. Default: the one that the model was last trained with. */
  optimizer?: AdamW | SGD;
  /** Instead of an optimizer: its state dict in the layout's form, as Python's `optimizer.state_dict()` gives it. */
  optimizerState?: ReadonlyMap<string, unknown> | null;
  /** Which bundles to keep under `steps/`. Default: this one and the one before. null keeps none. */
  keep?: KeepOptions | null;
  /** Numbers to judge the bundle by, such as `val_loss`. */
  metrics?: Metrics;
}

/** What goes into a bundle beside the model as it is. */
interface ToWrite {
  step: number | null;
  optimizer: AdamW | SGD | undefined;
  /** Instead of the optimizer's own. */
  optimizerState?: ReadonlyMap<string, unknown> | null;
  run: SavedRun | null;
  metrics: Metrics;
  keep: KeepOptions | null;
  copy: boolean;
}

/** What `GPT.loadLegacy` gives. */
export interface LegacyCheckpoint {
  model: GPT;
  tokenizer: Tokenizer | null;
  /** Optimizer updates made; null where the file does not say. */
  step: number | null;
  /** As Python's optimizer wrote it; `model.loadOptimizerStateDict(optimizer, optimizerState)` takes it. */
  optimizerState: Map<string, unknown> | null;
  config: GPTConfig;
}

/**
 * A GPT that trains, generates, and reads and writes the checkpoints of PyTorch programs.
 *
 * The checkpoint's layout, that is its keys and their order, stays with the model: it is saved in the one it came in.
 */
export class GPT extends GPTModel {
  #optimizer: AdamW | SGD | undefined;
  #step: number | null = null;
  #extra: JsonObject = {};
  #run: (() => RunState) | undefined;
  #origin: Origin | undefined;

  constructor(config: GPTOptions, options?: GPTModelOptions) {
    super(config, options);
  }

  /** The optimizer that the model was last trained with, or that was resumed with it. */
  get optimizer(): AdamW | SGD | undefined {
    return this.#optimizer;
  }

  /** Where the model was opened, in which form, and what was seen there; undefined for a new one. */
  get origin(): { path: string; form: string; layout: string; saw: readonly string[] } | undefined {
    if (this.#origin === undefined) return undefined;
    const { path, form, saw } = this.#origin;
    return { path, form, layout: this.layout.name, saw };
  }

  /** Optimizer updates made; null for a model that was never trained here and whose files do not say. */
  get step(): number | null {
    return this.#step;
  }

  /**
   * Trains the model on a text; a second call goes on with the same optimizer, random numbers and place in the text.
   *
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_UNKNOWN_OPTION, ERR_TORCHBIND_UNKNOWN_CHARACTER before anything
   *   is done; ERR_TORCHBIND_NONFINITE_LOSS and ERR_TORCHBIND_SAVE in between
   */
  async fit(options: FitOptions): Promise<FitResult> {
    const events = this.fitEvents(options);
    for (;;) {
      const { done, value } = await events.next();
      if (done === true) return value;
    }
  }

  /** As `fit`, giving each event as it happens: `for await (const event of gpt.fitEvents(options))`. Leaving the loop ends training. */
  fitEvents(options: FitOptions): AsyncGenerator<TrainEvent, FitResult> {
    requireOptions(options, FIT_OPTIONS, 'fit');
    const optimizer = options.optimizer ?? this.#optimizer;
    const continued = optimizer !== undefined && optimizer === this.#optimizer;
    const startStep = options.startStep ?? (continued ? (this.#step ?? 0) : 0);
    return train(this, { ...options, optimizer, startStep }, this.#bundles(), continued ? this.#run?.() : undefined);
  }

  /** Makes this optimizer the one that `fit` goes on with and that bundles are saved with. */
  setTraining(optimizer: AdamW | SGD | undefined, step: number | null, run?: RunState | (() => RunState)): void {
    this.#run = typeof run === 'object' ? () => run : run;
    this.#optimizer = optimizer;
    this.#step = step;
  }

  /** What the trainer does with files. */
  #bundles(): Bundles {
    return {
      save: (directory, { step, optimizer, run, metrics, keep = {}, copy }) =>
        this.#write(directory, { step, optimizer, run: saveRun(run), metrics, keep, copy }),
      restore: async (directory, optimizer) => {
        const saved = await readBundle(directory, { device: 'cpu', optimizer: true });
        try {
          this.loadStateDict(saved.weights);
          if (saved.optimizerState !== null) this.loadOptimizerStateDict(optimizer, saved.optimizerState);
        } finally {
          dispose([saved.weights, saved.optimizerState]);
        }
        const { step, run } = saved.training;
        return { step: step ?? 0, run: run === null ? undefined : readRun(run) };
      },
      lock: async (directory) => {
        await makeDirectory(directory);
        return lockWriter(directory);
      },
      stands: ({ step, optimizer, run }) => this.setTraining(optimizer, step, run),
    };
  }

  /**
   * The prompt and the text that the model writes after it. An empty prompt begins a new text.
   *
   * @throws ERR_TORCHBIND_NO_TOKENIZER, ERR_TORCHBIND_INVALID_ARGUMENT; the signal's reason when it is aborted
   */
  generate(prompt: string, options?: GenerateOptions): Promise<string> {
    return generateText(this, prompt, options);
  }

  /** The text after the prompt, in pieces as it is written. Leaving the loop ends the generation. */
  stream(prompt: string, options?: GenerateOptions): AsyncGenerator<string, void, undefined> {
    return streamText(this, prompt, options);
  }

  /** Token ids that the model writes after those of the prompt, one at a time. Needs no tokenizer. */
  generateTokens(prompt: ArrayLike<number>, options?: GenerateTokensOptions): AsyncGenerator<number, void, undefined> {
    return streamTokens(this, prompt, options);
  }

  /**
   * Writes the model: in the form that it came in, such as nanoGPT's `ckpt.pt` or a directory of Hugging Face, or in that of
   * the family that `layout` names. A bundle's directory gets what inference needs, `model.pt`, `config.json` and
   * `tokenizer.json`, and a training state that is there stays as it is. A path that ends in `.pt`, `.pth` or `.bin` is a
   * file's.
   *
   * @throws ERR_TORCHBIND_CONVERT naming what the family that `layout` names has no place for; ERR_TORCHBIND_SAVE where an
   *   optimizer that is in the file would be lost, or where it cannot be written
   */
  async save(path: string, options: SaveModelOptions = {}): Promise<void> {
    checkPath(path, 'save');
    checkOptions(options, ['layout', 'optimizer', 'step', 'dtype', 'force'], 'save');
    const { layout = this.layout.name, force } = options;
    const converted = layout === this.layout.name ? undefined : convertModel(this, layout, { force });
    try {
      await this.#saveAs(
        path,
        converted ?? this,
        converted === undefined ? unfolded(this, this.#origin) : undefined,
        options,
      );
    } finally {
      converted?.dispose();
    }
  }

  async #saveAs(
    path: string,
    model: GPTModel,
    origin: Origin | undefined,
    { optimizer = this.#optimizer, step, dtype = origin?.dtype ?? undefined }: SaveModelOptions,
  ): Promise<void> {
    const form = model.lora?.keys === 'peft' ? 'peft' : chooseForm(path, model.layout.name, origin);
    if (form === 'peft') return this.#writeAdapter(path, dtype ?? null);
    if (form === 'bundle') return saveBundle(path, model, origin);
    const wanted = holdsOptimizer(form) && model === this ? optimizer : undefined;
    if (wanted === undefined && origin?.hasOptimizer === true) await refuseToLoseOptimizer(path, origin);
    const snapshot = takeSnapshot(model, wanted ?? undefined, false);
    const kept = origin?.kept ?? new Map<string, unknown>();
    const request = { model, ...snapshot, step: step ?? this.#step, kept, dtype: dtype ?? null };
    await writeForm(form, path, request).finally(() => snapshot.release());
  }

  /**
   * Writes all in one file, named and made as build_llm_karpathy does:
   * `checkpoint_{model}_{source}_step{N}_{mmddYYYY_HHMMSS}.pt` with weights, optimizer and hyperparameters, which its programs
   * and `GPT.load` open; the tokenizer is inside too. `findCheckpoints` finds such files. A model of another family than
   * `build-llm` and `hf-gpt2` is converted where that is exact; its optimizer, which does not convert, stays out.
   *
   * @returns the file's path
   * @throws ERR_TORCHBIND_CONVERT naming what the family has no place for; ERR_TORCHBIND_SAVE where it cannot be written
   */
  async saveCheckpointFile(directory: string, options: SaveCheckpointFileOptions): Promise<string> {
    const names = ['source', 'model', 'step', 'optimizer', 'hyperparameters', 'saved'];
    checkPath(directory, 'saveCheckpointFile');
    requireOptions(options, names, 'saveCheckpointFile');
    const { source, step = this.#step, optimizer = this.#optimizer, hyperparameters: more = {}, saved } = options;
    checkArgument(isPlainObject(more), 'an object', more, 'saveCheckpointFile: hyperparameters');
    if (typeof source !== 'string' || step === null) {
      throw new TorchBindError(
        'saveCheckpointFile: give the source, the name of the data, and the step, the number of updates made.',
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    const isOwn = ['build-llm', 'hf-gpt2'].includes(this.layout.name);
    const model = isOwn ? this : convertModel(this, 'build-llm');
    const file = join(
      directory,
      checkpointFileName({ model: options.model ?? buildLlmName(model), source, step, saved }),
    );
    const learningRate = optimizer?.paramGroups[0]?.lr;
    const kept =
      this.#origin?.form === 'build-llm' ? this.#origin.kept : newBuildLlm(model, { source, learningRate, more });
    const snapshot = takeSnapshot(model, isOwn ? (optimizer ?? undefined) : undefined, false);
    try {
      await makeDirectory(directory);
      await writeForm('build-llm', file, { model, ...snapshot, step, kept, dtype: null });
    } finally {
      snapshot.release();
      if (!isOwn) model.dispose();
    }
    return file;
  }

  /**
   * Writes the LoRA adapters alone, as PEFT's `save_pretrained` does: `adapter_config.json` and `adapter_model.safetensors`.
   * `PeftModel.from_pretrained(base, directory)` and `GPT.load(directory, { base })` take them.
   *
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT where the model is not of layout `hf-gpt2` or has no adapters
   */
  async saveAdapter(directory: string): Promise<void> {
    checkPath(directory, 'saveAdapter');
    return this.#writeAdapter(directory, this.#origin?.form === 'peft' ? this.#origin.dtype : null);
  }

  async #writeAdapter(directory: string, dtype: DType | null): Promise<void> {
    const snapshot = takeSnapshot(this, undefined, false);
    const origin = this.#origin;
    const kept =
      origin?.form === 'peft' ? origin.kept : new Map(origin?.form === 'hf-gpt2' ? [['path', origin.path]] : []);
    const request = { model: this, ...snapshot, step: this.#step, kept, dtype };
    await writeForm('peft', directory, request).finally(() => snapshot.release());
  }

  /**
   * Writes the model's bundle, which replaces the one in the directory: the weights, the config and the tokenizer, and
   * what resuming needs, the step and the optimizer, where these are known. At every moment the directory holds the old
   * bundle or the new one.
   *
   * @throws ERR_TORCHBIND_SAVE where a file cannot be written, or where an optimizer that is there would be lost because
   *   the model has none; the old bundle then stands
   */
  async saveCheckpointBundle(directory: string, options: SaveBundleOptions = {}): Promise<void> {
    checkPath(directory, 'saveCheckpointBundle');
    checkOptions(options, ['step', 'optimizer', 'optimizerState', 'keep', 'metrics'], 'saveCheckpointBundle');
    const { step = this.#step, optimizer = this.#optimizer, keep = {}, metrics = {} } = options;
    if (keep !== null) keepRules(keep);
    checkMetrics(metrics);
    const isCount = step === null || (Number.isSafeInteger(step) && step >= 0);
    checkArgument(isCount, "a number of updates for 'step'", step, 'saveCheckpointBundle');
    const state = options.optimizerState;
    const isState = state == null || state instanceof Map;
    checkArgument(isState, "a Map or null for 'optimizerState'", state, 'saveCheckpointBundle');
    if (state === undefined && optimizer === undefined) await refuseToDropOptimizer(directory);
    const isOwn = state === undefined && optimizer === this.#optimizer && step === this.#step;
    const run = isOwn && this.#run !== undefined ? saveRun(this.#run()) : null;
    await this.#write(directory, { step, optimizer, optimizerState: state, run, metrics, keep, copy: false });
  }

  /** Decides what to write before it returns; `copy` lets the model change while that is written. */
  #write(directory: string, { optimizer, optimizerState, copy, ...facts }: ToWrite): Promise<void> {
    const snapshot = takeSnapshot(this, optimizerState === undefined ? optimizer : undefined, copy);
    const { tokenizer } = this;
    const config = { ...configToJson(this.config, this.layout.facts), ...adapterFields(this) };
    const weights = wrapWeights(snapshot.weights, wrapperOf(this.#origin), 'fp32');
    const state = optimizerState ?? snapshot.optimizerState;
    const bundle = { ...facts, weights, config, tokenizer, optimizerState: state, extra: this.#extra };
    return writeBundle(directory, bundle).finally(() => snapshot.release());
  }

  /**
   * Opens a model in whatever form a program left it: a bundle's directory; a directory of Hugging Face's GPT-2; `checkpoint-N`
   * of Hugging Face's Trainer, or its output directory, of which the last complete one is opened; nanoGPT's `ckpt.pt` or its
   * directory; a single-file checkpoint; a state dict of a known family. What it is, is told by what it holds: `origin` says
   * what was seen.
   *
   * @throws CheckpointError naming the file that is missing or not right; ERR_TORCHBIND_LAYOUT for weights of no known family;
   *   ERR_TORCHBIND_VOCABULARY for a tokenizer with more tokens than the model; ERR_TORCHBIND_CONFIG naming the fact to give in `config` where the files do not tell
   */
  static async load(path: string, options: LoadModelOptions = {}): Promise<GPT> {
    checkOptions(options, ['device', 'config', 'tokenizer', 'optimizer', 'lora', 'base'], 'GPT.load');
    checkOptions(options.lora, ['alpha', 'dropout'], 'GPT.load lora');
    checkArgument(options.config !== null, "an object for 'config'", options.config, 'GPT.load');
    const { device, config, tokenizer, optimizer = false, lora, base } = options;
    const saved = await openModel(path, { device: 'cpu', optimizer, config, tokenizer, base });
    try {
      const model = GPT.fromSaved(saved, device, lora);
      if (optimizer && saved.optimizerState !== null) {
        const { step, run } = saved.training;
        model.setTraining(model.resumeOptimizer(saved.optimizerState), step, run === null ? undefined : readRun(run));
      }
      return model;
    } finally {
      dispose(saved.optimizerState);
    }
  }

  /** Opens a checkpoint of a single file, `{ model_state_dict, config, tokenizer, step, optimizer_state_dict }`. */
  static async loadLegacy(path: string, options: LoadModelOptions = {}): Promise<LegacyCheckpoint> {
    checkOptions(options, ['device'], 'GPT.loadLegacy');
    const saved = await readLegacy(path, { device: 'cpu', optimizer: true });
    const model = GPT.fromSaved(saved, options.device);
    const { tokenizer, step, config } = model;
    return { model, tokenizer, step, optimizerState: saved.optimizerState, config };
  }

  /** @internal The model that was saved; frees the weights that were read, which it has copied. */
  static fromSaved(saved: SavedModel, device?: string, lora?: LoraFacts): GPT {
    try {
      checkVocabulary(saved);
      const model = new GPT(saved.config, {
        tokenizer: saved.tokenizer,
        layout: saved.recognised.layout,
        device: chooseDevice(device, saved.config.device),
        init: false,
      });
      attachSaved(model, saved, lora);
      model.loadStateDict(saved.weights);
      if (saved.adapter !== undefined) attachPeft(model, saved.adapter, saved.origin.path);
      model.#step = saved.training.step;
      model.#extra = saved.training.extra;
      model.#origin = saved.origin;
      return model;
    } finally {
      dispose([saved.weights, saved.adapter?.weights]);
    }
  }
}

/** A config that names a GPU never keeps a model from being opened on a machine without one. */
export function chooseDevice(requested: string | undefined, configured: string): string {
  if (requested !== undefined) return requested;
  const [type, index = '0'] = configured.split(':');
  return type === 'cuda' && Number(index) < cuda.deviceCount() ? configured : 'cpu';
}

/** Replaces the weights of a bundle. */
async function saveBundle(path: string, model: GPTModel, origin: Origin | undefined): Promise<void> {
  const snapshot = takeSnapshot(model, undefined, false);
  const weights = wrapWeights(snapshot.weights, wrapperOf(origin), 'fp32');
  const config = { ...configToJson(model.config, model.layout.facts), ...adapterFields(model) };
  const bundle = { weights, config, tokenizer: model.tokenizer };
  await writeWeights(path, bundle).finally(() => snapshot.release());
}

/** Of a model that lost its PEFT adapters to its weights: where the base model came from. */
function unfolded({ lora }: GPTModel, origin: Origin | undefined): Origin | undefined {
  return origin?.form === 'peft' && lora === null ? (origin.kept.get('base') as Origin) : origin;
}

/** What lay around the weights in a bundle. */
function wrapperOf(origin: Origin | undefined): ReadonlyMap<string, unknown> {
  return origin?.form === 'bundle' ? origin.kept : new Map<string, unknown>();
}

/** Saving over the file that the model came from must not throw the optimizer away that it holds. */
async function refuseToLoseOptimizer(path: string, origin: Origin): Promise<void> {
  const [there, source] = await Promise.all([path, origin.path].map((file) => stat(file).catch(() => undefined)));
  if (there === undefined || there.ino !== source?.ino || there.dev !== source.dev) return;
  throw new TorchBindError(
    `save: ${path} holds the state of an optimizer, and this model was opened without it. Open it with ` +
      `GPT.load(path, { optimizer: true }) to keep it, or pass { optimizer: null } to drop it.`,
    'ERR_TORCHBIND_SAVE',
  );
}

/** A model that was only opened knows no optimizer; saving it over its own bundle must not throw that one away. */
async function refuseToDropOptimizer(directory: string): Promise<void> {
  const there = await stat(join(directory, 'optimizer.pt')).catch(() => undefined);
  if (there === undefined) return;
  throw new TorchBindError(
    `saveCheckpointBundle: ${directory} holds an optimizer.pt, and this model has no optimizer to replace it. ` +
      `To keep it and write the weights only, use save(directory); to go on training, use CheckpointManager's ` +
      `initializeForTraining; to drop it, pass { optimizerState: null }.`,
    'ERR_TORCHBIND_SAVE',
  );
}
