import { checkOptions, describe, TorchBindError } from '../errors';
import { TokenStream } from '../data';
import type { GPTModel } from '../models/gpt';
import type { AdamW, SGD } from '../optim';

/** After an update. */
export interface StepEvent {
  /** Updates made so far, those before this call included. */
  step: number;
  /** Mean cross-entropy of the batch, in nats, before the update. */
  loss: number;
  tokensPerSecond: number;
}

/** After an evaluation. */
export interface EvalEvent {
  step: number;
  /** Mean cross-entropy of batches of the training part, in nats. */
  trainLoss: number;
  /** The same of the validation part; null where that part is shorter than one window. */
  valLoss: number | null;
}

/** After a save. */
export interface SaveEvent {
  step: number;
  directory: string;
}

export interface FitOptions {
  /** What to train on; the model's tokenizer turns it into tokens, of which the last tenth is kept for validation. */
  text?: string;
  /** Tokens to train on, instead of a text. */
  data?: TokenStream;
  /** Updates that this call makes. Default 1000. */
  maxSteps?: number;
  /** Windows a batch. Default: the batchSize of the model's config. */
  batchSize?: number;
  /** Sets the learning rate of all groups of the optimizer. Default 3e-4 for a new optimizer, else what it has. */
  learningRate?: number;
  /** Default: the one of the model's last `fit` or of the bundle that it resumes, else a new AdamW. */
  optimizer?: AdamW | SGD;
  /** Scale gradients so that their norm is at most this. Default: no clipping. */
  gradClip?: number;
  /** Evaluate before every so many updates, and at the end; 0 never. Default 100. */
  evalInterval?: number;
  /** Batches of each part that an evaluation takes: the same ones each time. Default 20. */
  evalSteps?: number;
  /** Seeds the default generators (dropout) and the places of windows. Default: drawn from the default generator. */
  seed?: number;
  /** Stops at the end of a step; the result says `stopped: 'aborted'`. */
  signal?: AbortSignal;
  /** Updates that the optimizer made before: numbering goes on from there. */
  startStep?: number;
  /** Where to save a bundle at the end, stopped early or not. */
  checkpointDir?: string;
  /** Save there after every so many updates as well. */
  saveEvery?: number;
  /** Show progress on stderr: a bar on a terminal, else a line for each evaluation. Default false. */
  progressBar?: boolean;
  onStep?: (event: StepEvent) => void;
  onEval?: (event: EvalEvent) => void;
  onSave?: (event: SaveEvent) => void;
}

const optionNames = [
  'text data maxSteps batchSize learningRate optimizer gradClip evalInterval evalSteps seed signal',
  'startStep checkpointDir saveEvery progressBar onStep onEval onSave',
].flatMap((names) => names.split(' '));

/** Options with the defaults filled in. */
export type Settings = Omit<FitOptions, 'text' | 'data'> & {
  data: TokenStream;
  maxSteps: number;
  batchSize: number;
  evalInterval: number;
  evalSteps: number;
  startStep: number;
};

/** @throws ERR_TORCHBIND_UNKNOWN_OPTION, ERR_TORCHBIND_INVALID_ARGUMENT */
export function completeOptions(model: GPTModel, options: FitOptions): Settings {
  checkOptions(options, optionNames, 'fit');
  const settings = {
    ...options,
    data: dataOf(model, options),
    maxSteps: options.maxSteps ?? 1000,
    batchSize: options.batchSize ?? model.config.batchSize,
    evalInterval: options.evalInterval ?? 100,
    evalSteps: options.evalSteps ?? 20,
    startStep: options.startStep ?? 0,
  };
  for (const name of ['maxSteps', 'evalInterval', 'startStep'] as const) checkCount(name, settings[name], 0);
  for (const name of ['batchSize', 'evalSteps'] as const) checkCount(name, settings[name], 1);
  const { saveEvery, learningRate, gradClip, checkpointDir } = options;
  if (saveEvery !== undefined) {
    checkCount('saveEvery', saveEvery, 1);
    if (checkpointDir === undefined) throw invalid('saveEvery needs checkpointDir, the directory to save to');
  }
  if (learningRate !== undefined) check(learningRate >= 0, 'learningRate', learningRate, 'a number of at least 0');
  if (gradClip !== undefined) check(gradClip > 0, 'gradClip', gradClip, 'a number above 0');
  return settings;
}

function dataOf(model: GPTModel, { text, data }: FitOptions): TokenStream {
  if ((text === undefined) === (data === undefined)) throw invalid("give either 'text' or 'data' to train on");
  const stream = data ?? TokenStream.fromText(checkText(text), tokenizerOf(model));
  const { vocabSize } = model.config;
  for (const part of [stream.train, stream.validation]) {
    const wrong = part.find((id) => id < 0 || id >= vocabSize);
    if (wrong !== undefined) {
      throw invalid(`the data holds the token id ${wrong}, but the model's ids are 0 to ${vocabSize - 1}`);
    }
  }
  return stream;
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

function check(valid: boolean, name: string, value: unknown, expected: string): void {
  if (!valid) throw invalid(`${name} must be ${expected}, got ${describe(value)}`);
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(`fit: ${message}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
