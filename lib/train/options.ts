import {
  checkFlags,
  checkFunction,
  checkOptions,
  checkWatchers,
  describe,
  isAbove,
  isAtLeast,
  type PathLike,
  toPath,
  TorchBindError,
} from '../errors';
import type { ThreadOption } from '../generation/generate';
import { TextStream, TokenFile, TokenStream, type Tokens } from '../data';
import type { GPTModel } from '../models/gpt-model';
import { type AnyOptimizer, Optimizer } from '../optim';
import { constant, cosine, linear, type Schedule } from '../optim/schedulers';
import { type KeepOptions, keepRules } from '../checkpoint/retention';
import type { EvalEvent, SaveEvent, StepEvent } from './events';
import { type GuardOptions, checkGuard } from './guard';
import type { Precision } from '../models/precision';
import type { DataOrder } from './run-data';

/** A callback of `fit`. Training waits for the promise of an async one. */
export type Callback<Event> = ((event: Event) => void) | ((event: Event) => Promise<void>);

/** Options of `gpt.fit`. */
export interface FitOptions {
  /** The training text. The model's tokenizer encodes it; the last tenth of the tokens is held out for validation. */
  text?: string;
  /** Tokens to train on instead of a text, or a stream of text that is read during training. */
  data?: TokenStream | TextStream;
  /** `random` windows (default), or `epochs`, in which every window occurs once. */
  dataOrder?: DataOrder;
  /** Number of updates in this call. Default 1000. */
  maxSteps?: number;
  /** Windows in a batch. Default: `batchSize` of the model's config. */
  batchSize?: number;
  /** Number of batches whose gradients are averaged for one update. Default 1. */
  gradAccumulation?: number;
  /**
   * Learning rate of all parameter groups. Default: 3e-4 for a new optimizer, the current rate of an existing or
   * resumed one.
   */
  learningRate?: number;
  /**
   * Learning rate of a resumed run. `keep`: the saved rate and schedule, even if `learningRate` is set; `restart`: the
   * schedule starts at this step, with `learningRate` if it is set; a number: a new rate. Default: `learningRate` if it
   * is set, else `keep`.
   */
  resumeLearningRate?: 'keep' | 'restart' | number;
  /**
   * Learning-rate schedule: a name, or a function of the step such as those of `optim.schedulers`. Default `constant`.
   */
  schedule?: 'constant' | 'linear' | 'cosine' | Schedule;
  /** Number of warm-up updates, over which the rate rises. Default 0. */
  warmupSteps?: number;
  /** Number of updates after which `linear` and `cosine` reach `minLearningRate`. Default: the end of this call. */
  decaySteps?: number;
  /** Final learning rate of `linear` and `cosine`. Default 0. */
  minLearningRate?: number;
  /** The optimizer. Default: the model's last one, from `fit` or its checkpoint, else a new AdamW. */
  optimizer?: AnyOptimizer;
  /**
   * For a new AdamW: weight decay of matrices and embeddings; biases and norms have none. Default: the groups of the
   * layout's Python program (nanoGPT 0.1, Hugging Face's Trainer 0); with `mypt` 0.01 for all parameters.
   */
  weightDecay?: number;
  /**
   * For a new AdamW: coefficients of the moments. Default: those of the layout's Python program ([0.9, 0.95] for
   * nanoGPT), else [0.9, 0.999].
   */
  betas?: readonly [number, number];
  /**
   * Precision of the computation. With `bfloat16` or `float16`, operators that benefit compute in that dtype, as under
   * `autocast`; `float16` also scales the loss. The weights' dtype does not change. Default `float32`.
   */
  precision?: Precision;
  /** Recompute activations in the backward pass instead of keeping them, for long contexts. Default false. */
  activationCheckpointing?: boolean;
  /**
   * Compute the loss in chunks of positions, so that the logits of a large vocabulary are never in memory all at once.
   * Losses differ by rounding. float32 only. Default false.
   */
  chunkedLoss?: boolean;
  /** Clip the norm of all gradients to this value. Default: no clipping. */
  gradClip?: number;
  /**
   * Evaluate at steps that are multiples of this, step 0 included, and at the end; 0 turns evaluation off. Default
   * 100.
   */
  evalInterval?: number;
  /** Number of batches of each split in an evaluation, always the same batches. Default 20. */
  evalSteps?: number;
  /** Stop after this many evaluations in a row without a lower validation loss. Default: never. */
  patience?: number;
  /** What to do if the loss is not finite or jumps. Default: throw if it is not finite. */
  guard?: GuardOptions;
  /**
   * Seed of the default generators (dropout) and of the training windows. A resumed run continues its random numbers if
   * the seed is the same or omitted; another seed starts new ones. Default: drawn from the default generator.
   */
  seed?: number;
  /** Stops after the current update; the result has `stopped: 'aborted'`. */
  signal?: AbortSignal;
  /**
   * Handle SIGINT, SIGTERM and SIGUSR1 during training. Each saves after the current update if `checkpointDir` is set;
   * SIGINT and SIGTERM then stop training, and a second one ends the process immediately. Default false.
   */
  handleSignals?: boolean;
  /** Number of updates that the optimizer made before; numbering continues from there. Default: the model's `step`. */
  startStep?: number;
  /** Directory in which to save a bundle at the end, also when training stops early. */
  checkpointDir?: PathLike;
  /** Also save at every step that is a multiple of this. */
  saveEvery?: number;
  /** Which bundles to keep under `steps/`. Default `{ last: 2 }`. */
  keep?: KeepOptions;
  /** Continue training while a snapshot is written. Default true. */
  saveInBackground?: boolean;
  /** What a failed save does: `stop` (default) ends training, `continue` only reports it. */
  onSaveError?: 'stop' | 'continue';
  /**
   * Write `metrics.jsonl`, TensorBoard's event file and `metrics.html` with the curves into `checkpointDir`. Default
   * true.
   */
  metrics?: boolean;
  /**
   * Where updates and evaluations are computed: `worker` (default) is a worker thread, so that the event loop stays
   * free; `main` is the calling thread. Models with hooks, or with functions or classes of your own, always use the
   * calling thread; on several ranks, so do `activationCheckpointing` and `chunkedLoss`.
   */
  thread?: ThreadOption;
  /** Show progress on stderr: a bar on a terminal, otherwise a line for each evaluation. Default false. */
  progressBar?: boolean;
  /** Called after each update. Training waits for an async function; a rejection rejects `fit`. */
  onStep?: Callback<StepEvent>;
  /** Called after each evaluation, like `onStep`. */
  onEval?: Callback<EvalEvent>;
  /** Called after each save, when the bundle is durably on disk, like `onStep`. */
  onSave?: Callback<SaveEvent>;
}

export const FIT_OPTIONS = [
  'text data dataOrder maxSteps batchSize gradAccumulation learningRate resumeLearningRate schedule warmupSteps',
  'decaySteps minLearningRate optimizer weightDecay betas precision activationCheckpointing chunkedLoss gradClip evalInterval evalSteps patience guard seed signal',
  'handleSignals startStep checkpointDir saveEvery keep saveInBackground onSaveError metrics thread progressBar onStep onEval onSave',
].flatMap((names) => names.split(' '));

/** Names of these options in PyTorch programs, for suggestions. */
export const FIT_SYNONYMS = {
  lr: 'learningRate',
  learning_rate: 'learningRate',
  min_lr: 'minLearningRate',
  steps: 'maxSteps',
  iterations: 'maxSteps',
  max_iters: 'maxSteps',
  maxiters: 'maxSteps',
  wd: 'weightDecay',
  weight_decay: 'weightDecay',
  grad_clip: 'gradClip',
  max_grad_norm: 'gradClip',
  maxgradnorm: 'gradClip',
  clipgradnorm: 'gradClip',
  accumulation: 'gradAccumulation',
  gradient_accumulation_steps: 'gradAccumulation',
  gradientaccumulationsteps: 'gradAccumulation',
  dtype: 'precision',
  out_dir: 'checkpointDir',
  output_dir: 'checkpointDir',
  eval_iters: 'evalSteps',
  eval_interval: 'evalInterval',
  dataset: 'data',
} as const;

/** Options with defaults filled in. */
export type Settings = Omit<FitOptions, 'text' | 'data' | 'schedule' | 'checkpointDir'> & {
  checkpointDir: string | undefined;
  data: TokenStream | TextStream;
  dataOrder: DataOrder;
  maxSteps: number;
  batchSize: number;
  gradAccumulation: number;
  precision: Precision;
  evalInterval: number;
  evalSteps: number;
  startStep: number;
};

/** Whether a run writes metrics. */
export function writesMetrics({ checkpointDir, metrics = true }: Settings): boolean {
  return checkpointDir !== undefined && metrics;
}

/** @throws ERR_TORCHBIND_UNKNOWN_OPTION, ERR_TORCHBIND_INVALID_ARGUMENT */
export function completeOptions(model: GPTModel, options: FitOptions): Settings {
  checkOptions(options, FIT_OPTIONS, 'fit', FIT_SYNONYMS);
  const { schedule: _, ...rest } = options;
  const settings = {
    ...rest,
    checkpointDir:
      options.checkpointDir === undefined ? undefined : toPath(options.checkpointDir, 'fit: checkpointDir'),
    data: dataOf(model, options),
    dataOrder: options.dataOrder ?? 'random',
    maxSteps: options.maxSteps ?? 1000,
    batchSize: options.batchSize ?? model.config.batchSize,
    gradAccumulation: options.gradAccumulation ?? 1,
    precision: options.precision ?? 'float32',
    evalInterval: options.evalInterval ?? 100,
    evalSteps: options.evalSteps ?? 20,
    startStep: options.startStep ?? 0,
  };
  for (const name of ['maxSteps', 'evalInterval', 'startStep'] as const) checkCount(name, settings[name], 0);
  for (const name of ['batchSize', 'evalSteps', 'gradAccumulation'] as const) checkCount(name, settings[name], 1);
  checkOneOf('precision', settings.precision, ['float32', 'bfloat16', 'float16']);
  checkOneOf('dataOrder', settings.dataOrder, ['random', 'epochs']);
  if (options.thread !== undefined) checkOneOf('thread', options.thread, ['main', 'worker']);
  checkRates(options);
  checkCalls(options);
  checkSaves(options);
  checkEffects(options, settings);
  if (options.patience !== undefined) checkCount('patience', options.patience, 1);
  if (options.guard !== undefined) checkGuard(options.guard, options.checkpointDir);
  return settings;
}

function checkRates({ learningRate, minLearningRate, resumeLearningRate, gradClip, weightDecay }: FitOptions): void {
  for (const [name, value] of Object.entries({ learningRate, minLearningRate, weightDecay })) {
    if (value !== undefined) check(isAtLeast(value, 0), name, value, 'a number of at least 0');
  }
  if (gradClip !== undefined) check(isAbove(gradClip, 0), 'gradClip', gradClip, 'a number above 0');
  if (resumeLearningRate === undefined || isAtLeast(resumeLearningRate, 0)) return;
  checkOneOf('resumeLearningRate', resumeLearningRate, ['keep', 'restart'], ', or a number of at least 0');
}

function checkCalls({ signal, onStep, onEval, onSave, optimizer, ...options }: FitOptions): void {
  checkWatchers({ signal }, 'fit');
  for (const [name, fn] of Object.entries({ onStep, onEval, onSave }))
    if (fn !== undefined) checkFunction(fn, `fit: ${name}`);
  const { activationCheckpointing, chunkedLoss, handleSignals, saveInBackground, metrics, progressBar } = options;
  checkFlags({ activationCheckpointing, chunkedLoss, handleSignals, saveInBackground, metrics, progressBar }, 'fit');
  check(
    optimizer === undefined || optimizer instanceof Optimizer,
    'optimizer',
    optimizer,
    'an optimizer of torchbind.optim',
  );
}

/** Refuses options that have no effect together with the others: something else was meant. */
function checkEffects(options: FitOptions, { data, evalInterval }: Settings): void {
  const refuse = (names: readonly (keyof FitOptions)[], reason: string): void => {
    const given = names.find((name) => options[name] !== undefined && options[name] !== false);
    if (given !== undefined) throw invalid(`'${given}' has no effect ${reason}`);
  };
  const { checkpointDir, schedule = 'constant' } = options;
  if (checkpointDir === undefined)
    refuse(
      ['keep', 'saveInBackground', 'onSaveError', 'metrics', 'onSave'],
      'without checkpointDir, the directory to save to',
    );
  if (evalInterval === 0) refuse(['patience', 'onEval'], 'with evalInterval: 0, which never evaluates');
  if (data instanceof TextStream) refuse(['dataOrder'], 'on a TextStream, which is read in its order');
  if (typeof schedule === 'function')
    refuse(['warmupSteps', 'decaySteps', 'minLearningRate'], 'besides a schedule that is a function: let it do that');
  if (schedule === 'constant')
    refuse(['decaySteps', 'minLearningRate'], "with the constant schedule: give schedule: 'linear' or 'cosine'");
}

/** Refuses options of a new optimizer together with an existing one. */
export function checkOptimizer({ optimizer, weightDecay, betas }: FitOptions): void {
  if (optimizer === undefined) return;
  for (const [name, value] of Object.entries({ weightDecay, betas })) {
    if (value === undefined) continue;
    throw invalid(`'${name}' is for the AdamW that fit makes. With 'optimizer', set it in optimizer.paramGroups`);
  }
}

function checkSaves({ saveEvery, checkpointDir, onSaveError, keep }: FitOptions): void {
  if (keep !== undefined) keepRules(keep);
  if (saveEvery !== undefined) {
    checkCount('saveEvery', saveEvery, 1);
    if (checkpointDir === undefined) throw invalid('saveEvery needs checkpointDir, the directory to save to');
  }
  if (onSaveError !== undefined) checkOneOf('onSaveError', onSaveError, ['stop', 'continue']);
}

/**
 * Factor of the learning rate by updates since the schedule began; `length` is its number of updates. null for a
 * constant rate.
 */
export function scheduleOf(options: FitOptions, learningRate: number, length: number): Schedule | null {
  const { schedule = 'constant', warmupSteps = 0, minLearningRate = 0 } = options;
  if (typeof schedule === 'function') return schedule;
  checkOneOf('schedule', schedule, ['constant', 'linear', 'cosine'], ', or a function of the step');
  checkCount('warmupSteps', warmupSteps, 0);
  if (schedule === 'constant') return warmupSteps === 0 ? null : constant({ warmup: warmupSteps });
  const steps = options.decaySteps ?? length;
  checkCount('decaySteps', steps, 1);
  if (steps <= warmupSteps) throw invalid(`decaySteps must be above warmupSteps (${warmupSteps}), got ${steps}`);
  const min = learningRate === 0 ? 0 : Math.min(1, minLearningRate / learningRate);
  return (schedule === 'linear' ? linear : cosine)({ warmup: warmupSteps, steps, min });
}

/**
 * Replaces `text` in the options by its tokens, encoded off the event loop. Invalid options stay unchanged and are
 * reported later.
 */
export async function withEncodedText(model: GPTModel, options: FitOptions): Promise<FitOptions> {
  const { text, data } = options;
  const { tokenizer } = model;
  if (typeof text !== 'string' || data !== undefined || tokenizer === null) return options;
  return { ...options, text: undefined, data: await TokenStream.fromTextAsync(text, tokenizer) };
}

function dataOf(model: GPTModel, { text, data }: FitOptions): TokenStream | TextStream {
  if ((text === undefined) === (data === undefined)) throw invalid("give either 'text' or 'data' to train on");
  if (data instanceof TextStream) {
    checkVocabulary(model, [data.validation]);
    tokenizerOf(model);
    return data;
  }
  check(data === undefined || data instanceof TokenStream, 'data', data, 'a TokenStream');
  const stream = data ?? TokenStream.fromText(checkText(text), tokenizerOf(model));
  checkVocabulary(model, [stream.train, stream.validation]);
  return stream;
}

/** Files are not scanned beforehand: their ids are checked as they are used. */
function checkVocabulary({ config: { vocabSize } }: GPTModel, parts: readonly Tokens[]): void {
  for (const part of parts) {
    if (part instanceof TokenFile) continue;
    const wrong = part.find((id) => id < 0 || id >= vocabSize);
    if (wrong !== undefined) {
      throw invalid(`the data holds the token id ${wrong}, but the model's ids are 0 to ${vocabSize - 1}`);
    }
  }
}

function checkText(text: unknown): string {
  if (typeof text === 'string') return text;
  throw invalid(`text must be a string, got ${describe(text)}`);
}

function tokenizerOf({ tokenizer }: GPTModel): NonNullable<GPTModel['tokenizer']> {
  if (tokenizer !== null) return tokenizer;
  throw new TorchBindError(
    "fit: the model has no tokenizer to read the text with. Give it one, or give tokens as 'data'.",
    'ERR_TORCHBIND_NO_TOKENIZER',
  );
}

function checkCount(name: string, value: unknown, least: number): void {
  check(Number.isSafeInteger(value) && (value as number) >= least, name, value, `an integer of at least ${least}`);
}

function checkOneOf(name: string, value: unknown, allowed: readonly string[], more = ''): void {
  check(allowed.includes(value as string), name, value, `one of '${allowed.join("', '")}'${more}`);
}

function check(valid: boolean, name: string, value: unknown, expected: string): void {
  if (!valid) throw invalid(`${name} must be ${expected}, got ${describe(value)}`);
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(`fit: ${message}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
