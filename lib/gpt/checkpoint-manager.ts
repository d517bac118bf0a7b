import path from 'node:path';
import {
  checkArgument,
  checkOptions,
  CheckpointCode,
  CheckpointError,
  describe,
  type PathLike,
  requireOptions,
  toPath,
  TorchBindError,
} from '../errors';
import { resolveDevice, GPT } from './gpt';
import type { GPTOptions } from '../models/config';
import { adoptOptimizer } from '../models/optimizers';
import type { AnyOptimizer } from '../optim';
import { dispose } from '../tensor/scope';
import { type Tokenizer, tokenizerForText } from '../tokenizers';
import { readRun, type RunState } from '../train';
import { locate, locateIfThere } from '../checkpoint/locate';
import { openModel } from '../checkpoint/open';
import { nanogpt } from '../checkpoint/programs/nanogpt';
import { recoverBundle, refuseStep, rollbackBundle } from '../checkpoint/commit';
import { compare, type Comparison } from '../checkpoint/compare';
import { convertLegacy } from './convert-legacy';
import { type CheckpointEntry, listEntries, stepEntry } from '../checkpoint/entries';
import { bundleFiles, exists } from '../checkpoint/files';
import { inspect } from '../checkpoint/inspect';
import type { Inspection } from '../checkpoint/inspection';
import type { Metrics } from '../checkpoint/manifest';
import { legacyFiles } from '../checkpoint/programs/legacy';
import { bestSteps, type KeepOptions, keepRules } from '../checkpoint/retention';
import { noTraining, type SavedModel } from '../checkpoint/saved-model';
import { listSteps, type StepBundle } from '../checkpoint/manifest';
import type { DeviceName } from '../tensor/schema-types';

/** Options of `CheckpointManager`. */
export interface ManagerOptions {
  /**
   * Parent directory of the models, one subdirectory for each. Default `checkpoints`, relative to the working
   * directory.
   */
  root?: PathLike;
  /** Which bundles `saveState` keeps under `steps/`. Default `{ last: 2 }`. */
  keep?: KeepOptions;
}

/** Options of `CheckpointManager.loadForInference`. */
export interface LoadForInferenceOptions {
  /**
   * Parent directory of the models, one subdirectory for each. Default `checkpoints`, relative to the working
   * directory.
   */
  root?: PathLike;
  /** Device of the parameters. Default: the device in the config if this machine has it, else `cpu`. */
  device?: DeviceName;
  /** Name of a single-file checkpoint in the model's directory to open instead of its bundle. */
  legacyCheckpoint?: string;
  /** Open the kept bundle of this step instead of the newest bundle. */
  step?: number;
}

/** Options of `initializeForTraining`. */
export interface InitializeOptions {
  /** Config of a new model. Ignored when a model is resumed or `initFromModel` is used: these have their own config. */
  config?: Partial<GPTOptions>;
  /** Kind of tokenizer of a new model: `gpt2` (default) or `char`. The model of `initFromModel` must have this kind. */
  tokenization?: string;
  /** Tokenizer of a new model, instead of one of the kind `tokenization`. */
  tokenizer?: Tokenizer;
  /** The training text. A new character tokenizer takes its vocabulary from it. */
  text?: string;
  /** Learning rate of a new optimizer. A resumed optimizer keeps its saved rate. Default 3e-4. */
  learningRate?: number;
  /**
   * Name of a model under the same `root` whose weights a new model starts from. Ignored if this model has a
   * checkpoint.
   */
  initFromModel?: string;
  /**
   * Train weights that another program replaced with the optimizer and step of the previous weights. Default false:
   * throws ERR_TORCHBIND_MIXED_STATE.
   */
  allowMixed?: boolean;
  /** Device of the parameters. Default: the device in the config if this machine has it, else `cpu`. */
  device?: DeviceName;
}

/** What `initializeForTraining` returns: a model and optimizer to train from `startStep`. */
export interface TrainingStart {
  model: GPT;
  optimizer: AnyOptimizer;
  /** Number of optimizer updates made before, which is the index of the next one. */
  startStep: number;
  /** `resume`: the model's own checkpoint; `init`: the weights of another model; `fresh`: a new model. */
  mode: 'resume' | 'init' | 'fresh';
  /** The directory or file that was opened; null for a fresh model. */
  source: string | null;
}

/** Options of `saveState`. */
export interface SaveStateOptions {
  model: GPT;
  /** Optimizer to save. Default: the model's last optimizer. */
  optimizer?: AnyOptimizer;
  /** Number of optimizer updates made. Default: the model's `step`. */
  step?: number;
  /** Metrics of the bundle, such as `val_loss`, for `best()` and `keep.best`. */
  metrics?: Metrics;
}

const samplerDirectory = 'sampler';

/** Names of single-file checkpoints in a model's directory, in search order. */
const singleFiles = {
  inference: [...legacyFiles.inference, ...nanogpt.fileNames],
  resume: [...legacyFiles.resume, ...nanogpt.fileNames],
  init: [...legacyFiles.init, ...nanogpt.fileNames],
};

/**
 * Manages the checkpoints of one model in the directory `root/name`. Opens bundles and the single-file checkpoints of
 * the Python programs.
 */
export class CheckpointManager {
  /** Path of the model's directory, `root/name`. */
  readonly checkpointDir: string;
  private readonly root: string;
  private readonly keep: KeepOptions;

  /** @throws ERR_TORCHBIND_INVALID_ARGUMENT for a name that is not a plain directory name */
  constructor(
    readonly name: string,
    options: ManagerOptions = {},
  ) {
    checkOptions(options, ['root', 'keep'], 'CheckpointManager');
    this.root = toPath(options.root ?? 'checkpoints', 'CheckpointManager: root');
    this.keep = options.keep ?? {};
    keepRules(this.keep);
    this.checkpointDir = path.join(this.root, checkName(name, 'the name of a model'));
  }

  /**
   * Opens a model for inference: its bundle, else `latest.pt`, else `final.pt`, or the single file `legacyCheckpoint`.
   *
   * @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_OPEN if none exists; the error lists what was searched
   */
  static async loadForInference(name: string, options: LoadForInferenceOptions = {}): Promise<GPT> {
    checkOptions(options, ['root', 'device', 'legacyCheckpoint', 'step'], 'loadForInference');
    const { root, device, legacyCheckpoint, step } = options;
    const manager = new CheckpointManager(name, { root });
    if (step !== undefined) return GPT.load((await manager.stepOf(step)).directory, { device });
    const found = await manager.find(singleFiles.inference, { optimizer: false, file: legacyCheckpoint });
    if (found === undefined) throw manager.nothingFound(legacyCheckpoint ?? either(singleFiles.inference));
    dispose(found.saved.optimizerState);
    return GPT.fromSaved(found.saved, { device });
  }

  /**
   * Opens or makes the model to train. Uses the first that applies: the model's own checkpoint with its config,
   * tokenizer, step and optimizer (`resume`); the weights, config and tokenizer of `initFromModel` with step 0 and a
   * new optimizer (`init`); a new model (`fresh`).
   *
   * @throws CheckpointError if a checkpoint is damaged; ERR_TORCHBIND_INIT_FROM_MODEL if the base model has no
   *   checkpoint, no tokenizer, or a tokenizer of another kind; ERR_TORCHBIND_MIXED_STATE without `allowMixed`
   */
  async initializeForTraining(options: InitializeOptions = {}): Promise<TrainingStart> {
    const names = [
      'config',
      'tokenization',
      'tokenizer',
      'text',
      'learningRate',
      'initFromModel',
      'device',
      'allowMixed',
    ];
    checkOptions(options, names, 'initializeForTraining');
    checkArgument(options.config !== null, "an object for 'config'", options.config, 'initializeForTraining');
    await recoverBundle(this.checkpointDir);
    const own = await this.find(singleFiles.resume, { optimizer: true, allowMixed: options.allowMixed });
    if (own !== undefined) return this.resume(own, options);
    const { initFromModel } = options;
    return initFromModel === undefined ? this.fresh(options) : this.initFrom(initFromModel, options);
  }

  private async resume(
    { saved, source }: Found,
    { learningRate = 3e-4, device }: InitializeOptions,
  ): Promise<TrainingStart> {
    const model = await GPT.fromSaved(saved, { device });
    const { optimizerState } = saved;
    const optimizer =
      optimizerState === null ? model.makeOptimizer({ lr: learningRate }) : await adoptOptimizer(model, optimizerState);
    dispose(optimizerState);
    const { step, run } = saved.training;
    return start(model, optimizer, step ?? 0, 'resume', source, run === null ? undefined : readRun(run));
  }

  private async initFrom(base: string, options: InitializeOptions): Promise<TrainingStart> {
    const { tokenization, learningRate = 3e-4, device } = options;
    const manager = new CheckpointManager(base, { root: this.root });
    const found = await manager.find(singleFiles.init, { optimizer: false });
    if (found === undefined) throw refuseBase(base, `it has no checkpoint in ${manager.checkpointDir}`);
    const { saved, source } = found;
    dispose(saved.optimizerState);
    const tokenizer = saved.tokenizer ?? tokenizerForBase(base, saved, options);
    if (tokenization !== undefined && tokenizer.kind !== tokenization) {
      throw refuseBase(base, `its tokenizer is '${tokenizer.kind}', but tokenization is ${describe(tokenization)}`);
    }
    const model = await GPT.fromSaved({ ...saved, tokenizer, training: noTraining }, { device });
    return start(model, model.makeOptimizer({ lr: learningRate }), 0, 'init', source);
  }

  private fresh({
    config = {},
    tokenization = 'gpt2',
    text,
    tokenizer = newTokenizer(tokenization, text),
    learningRate = 3e-4,
    device,
  }: InitializeOptions): TrainingStart {
    const vocabSize = config.vocabSize ?? (tokenizer.kind === 'gpt2' ? paddedGpt2 : tokenizer.vocabSize);
    checkArgument(Number.isSafeInteger(vocabSize), "an integer for 'vocabSize'", vocabSize, 'initializeForTraining');
    if (vocabSize < tokenizer.vocabSize) {
      throw new TorchBindError(
        `The model's vocabSize is ${vocabSize}, but the tokenizer has ${tokenizer.vocabSize} tokens.`,
        'ERR_TORCHBIND_CONFIG',
      );
    }
    const options = { tokenizer, device: resolveDevice(device, config.device ?? 'cpu') };
    const model = new GPT({ ...config, vocabSize }, options);
    return start(model, model.makeOptimizer({ lr: learningRate }), 0, 'fresh', null);
  }

  /**
   * Saves a bundle from which training resumes: weights, config, tokenizer, optimizer and step. The save is atomic.
   *
   * @returns the model's directory
   * @throws ERR_TORCHBIND_SAVE, ERR_TORCHBIND_LOCKED
   */
  async saveState(options: SaveStateOptions): Promise<string> {
    requireOptions(options, ['model', 'optimizer', 'step', 'metrics'], 'saveState');
    checkModel(options.model, 'saveState');
    const { model, optimizer = model.optimizer, step = model.step, metrics } = options;
    if (optimizer === undefined || step === null) {
      throw new TorchBindError(
        'saveState: give the optimizer and the step (the number of updates made), which resuming needs. ' +
          'To save a model that is not being trained, use saveWeightsForSampler().',
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    await model.saveCheckpointBundle(this.checkpointDir, { step, optimizer, metrics, keep: this.keep });
    return this.checkpointDir;
  }

  /**
   * Saves weights, config and tokenizer, without training state, to `sampler/` in the model's directory.
   *
   * @returns that directory, which `GPT.load` opens
   */
  async saveWeightsForSampler(options: { model: GPT }): Promise<string> {
    requireOptions(options, ['model'], 'saveWeightsForSampler');
    checkModel(options.model, 'saveWeightsForSampler');
    const directory = this.path(samplerDirectory);
    await options.model.save(directory);
    return directory;
  }

  /** The newest kept bundle, or undefined. */
  async latest(): Promise<CheckpointEntry | undefined> {
    const [newest] = await listSteps(this.checkpointDir);
    return newest && stepEntry(newest);
  }

  /** The best bundle by a metric, by default the one with the lowest `val_loss`; undefined without one. */
  async best(options: Pick<KeepOptions, 'metric' | 'mode'> = {}): Promise<CheckpointEntry | undefined> {
    const [best] = bestSteps(await listSteps(this.checkpointDir), keepRules({ ...this.keep, ...options }));
    return best && stepEntry(best);
  }

  /**
   * Makes the bundle of a step the newest again, and removes the bundles that were saved after it.
   *
   * @throws CheckpointError if that step has no bundle, or it is damaged
   */
  rollback(step: number): Promise<void> {
    return rollbackBundle(this.checkpointDir, step);
  }

  /**
   * Compares the weights of two checkpoints of the model. Each is the step of a kept bundle, or the name of a file in
   * the model's directory. See `compare`.
   *
   * @throws CheckpointError if the checkpoint does not exist or is damaged
   */
  async compare(a: number | string, b: number | string, options: { signal?: AbortSignal } = {}): Promise<Comparison> {
    const place = async (which: number | string): Promise<string> =>
      typeof which === 'number' ? (await this.stepOf(which)).directory : this.path(which);
    return compare(await place(a), await place(b), options);
  }

  /**
   * Converts a single-file checkpoint in the model's directory to a bundle next to it. The old file stays. The function
   * `convertLegacy` has more options and reports what it did.
   *
   * @returns the directory of the bundle
   */
  async convertLegacy(file = 'latest.pt', options: { overwrite?: boolean } = {}): Promise<string> {
    checkOptions(options, ['overwrite'], 'convertLegacy');
    await convertLegacy(this.path(file), { ...options, to: this.checkpointDir });
    return this.checkpointDir;
  }

  /** Lists the checkpoints in the model's directory, the newest first. */
  async list(): Promise<CheckpointEntry[]> {
    return listEntries(this.checkpointDir, this.path(samplerDirectory));
  }

  /**
   * Inspects the model's newest bundle, or that of a kept step; without bundles `latest.pt` or `final.pt`. See
   * `inspect`.
   *
   * @throws CheckpointError if the model has no checkpoint
   */
  async inspect(options: { step?: number; verify?: boolean } = {}): Promise<Inspection> {
    checkOptions(options, ['step', 'verify'], 'inspect');
    const { step, verify = false } = options;
    if (step !== undefined) return inspect((await this.stepOf(step)).directory, { verify });
    const there = await locateIfThere(this.checkpointDir, singleFiles.inference);
    if (there === undefined) throw this.nothingFound(either(singleFiles.inference));
    return inspect(there.program === null ? there.models[0].weights : this.checkpointDir, { verify });
  }

  /** Path of a file in the model's directory. */
  path(file: string): string {
    return path.join(this.checkpointDir, checkName(file, 'the name of a file'));
  }

  private async stepOf(step: number): Promise<StepBundle> {
    const steps = await listSteps(this.checkpointDir);
    return steps.find((bundle) => bundle.step === step) ?? refuseStep(this.checkpointDir, step, steps);
  }

  /** The model in the directory, or in a file there. `names` are the single files to search, in order. */
  private async find(
    names: readonly string[],
    { file, ...use }: { optimizer: boolean; allowMixed?: boolean | undefined; file?: string | undefined },
  ): Promise<Found | undefined> {
    const options = { device: 'cpu' as const, ...use };
    if (file !== undefined) {
      const source = this.path(file);
      return (await exists(source)) ? { saved: await openModel(source, options), source } : undefined;
    }
    const there = await locateIfThere(this.checkpointDir, names);
    if (there === undefined) return undefined;
    const saved = await openModel(this.checkpointDir, options, () => locate(this.checkpointDir, names));
    return { saved, source: there.program === null ? there.models[0].weights : this.checkpointDir };
  }

  private nothingFound(files: string): CheckpointError {
    return new CheckpointError(
      `Found no checkpoint of '${this.name}': ${this.checkpointDir} holds neither ${bundleFiles.model} with ` +
        `${bundleFiles.config} nor ${files}.`,
      CheckpointCode.open,
    );
  }
}

interface Found {
  saved: SavedModel;
  source: string;
}

/** Rows of the token embedding for GPT-2's 50,257 tokens: rounded up to a multiple of 64, as in the Python programs. */
const paddedGpt2 = 50304;

function start(
  model: GPT,
  optimizer: AnyOptimizer,
  startStep: number,
  mode: TrainingStart['mode'],
  source: string | null,
  run?: RunState,
): TrainingStart {
  model.setTraining(optimizer, startStep, run);
  return { model, optimizer, startStep, mode, source };
}

function either(names: readonly string[]): string {
  return `${names.slice(0, -1).join(', ')} or ${names.at(-1)!}`;
}

function newTokenizer(tokenization: string, text: string | undefined): Tokenizer {
  if (tokenization === 'char' && (text === undefined || text === '')) {
    throw new TorchBindError(
      "A new 'char' tokenizer takes its vocabulary from the text: give a text that is not empty.",
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  return tokenizerForText(tokenization, text ?? '');
}

/** nanoGPT and others save no tokenizer with a model. It is made as for a new model, and must fit the vocabulary. */
function tokenizerForBase(base: string, { config, origin }: SavedModel, options: InitializeOptions): Tokenizer {
  const { tokenization = 'gpt2', text, tokenizer } = options;
  if (tokenizer !== undefined) return tokenizer;
  if (origin.program === 'bundle' || origin.program === 'single-file')
    throw refuseBase(base, 'it was saved without a tokenizer. Give it: { tokenizer }');
  const made = newTokenizer(tokenization, text);
  if (made.kind === 'char' && made.vocabSize !== config.vocabSize) {
    process.emitWarning(
      `The model '${base}' has no tokenizer and a vocabulary of ${config.vocabSize}, and the text has ${made.vocabSize} ` +
        `different characters: the ids may not mean what they did. Give the right tokenizer: { tokenizer }.`,
      { code: 'TORCHBIND_TOKENIZER' },
    );
  }
  return made;
}

function refuseBase(base: string, reason: string): TorchBindError {
  return new TorchBindError(`Cannot start from the model '${base}': ${reason}.`, 'ERR_TORCHBIND_INIT_FROM_MODEL');
}

function checkModel(model: unknown, where: string): void {
  checkArgument(model instanceof GPT, "a GPT for 'model'", model, where);
}

/** A name that stays within its directory. */
function checkName(name: unknown, what: string): string {
  if (typeof name === 'string' && name !== '' && name !== '.' && name !== '..' && !/[/\\\0]/.test(name)) return name;
  throw new TorchBindError(
    `CheckpointManager: ${what} must not be empty, '.' or '..', or hold a path separator; got ${describe(name)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
