import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkArgument, checkFlags, checkOptions, type PathLike, requireOptions, toPath, withPath } from '../errors';
import type { JsonObject } from '../checkpoint/files';
import { lockDirectory } from '../checkpoint/commit';
import { readLegacy } from '../checkpoint/programs/legacy';
import { attachPeft, attachSaved } from '../checkpoint/adapters';
import { openModel } from '../checkpoint/open';
import { atWholeUpdate } from '../compute';
import {
  checkVocabulary,
  checkWeightCount,
  type LoraFacts,
  type Origin,
  type SavedModel,
  saysDropout,
} from '../checkpoint/saved-model';
import { exclusively, settle } from '../models/in-use';
import { checkWeightDType, isWeightDType, type WeightDType } from '../models/precision';
import { checkSize } from '../models/size';
import { quantizeModel, type QuantizeOptions, refuseQuantized } from '../models/quantize';
import { type GPTConfig, type GPTOptions } from '../models/config';
import type { GPTModelOptions } from '../models/gpt-model';
import {
  adoptOptimizer,
  loadOptimizerStateDict,
  makeOptimizer,
  optimizerStateDict,
  prepareOptimizerState,
  resumeOptimizer,
} from '../models/optimizers';
import { downloadShowing } from '../hub/show-progress';
import { preparePush, type PushOptions, type PushResult } from '../hub/push';
import { isHubReference, parseReference } from '../hub/reference';
import { keptGenerationJson, withGenerationJson } from '../checkpoint/generation-json';
import { exportModel, type ExportOptions, type ExportResult } from '../export/export';
import type { AdamW, AdamWOptions, AnyOptimizer, Optimizer } from '../optim';
import {
  replaceBundle,
  saveAdapter,
  saveBundle,
  type SaveBundleOptions,
  type SaveCheckpointFileOptions,
  saveModel,
  type SaveModelOptions,
  saveSingleFile,
  type Training,
} from './save';
import { TextModel } from './text-model';
import { withPlaceholders } from '../nn/parameter';
import { isPlainObject, withoutUndefined } from '../objects';
import { cuda } from '../tensor/device';
import { withoutCollections } from '../tensor/off-loop';
import { dispose } from '../tensor/scope';
import type { Tokenizer } from '../tokenizers';
import {
  type Bundles,
  checkOptimizer,
  FIT_OPTIONS,
  FIT_SYNONYMS,
  type FitOptions,
  type FitResult,
  perplexity,
  readRun,
  type RunState,
  saveRun,
  train,
  type TrainEvent,
} from '../train';
import type { DeviceName } from '../tensor/schema-types';

const loadOptions = [
  'device',
  'dtype',
  'mmap',
  'config',
  'tokenizer',
  'optimizer',
  'lora',
  'base',
  'allowMixed',
  'unknown',
];

/** Options of `GPT.load`. */
export interface LoadModelOptions {
  /** Device of the parameters. Default: the device in the config if this machine has it, else `cpu`. */
  device?: DeviceName;
  /**
   * Dtype of the weights in memory and in computation: `float32` (default), `bfloat16`, `float16`, or `auto` for the
   * dtype of the files (transformers' `dtype`). `save` writes the dtype of the files, or this one if it is not float32.
   */
  dtype?: WeightDType | 'auto';
  /**
   * Memory-map safetensors weights instead of reading them: opening is immediate, and only weights that are used take
   * memory. Do not overwrite the files in place while the model is open; `save` replaces them safely. Default: true for
   * Hugging Face files of 256 MB and more.
   */
  mmap?: boolean;
  /**
   * Config fields that the files leave open, such as `{ nHead: 12 }` for a bare state dict. They override those in the
   * files.
   */
  config?: Partial<GPTOptions>;
  /**
   * A tokenizer to use instead of the model's own, which is then not read; null for none. Default: the one that
   * `loadTokenizer` finds next to the model.
   */
  tokenizer?: Tokenizer | null;
  /** Also load the optimizer and step if the files hold them, so that `fit` continues with them. Default false. */
  optimizer?: boolean;
  /** Facts of LoRA adapters that the files leave open, such as `{ alpha: 32 }`. They override those in the files. */
  lora?: LoraFacts;
  /** For a PEFT adapter: path of its base model. Default: the local path in the adapter's config. */
  base?: PathLike;
  /**
   * Train weights that another program replaced with the optimizer and step of the previous weights. Default false:
   * throws ERR_TORCHBIND_MIXED_STATE.
   */
  allowMixed?: boolean;
  /**
   * For a single file: what to do with objects of foreign classes next to the weights. `inert` (default) keeps them as
   * data and writes them back; `refuse` refuses the file.
   */
  unknown?: 'refuse' | 'inert';
}

/** Options of `gpt.push`: those of the export, by default in the form `huggingface`, and of the commit. */
export interface GPTPushOptions extends Omit<ExportOptions, 'overwrite'>, PushOptions {
  signal?: AbortSignal;
}

/** What `GPT.loadLegacy` returns. */
export interface LegacyCheckpoint {
  model: GPT;
  tokenizer: Tokenizer | null;
  /** Number of optimizer updates made; null if the file does not say. */
  step: number | null;
  /** The state dict of the Python optimizer, for `model.loadOptimizerStateDict(optimizer, optimizerState)`. */
  optimizerState: Map<string, unknown> | null;
  config: GPTConfig;
}

/**
 * A GPT language model: trains, generates, and reads and writes the checkpoints of PyTorch programs.
 *
 * The model keeps the layout of its checkpoint, that is its keys and their order, and is saved in it.
 */
export class GPT extends TextModel {
  #optimizer: AnyOptimizer | undefined;
  #step: number | null = null;
  #extra: JsonObject = {};
  #run: (() => RunState) | undefined;
  #origin: Origin | undefined;
  /** Whether dropout is 0 because the files do not record it. */
  #takesNoDropout = false;

  constructor(config: GPTOptions, options?: GPTModelOptions) {
    super(config, options);
  }

  /** The model's last optimizer, from `fit` or from its checkpoint. */
  get optimizer(): AnyOptimizer | undefined {
    return this.#optimizer;
  }

  /** Where the model came from: path, form, layout, and the evidence for them; undefined for a new model. */
  get origin(): { path: string; form: string; layout: string; saw: readonly string[] } | undefined {
    if (this.#origin === undefined) return undefined;
    const { path, program, saw } = this.#origin;
    return { path, form: program, layout: this.layout.name, saw };
  }

  /** Number of optimizer updates made; null for a model that was not trained here and whose files do not say. */
  get step(): number | null {
    settle(this); // The step belongs to the weights that are read next.
    return this.#step;
  }

  /**
   * Trains the model. A second call continues with the same optimizer, random numbers and position in the data. The
   * event loop is not blocked.
   *
   * @returns step, losses, why training stopped, and the optimizer
   * @throws before training: ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_UNKNOWN_OPTION,
   *   ERR_TORCHBIND_UNKNOWN_CHARACTER, ERR_TORCHBIND_BUSY during another `fit`; during training:
   *   ERR_TORCHBIND_NONFINITE_LOSS, ERR_TORCHBIND_SAVE, ERR_TORCHBIND_DATA
   */
  async fit(options: FitOptions): Promise<FitResult> {
    const events = this.fitEvents(options);
    for (;;) {
      const { done, value } = await events.next();
      if (done === true) return value;
    }
  }

  /**
   * As `fit`, but yields each event as it happens: `for await (const event of gpt.fitEvents(options))`. Leaving the
   * loop stops training. The generator returns the result of `fit`.
   */
  fitEvents(options: FitOptions): AsyncGenerator<TrainEvent, FitResult> {
    requireOptions(options, FIT_OPTIONS, 'fit', FIT_SYNONYMS);
    refuseQuantized(this, 'fit');
    checkOptimizer(options);
    this.#warnOfDropout();
    const optimizer = options.optimizer ?? this.#optimizer;
    const continued = optimizer !== undefined && optimizer === this.#optimizer;
    const startStep = options.startStep ?? (continued ? (this.#step ?? 0) : 0);
    const settings = { ...options, optimizer, startStep };
    // Now, as the program may change its working directory while it trains.
    if (typeof options.checkpointDir === 'string') settings.checkpointDir = path.resolve(options.checkpointDir);
    return train(this, settings, this.#bundles(), continued ? this.#run?.() : undefined);
  }

  /** Warns once, in training only: generation does not use dropout. */
  #warnOfDropout(): void {
    if (!this.#takesNoDropout) return;
    this.#takesNoDropout = false;
    process.emitWarning(
      `${this.#origin!.path} does not say which dropout its model is trained with: it is trained without. Say it: ` +
        'GPT.load(path, { config: { dropout: 0.2 } }), or 0.',
      { code: 'TORCHBIND_DROPOUT' },
    );
  }

  /**
   * Quantizes the model in place: rounds the weights of all Linears to integers of 8 or 4 bits, and converts the rest
   * to bfloat16. It then generates faster in less memory, on the CPU, and cannot be trained. Its optimizer is dropped.
   * `save` and `GPT.load` keep the integers. `nn.QuantizedLinear` describes the storage.
   *
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT for options without a kernel, for a model with adapters and for a quantized
   *   model; ERR_TORCHBIND_DEVICE if the model is not on the CPU
   */
  quantize(options: QuantizeOptions): this {
    exclusively(this, () => quantizeModel(this, options));
    this.setTraining(undefined, this.#step);
    this.#origin = undefined; // it is written in the form of quantized models now
    return this;
  }

  /** Sets the optimizer with which `fit` continues and bundles are saved. */
  setTraining(optimizer: AnyOptimizer | undefined, step: number | null, run?: RunState | (() => RunState)): void {
    this.#run = typeof run === 'object' ? () => run : run;
    this.#optimizer = optimizer;
    this.#step = step;
  }

  /** The training state for saving. */
  #training(): Training {
    const origin = this.#origin && withGenerationJson(this.#origin, this.generationJson);
    return { optimizer: this.#optimizer, step: this.#step, run: this.#run, extra: this.#extra, origin };
  }

  /**
   * Makes a new AdamW over the parameters that are not frozen, with the groups, weight decay and betas of the layout's
   * Python program. `fit` makes the same.
   *
   * @param options override the program's values; `weightDecay` applies to the group that decays
   */
  makeOptimizer(options: AdamWOptions = {}): AdamW {
    return makeOptimizer(this, options);
  }

  /**
   * Makes an optimizer from a state dict that the layout's Python program wrote, of the same class (AdamW, Adam,
   * Adagrad or SGD) and with the same groups.
   *
   * @param stateDict as Python's `optimizer.state_dict()`
   * @throws ERR_TORCHBIND_OPTIMIZER_STATE, in the file's names, if the state does not fit, cannot be converted exactly,
   *   or belongs to another class of optimizer
   */
  resumeOptimizer(stateDict: ReadonlyMap<string, unknown>): AnyOptimizer {
    return resumeOptimizer(this, stateDict);
  }

  /**
   * Returns the state dict of an optimizer over this model's parameters in the form of the layout's Python program, for
   * Python's `load_state_dict`. `param_names` maps numbers to keys, unless the optimizer came from a file without it.
   */
  optimizerStateDict(optimizer: Optimizer): Map<string, unknown> {
    return optimizerStateDict(this, optimizer);
  }

  /**
   * Loads a state dict that the layout's Python program wrote into an optimizer over this model's parameters. Both must
   * have the same groups.
   *
   * @throws ERR_TORCHBIND_OPTIMIZER_STATE, in the file's names, if the state does not fit or cannot be converted
   *   exactly
   */
  loadOptimizerStateDict(optimizer: Optimizer, stateDict: ReadonlyMap<string, unknown>): void {
    loadOptimizerStateDict(this, optimizer, stateDict);
  }

  /** File operations for the trainer. */
  #bundles(): Bundles {
    return {
      save: (directory, { step, optimizer, run, metrics, keep = {} }, copies) => {
        const contents = { step, optimizer, run: saveRun(run), metrics, keep };
        return replaceBundle(this, this.#training(), directory, contents, copies);
      },
      restore: async (directory, optimizer, onRestored) => {
        const saved = await openModel(directory, { device: 'cpu', optimizer: true });
        try {
          const { optimizerState } = saved;
          const restoreOptimizer =
            optimizerState === null ? undefined : await prepareOptimizerState(this, optimizer, optimizerState);
          this.loadStateDict(saved.weights);
          restoreOptimizer?.();
          const { step, run } = saved.training;
          onRestored({ step: step ?? 0, run: run === null ? undefined : readRun(run) });
        } finally {
          dispose([saved.weights, saved.optimizerState]);
        }
      },
      lock: (directory) => lockDirectory(directory, this),
      publish: ({ step, optimizer, run }) => this.setTraining(optimizer, step, run),
    };
  }

  /**
   * Saves the model in the form that it came in, such as nanoGPT's `ckpt.pt` or a Hugging Face directory, or in the
   * form of the family `layout`. For a bundle this writes `model.pt`, `config.json` and `tokenizer.json`; an existing
   * training state stays. A path that ends in `.pt`, `.pth` or `.bin` is a file, one that ends in `.gguf` a file for
   * llama.cpp. The save is atomic.
   *
   * @throws ERR_TORCHBIND_CONVERT naming what the family `layout` cannot hold; ERR_TORCHBIND_SAVE if an optimizer in
   *   the file would be lost, or if writing fails
   */
  async save(path: PathLike, options: SaveModelOptions = {}): Promise<void> {
    return atWholeUpdate(this, (copies) => saveModel(this, this.#training(), path, options, copies));
  }

  /**
   * Saves everything in one file, as build_llm_karpathy does:
   * `checkpoint_{model}_{source}_step{N}_{mmddYYYY_HHMMSS}.pt` with weights, optimizer, hyperparameters and tokenizer.
   * Its programs and `GPT.load` open it, and `findCheckpoints` finds it. A model of a family other than `build-llm` and
   * `hf-gpt2` is converted if that is exact, without its optimizer.
   *
   * @returns the path of the file
   * @throws ERR_TORCHBIND_CONVERT naming what the family cannot hold; ERR_TORCHBIND_SAVE if writing fails
   */
  saveCheckpointFile(directory: PathLike, options: SaveCheckpointFileOptions): Promise<string> {
    return atWholeUpdate(this, (copies) => saveSingleFile(this, this.#training(), directory, options, copies));
  }

  /**
   * Writes a release package: weights, config and tokenizer with a model card and checksums, without training state. A
   * path that ends in `.zip` or `.tar.gz` is an archive, any other a directory. `GPT.load` opens all of them. The same
   * model with the same options and versions gives the same bytes.
   *
   * @throws ERR_TORCHBIND_SAVE if the path holds something else, or a package and `overwrite` is not set;
   *   ERR_TORCHBIND_CONVERT naming what the form cannot hold; ERR_TORCHBIND_INVALID_ARGUMENT; the signal's reason
   */
  async export(path: PathLike, options: ExportOptions = {}): Promise<ExportResult> {
    const target = toPath(path, 'export');
    const measure = async (directory: string, ids: ArrayLike<number>): Promise<number> => {
      const model = await GPT.load(directory, { device: 'cpu', tokenizer: null });
      try {
        return await perplexity(model, ids);
      } finally {
        model.dispose();
      }
    };
    return atWholeUpdate(this, (copies) => {
      const { step, origin } = this.#training();
      return exportModel({ model: this, step, origin, measure }, target, options, copies);
    });
  }

  /**
   * Exports the model, by default in Hugging Face's form, and uploads the package to the hub in one commit. The
   * reference is `hf:owner/name` or `hf:owner/name@branch`. A missing repository is created.
   *
   * @throws as `export`; ERR_TORCHBIND_HUB_ACCESS without a token with write access; ERR_TORCHBIND_HUB
   */
  async push(reference: string, options: GPTPushOptions = {}): Promise<PushResult> {
    checkArgument(isPlainObject(options), 'an object of options', options, 'push');
    const { message, private: isPrivate, ...rest } = options;
    const name = parseReference(reference, 'push').repo.split('/').pop()!;
    const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-push-'));
    const target = path.join(directory, 'package');
    // Pushes the state at the call, even if the hub's settings must be read first.
    const exporting = this.export(target, { form: 'huggingface', name, ...rest });
    try {
      const own = withoutUndefined({ message, private: isPrivate, signal: rest.signal });
      const [upload] = await Promise.all([preparePush(reference, own), exporting]);
      return await upload(target);
    } finally {
      await exporting.catch(() => undefined);
      await rm(directory, { recursive: true, force: true });
    }
  }

  /**
   * Saves only the LoRA adapters, as PEFT's `save_pretrained`: `adapter_config.json` and `adapter_model.safetensors`.
   * `PeftModel.from_pretrained(base, directory)` and `GPT.load(directory, { base })` open them.
   *
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT if the model has no adapters or is not of a Hugging Face family
   */
  async saveAdapter(directory: PathLike): Promise<void> {
    return atWholeUpdate(this, (copies) => saveAdapter(this, this.#training(), directory, copies));
  }

  /**
   * Saves a bundle, which replaces the one in the directory: weights, config and tokenizer, and step and optimizer if
   * known. The save is atomic.
   *
   * @throws ERR_TORCHBIND_SAVE if a file cannot be written, or if an existing optimizer would be lost because the model
   *   has none; the old bundle then stays. ERR_TORCHBIND_LOCKED if another process or run writes there
   */
  async saveCheckpointBundle(directory: PathLike, options: SaveBundleOptions = {}): Promise<void> {
    return atWholeUpdate(this, (copies) => saveBundle(this, this.#training(), directory, options, copies));
  }

  /**
   * Opens a model from a path, or from the Hugging Face hub (`hf:owner/name` or `hf:owner/name@revision`), which is
   * downloaded into the cache of Python's huggingface_hub if it is not there (see `download`).
   *
   * The path may be a bundle's directory; a Hugging Face directory; `checkpoint-N` of Hugging Face's Trainer, or its
   * output directory, whose last complete checkpoint is opened; a PEFT adapter; a distributed checkpoint; a release
   * package; nanoGPT's `ckpt.pt` or its directory; a single-file checkpoint; a state dict of a known family. Contents
   * decide, not names; `origin` says what was recognised.
   *
   * @throws CheckpointError naming the file that is missing or invalid; ERR_TORCHBIND_LAYOUT for weights of an unknown
   *   family; ERR_TORCHBIND_VOCABULARY for a tokenizer with more tokens than the model; ERR_TORCHBIND_CONFIG naming the
   *   field to pass in `config` if the files leave it open, or what the model here does not compute
   */
  static async load(target: PathLike, options: LoadModelOptions = {}): Promise<GPT> {
    checkOptions(options, loadOptions, 'GPT.load');
    checkOptions(options.lora, ['alpha', 'dropout'], 'GPT.load lora');
    checkArgument(options.config !== null, "an object for 'config'", options.config, 'GPT.load');
    const {
      device,
      dtype = 'float32',
      mmap,
      config,
      tokenizer,
      optimizer = false,
      lora,
      allowMixed,
      unknown,
    } = options;
    if (dtype !== 'auto') checkWeightDType(dtype, 'GPT.load');
    checkFlags({ mmap }, 'GPT.load');
    const base = options.base === undefined ? undefined : await localPath(options.base, 'GPT.load: base');
    const saved = await openModel(await localPath(target, 'GPT.load'), {
      device: 'cpu',
      optimizer,
      config,
      tokenizer,
      base,
      mmap,
      allowMixed,
      unknown,
    });
    try {
      const model = await GPT.fromSaved(saved, { device, dtype, lora });
      if (optimizer && saved.optimizerState !== null) {
        const { step, run } = saved.training;
        const resumed = await adoptOptimizer(model, saved.optimizerState);
        model.setTraining(resumed, step, run === null ? undefined : readRun(run));
      }
      return model;
    } finally {
      dispose(saved.optimizerState);
    }
  }

  /**
   * Opens a single-file checkpoint, `{ model_state_dict, config, tokenizer, step, optimizer_state_dict }`, and returns
   * its parts.
   */
  static async loadLegacy(target: PathLike, options: LoadModelOptions = {}): Promise<LegacyCheckpoint> {
    checkOptions(options, ['device'], 'GPT.loadLegacy');
    const saved = await readLegacy(toPath(target, 'GPT.loadLegacy'), { device: 'cpu', optimizer: true });
    const model = await GPT.fromSaved(saved, { device: options.device });
    const { tokenizer, step, config } = model;
    return { model, tokenizer, step, optimizerState: saved.optimizerState, config };
  }

  /** @internal Builds the saved model. Takes ownership of the weights, or frees them. */
  static async fromSaved(
    saved: SavedModel,
    given: Pick<LoadModelOptions, 'device' | 'dtype' | 'lora'> = {},
  ): Promise<GPT> {
    try {
      checkVocabulary(saved);
      checkWeightCount(saved);
      const device = resolveDevice(given.device, saved.config.device);
      const { dtype: own } = saved.origin;
      const dtype = given.dtype === 'auto' ? (isWeightDType(own) ? own : 'float32') : (given.dtype ?? 'float32');
      if (dtype !== (own ?? 'float32')) checkSize(saved.config, { device, dtype }); // what is converted is copied
      const options = { tokenizer: saved.tokenizer, layout: saved.recognised.layout, device, dtype, init: false };
      // The event loop turns before and after what cannot be divided.
      await nextTurn();
      const model = withoutCollections(() => withPlaceholders(() => new GPT(saved.config, options)));
      withPath(saved.origin.path, () => attachSaved(model, saved, given.lora));
      await nextTurn();
      await model.adoptStateDict(saved.weights);
      if (saved.adapter !== undefined) withPath(saved.origin.path, () => attachPeft(model, saved.adapter!));
      if (saved.opensInEval === true) model.eval();
      model.#step = saved.training.step;
      model.#extra = saved.training.extra;
      // An adapter has a precision of its own.
      const keeps = dtype === 'float32' || saved.adapter !== undefined;
      model.#origin = keeps ? saved.origin : { ...saved.origin, dtype };
      model.generationJson = saved.generationConfig ?? keptGenerationJson(saved.origin);
      if (!saysDropout(saved.config)) {
        model.#takesNoDropout = true;
        model.#origin = { ...model.#origin, saw: [...saved.origin.saw, 'no dropout: it is taken to be 0'] };
      }
      return model;
    } finally {
      dispose([saved.weights, saved.adapter?.weights]);
    }
  }
}

/** The local path of a model; for a model on the hub, its directory in the cache. */
async function localPath(target: PathLike, where: string): Promise<string> {
  return isHubReference(target) ? downloadShowing(String(target)) : toPath(target, where);
}

/** A config that names a GPU does not prevent opening the model on a machine without one. */
export function resolveDevice(requested: DeviceName | undefined, configured: string): DeviceName {
  if (requested !== undefined) return requested;
  const [type, index = '0'] = configured.split(':');
  return type === 'cuda' && Number(index) < cuda.deviceCount() ? (configured as DeviceName) : 'cpu';
}
