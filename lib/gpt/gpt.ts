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
  /** Where the parameters go. Default: the device that the config names if this machine has it, else `cpu`. */
  device?: DeviceName;
  /**
   * What the weights are kept and computed in: `float32` (default), `bfloat16`, `float16`, or `auto`, which is what the files
   * have (transformers' `dtype`). A model is saved in the precision of its files, or in this one where it is not float32.
   */
  dtype?: WeightDType | 'auto';
  /**
   * Map weights in safetensors instead of reading them: opening takes no time, and memory is taken for what is used. The files must
   * then not be overwritten in place while the model is open; `save` replaces them. Default: files of Hugging Face of 256 MB and more.
   */
  mmap?: boolean;
  /**
   * Facts of the architecture that the files do not say, as `{ nHead: 12 }` for a bare state dict; they go before what the
   * files say.
   */
  config?: Partial<GPTOptions>;
  /**
   * Instead of the tokenizer that comes with the model, which is then not looked at; null for none. Default: what
   * `loadTokenizer` finds next to it.
   */
  tokenizer?: Tokenizer | null;
  /** Load the optimizer too where the files hold one, and the step: `fit` then continues with it. Default false. */
  optimizer?: boolean;
  /** Of LoRA adapters what the files do not say: `{ alpha: 32 }`. It goes before what they say. */
  lora?: LoraFacts;
  /** Of a PEFT adapter's directory: where the model is that it belongs to. Default: the local path that it names. */
  base?: PathLike;
  /**
   * Go on training from weights that another program replaced alone, with the optimizer and the step of the weights before.
   * Default false: that is refused with ERR_TORCHBIND_MIXED_STATE.
   */
  allowMixed?: boolean;
  /**
   * Of a single file: what to do with objects of foreign classes next to the weights. Default `inert`: they are kept as data,
   * and written back; `refuse` refuses the file.
   */
  unknown?: 'refuse' | 'inert';
}

/** Options of `gpt.push`: those of the export, by default in the form `huggingface`, and of the commit. */
export interface GPTPushOptions extends Omit<ExportOptions, 'overwrite'>, PushOptions {
  signal?: AbortSignal;
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
export class GPT extends TextModel {
  #optimizer: AnyOptimizer | undefined;
  #step: number | null = null;
  #extra: JsonObject = {};
  #run: (() => RunState) | undefined;
  #origin: Origin | undefined;
  /** Whether dropout is 0 because nothing said what it is. */
  #takesNoDropout = false;

  constructor(config: GPTOptions, options?: GPTModelOptions) {
    super(config, options);
  }

  /** The optimizer that the model was last trained with, or that was resumed with it. */
  get optimizer(): AnyOptimizer | undefined {
    return this.#optimizer;
  }

  /** Where the model was opened, in which form, and what was seen there; undefined for a new one. */
  get origin(): { path: string; form: string; layout: string; saw: readonly string[] } | undefined {
    if (this.#origin === undefined) return undefined;
    const { path, program, saw } = this.#origin;
    return { path, form: program, layout: this.layout.name, saw };
  }

  /** Optimizer updates made; null for a model that was never trained here and whose files do not say. */
  get step(): number | null {
    settle(this); // The step belongs to the weights that are read next.
    return this.#step;
  }

  /**
   * Trains the model on a text; a second call continues with the same optimizer, random numbers and place in the text.
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

  /** Once: generation does not need dropout, and training does. */
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
   * Rounds the weights of all Linears to integers of 8 or 4 bits, in place, and makes the rest bfloat16: the model generates faster
   * in less memory, on the CPU, and cannot be trained any more. Its optimizer is forgotten. `save` and `GPT.load` keep the integers.
   * See `nn.QuantizedLinear` for what is stored.
   *
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT for options without a kernel, for a model with adapters and for one that is
   *   quantized already; ERR_TORCHBIND_DEVICE for one that is not on the CPU
   */
  quantize(options: QuantizeOptions): this {
    exclusively(this, () => quantizeModel(this, options));
    this.setTraining(undefined, this.#step);
    this.#origin = undefined; // it is written in the form of quantized models now
    return this;
  }

  /** Makes this optimizer the one that `fit` continues with and that bundles are saved with. */
  setTraining(optimizer: AnyOptimizer | undefined, step: number | null, run?: RunState | (() => RunState)): void {
    this.#run = typeof run === 'object' ? () => run : run;
    this.#optimizer = optimizer;
    this.#step = step;
  }

  /** What saving needs besides the model. */
  #training(): Training {
    const origin = this.#origin && withGenerationJson(this.#origin, this.generationJson);
    return { optimizer: this.#optimizer, step: this.#step, run: this.#run, extra: this.#extra, origin };
  }

  /**
   * A new AdamW over the parameters that are not frozen, with the groups, weight decay and betas that the layout's Python
   * program gives its optimizer. `fit` makes the same.
   *
   * @param options go before the program's values; weight decay is that of the group that decays
   */
  makeOptimizer(options: AdamWOptions = {}): AdamW {
    return makeOptimizer(this, options);
  }

  /**
   * An optimizer that resumes from what the one of the layout's Python program wrote, of its class (AdamW, Adam, Adagrad or SGD)
   * and with its groups.
   *
   * @throws ERR_TORCHBIND_OPTIMIZER_STATE, in the file's names, for what does not fit or cannot be carried over exactly,
   *   and for other classes of optimizers, by name
   */
  resumeOptimizer(stateDict: ReadonlyMap<string, unknown>): AnyOptimizer {
    return resumeOptimizer(this, stateDict);
  }

  /**
   * The state dict of an optimizer over this model's parameters, as the optimizer of the layout's Python program writes
   * it: Python's `load_state_dict` takes it. `param_names` tells which key each number stands for, unless the
   * optimizer came from a file without them.
   */
  optimizerStateDict(optimizer: Optimizer): Map<string, unknown> {
    return optimizerStateDict(this, optimizer);
  }

  /**
   * Loads what the optimizer of the layout's Python program wrote into an optimizer over this model's parameters. Its
   * groups must divide the parameters as the file's do.
   *
   * @throws ERR_TORCHBIND_OPTIMIZER_STATE, in the file's names, for what does not fit or cannot be carried over exactly
   */
  loadOptimizerStateDict(optimizer: Optimizer, stateDict: ReadonlyMap<string, unknown>): void {
    loadOptimizerStateDict(this, optimizer, stateDict);
  }

  /** What the trainer does with files. */
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
   * Writes the model: in the form that it came in, such as nanoGPT's `ckpt.pt` or a directory of Hugging Face, or in that of
   * the family that `layout` names. A bundle's directory gets what inference needs, `model.pt`, `config.json` and
   * `tokenizer.json`, and a training state that is there stays as it is. A path that ends in `.pt`, `.pth` or `.bin` is a
   * file's.
   *
   * @throws ERR_TORCHBIND_CONVERT naming what the family that `layout` names has no place for; ERR_TORCHBIND_SAVE where an
   *   optimizer that is in the file would be lost, or where it cannot be written
   */
  async save(path: PathLike, options: SaveModelOptions = {}): Promise<void> {
    return atWholeUpdate(this, (copies) => saveModel(this, this.#training(), path, options, copies));
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
  saveCheckpointFile(directory: PathLike, options: SaveCheckpointFileOptions): Promise<string> {
    return atWholeUpdate(this, (copies) => saveSingleFile(this, this.#training(), directory, options, copies));
  }

  /**
   * Writes a release package: what inference needs and nothing else, with a model card and checksums. A path that ends in `.zip`
   * or `.tar.gz` is an archive's, any other a directory's. `GPT.load` opens all of them. The same model, with the same options and
   * versions, gives the same bytes.
   *
   * @throws ERR_TORCHBIND_SAVE where something is there that is not a release package, or where one is there and `overwrite` is not
   *   given; ERR_TORCHBIND_CONVERT naming what the form has no place for; ERR_TORCHBIND_INVALID_ARGUMENT; the signal's reason
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
   * Exports the model, by default for Hugging Face, and uploads the package to the hub in one commit: `hf:owner/name`, or
   * `hf:owner/name@branch`. A repository that is not there is made.
   *
   * @throws as `export` does; ERR_TORCHBIND_HUB_ACCESS without a token that may write there; ERR_TORCHBIND_HUB
   */
  async push(reference: string, options: GPTPushOptions = {}): Promise<PushResult> {
    checkArgument(isPlainObject(options), 'an object of options', options, 'push');
    const { message, private: isPrivate, ...rest } = options;
    const name = parseReference(reference, 'push').repo.split('/').pop()!;
    const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-push-'));
    const target = path.join(directory, 'package');
    // What is pushed is the state at the call, also where the hub's settings are still to be read.
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
   * Writes the LoRA adapters alone, as PEFT's `save_pretrained` does: `adapter_config.json` and `adapter_model.safetensors`.
   * `PeftModel.from_pretrained(base, directory)` and `GPT.load(directory, { base })` take them.
   *
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT where the model is not of a family of Hugging Face or has no adapters
   */
  async saveAdapter(directory: PathLike): Promise<void> {
    return atWholeUpdate(this, (copies) => saveAdapter(this, this.#training(), directory, copies));
  }

  /**
   * Writes the model's bundle, which replaces the one in the directory: the weights, the config and the tokenizer, and
   * what resuming needs, the step and the optimizer, where these are known. At every moment the directory holds the old
   * bundle or the new one.
   *
   * @throws ERR_TORCHBIND_SAVE where a file cannot be written, or where an optimizer that is there would be lost because
   *   the model has none; the old bundle then stands
   */
  async saveCheckpointBundle(directory: PathLike, options: SaveBundleOptions = {}): Promise<void> {
    return atWholeUpdate(this, (copies) => saveBundle(this, this.#training(), directory, options, copies));
  }

  /**
   * Opens a model in whatever form a program left it, or one of the Hugging Face hub, `hf:owner/name` or `hf:owner/name@revision`, which
   * is fetched into the cache of Python's huggingface_hub unless it is there (see `download`). Forms: a bundle's directory; a directory of Hugging Face's GPT-2; `checkpoint-N`
   * of Hugging Face's Trainer, or its output directory, of which the last complete one is opened; nanoGPT's `ckpt.pt` or its
   * directory; a single-file checkpoint; a state dict of a known family. What it is, is told by what it holds: `origin` says
   * what was seen.
   *
   * @throws CheckpointError naming the file that is missing or not right; ERR_TORCHBIND_LAYOUT for weights of no known family;
   *   ERR_TORCHBIND_VOCABULARY for a tokenizer with more tokens than the model; ERR_TORCHBIND_CONFIG naming the fact to give in `config` where the files do not tell
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

  /** Opens a checkpoint of a single file, `{ model_state_dict, config, tokenizer, step, optimizer_state_dict }`. */
  static async loadLegacy(target: PathLike, options: LoadModelOptions = {}): Promise<LegacyCheckpoint> {
    checkOptions(options, ['device'], 'GPT.loadLegacy');
    const saved = await readLegacy(toPath(target, 'GPT.loadLegacy'), { device: 'cpu', optimizer: true });
    const model = await GPT.fromSaved(saved, { device: options.device });
    const { tokenizer, step, config } = model;
    return { model, tokenizer, step, optimizerState: saved.optimizerState, config };
  }

  /** @internal The model that was saved; takes the weights that were read, or frees them. */
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
      const model = withoutCollections(() => new GPT(saved.config, options));
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

/** The path of a model: of one on the hub, where it is in the cache. */
async function localPath(target: PathLike, where: string): Promise<string> {
  return isHubReference(target) ? downloadShowing(String(target)) : toPath(target, where);
}

/** A config that names a GPU never keeps a model from being opened on a machine without one. */
export function resolveDevice(requested: DeviceName | undefined, configured: string): DeviceName {
  if (requested !== undefined) return requested;
  const [type, index = '0'] = configured.split(':');
  return type === 'cuda' && Number(index) < cuda.deviceCount() ? (configured as DeviceName) : 'cpu';
}
