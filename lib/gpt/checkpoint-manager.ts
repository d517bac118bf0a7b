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
  /** The directory that holds a directory for each model. Default `checkpoints`. */
  root?: PathLike;
  /** Which bundles `saveState` keeps under `steps/`. Default: the newest and the one before. */
  keep?: KeepOptions;
}

/** Options of `CheckpointManager.loadForInference`. */
export interface LoadForInferenceOptions {
  /** The directory that holds a directory for each model. Default `checkpoints`. */
  root?: PathLike;
  /** Where the parameters go. Default: the device that the config names if this machine has it, else `cpu`. */
  device?: DeviceName;
  /** Name of a single-file checkpoint in the model's directory to open instead of its bundle. */
  legacyCheckpoint?: string;
  /** Opens the bundle that was kept of this step instead of the newest. */
  step?: number;
}

/** Options of `initializeForTraining`. */
export interface InitializeOptions {
  /** Of a new model. Not used where a model is resumed or a base model is taken: their own config counts. */
  config?: Partial<GPTOptions>;
  /** Kind of tokenizer of a new model, and the kind that a base model must have: `gpt2` (default) or `char`. */
  tokenization?: string;
  /** Of a new model: instead of one of the kind that `tokenization` names. */
  tokenizer?: Tokenizer;
  /** The text to train on, from which a new character tokenizer takes its vocabulary. */
  text?: string;
  /** Of a new optimizer; a resumed one keeps the learning rate that it was saved with. Default 3e-4. */
  learningRate?: number;
  /** Name of a model next to this one to start from, where this one has no checkpoint yet. */
  initFromModel?: string;
  /**
   * Go on training from weights that another program replaced alone, with the optimizer and the step of the weights before.
   * Default false: that is refused with ERR_TORCHBIND_MIXED_STATE.
   */
  allowMixed?: boolean;
  /** Where the parameters go. Default: the device that the config names if this machine has it, else `cpu`. */
  device?: DeviceName;
}

/** What `initializeForTraining` returns: a model and optimizer to train from `startStep`. */
export interface TrainingStart {
  model: GPT;
  optimizer: AnyOptimizer;
  /** Optimizer updates made before, which is the index of the next one. */
  startStep: number;
  /** `resume` of the model's own checkpoint, `init` from another model, or `fresh`. */
  mode: 'resume' | 'init' | 'fresh';
  /** The directory or file that was opened; null for a fresh model. */
  source: string | null;
}

/** Options of `saveState`. */
export interface SaveStateOptions {
  model: GPT;
  /** Default: the one that the model was last trained with. */
  optimizer?: AnyOptimizer;
  /** Optimizer updates made. Default: those of the model's training so far. */
  step?: number;
  /** Numbers to judge the bundle by, such as `val_loss`. */
  metrics?: Metrics;
}

const samplerDirectory = 'sampler';

/** Names of single files in a model's directory, in the order in which they are looked for. */
const singleFiles = {
  inference: [...legacyFiles.inference, ...nanogpt.fileNames],
  resume: [...legacyFiles.resume, ...nanogpt.fileNames],
  init: [...legacyFiles.init, ...nanogpt.fileNames],
};

/** The checkpoints of one model, in a directory of its name. Opens what the Python programs saved, old form and new. */
export class CheckpointManager {
  /** Where the model's files are. */
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
   * Opens a model for generating: its bundle, else `latest.pt`, else `final.pt`, or the single file that
   * `legacyCheckpoint` names.
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
   * What training starts from, in this order: the model's own checkpoint (resume: its config, tokenizer, step and
   * optimizer count, and `config` is not used); the weights, config and tokenizer of `initFromModel`, with step 0 and a
   * fresh optimizer; a fresh model.
   *
   * @throws CheckpointError where a checkpoint is damaged; ERR_TORCHBIND_INIT_FROM_MODEL where the base model has no
   *   checkpoint, no tokenizer, or a tokenizer of another kind
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

  /** Saves all that resuming needs: weights, config, tokenizer, optimizer and step. Returns the directory. */
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
   * Saves what generating needs, weights, config and tokenizer, apart from the training state: into `sampler/` of the
   * model's directory. Returns that directory, which `GPT.load` opens.
   */
  async saveWeightsForSampler(options: { model: GPT }): Promise<string> {
    requireOptions(options, ['model'], 'saveWeightsForSampler');
    checkModel(options.model, 'saveWeightsForSampler');
    const directory = this.path(samplerDirectory);
    await options.model.save(directory);
    return directory;
  }

  /** The newest bundle that is kept; undefined where none is. */
  async latest(): Promise<CheckpointEntry | undefined> {
    const [newest] = await listSteps(this.checkpointDir);
    return newest && stepEntry(newest);
  }

  /** The bundle that is best by a metric, `val_loss` where none is named and the lower the better. */
  async best(options: Pick<KeepOptions, 'metric' | 'mode'> = {}): Promise<CheckpointEntry | undefined> {
    const [best] = bestSteps(await listSteps(this.checkpointDir), keepRules({ ...this.keep, ...options }));
    return best && stepEntry(best);
  }

  /**
   * Makes the bundle of a step the current one again, and removes those that were saved after it.
   *
   * @throws CheckpointError if that step has no bundle, or it is damaged
   */
  rollback(step: number): Promise<void> {
    return rollbackBundle(this.checkpointDir, step);
  }

  /**
   * How far the weights of two of the model's checkpoints are from each other, each given by the step of a bundle that is
   * kept or by the name of a file in the model's directory. See `compare`.
   *
   * @throws CheckpointError if the checkpoint does not exist or is damaged
   */
  async compare(a: number | string, b: number | string, options: { signal?: AbortSignal } = {}): Promise<Comparison> {
    const place = async (which: number | string): Promise<string> =>
      typeof which === 'number' ? (await this.stepOf(which)).directory : this.path(which);
    return compare(await place(a), await place(b), options);
  }

  /**
   * Converts a single-file checkpoint of the model's directory to a bundle next to it. The old file is kept. `convertLegacy` says
   * what was done, and can be asked what it would do.
   */
  async convertLegacy(file = 'latest.pt', options: { overwrite?: boolean } = {}): Promise<string> {
    checkOptions(options, ['overwrite'], 'convertLegacy');
    await convertLegacy(this.path(file), { ...options, to: this.checkpointDir });
    return this.checkpointDir;
  }

  /** The checkpoints in the model's directory, the newest first. */
  async list(): Promise<CheckpointEntry[]> {
    return listEntries(this.checkpointDir, this.path(samplerDirectory));
  }

  /**
   * What the model's checkpoint holds: its bundle, or that of a step which is kept; else `latest.pt` or `final.pt`. See
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

  /** The model in the directory, or in a file there; `names` are those of single files to look for, in this order. */
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

/** Rows of the token embedding for GPT-2's 50,257 tokens: a multiple of 64, as the Python programs have it. */
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

/** nanoGPT and others keep no tokenizer with a model: it is made as for a new model, and has to fit. */
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
