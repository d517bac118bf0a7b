import { TorchBindError } from '../errors';

/** A command line that asks for what there is not; the exit status is 2. */
export function usageError(message: string): TorchBindError {
  return new TorchBindError(message, 'ERR_TORCHBIND_USAGE');
}

/** Wrong values that the library finds, and that come from the command line. */
const wrongUseCodes = ['USAGE', 'INVALID_ARGUMENT', 'UNKNOWN_OPTION', 'UNKNOWN_CHARACTER'];

/** The exit status for an error: 2 for wrong use, else 1. */
export function exitStatus(error: unknown): 1 | 2 {
  return error instanceof TorchBindError && wrongUseCodes.includes(error.code.replace('ERR_TORCHBIND_', '')) ? 2 : 1;
}

/** One paragraph for a person, without a stack: what the library calls an option is called by its flag. */
export function describeError(error: unknown): string {
  if (error instanceof TorchBindError) return inFlags(error.message);
  if (!(error instanceof Error)) return String(error);
  return 'syscall' in error
    ? error.message
    : `${error.name}: ${error.message}\nThis is a defect of torchbind: please report it.`;
}

/** The error of a new model that the flags cannot make, as wrong use. */
export function asWrongUse(error: unknown): unknown {
  const isConfig = error instanceof TorchBindError && error.code === 'ERR_TORCHBIND_CONFIG';
  return isConfig ? usageError(error.message) : error;
}

/** Names in the library's messages, and the flags that set them. */
const flags: Readonly<Record<string, string>> = {
  blockSize: '--block-size',
  nEmbd: '--n-embd',
  nHead: '--n-head',
  nLayer: '--n-layer',
  batchSize: '--batch-size',
  gradAccumulation: '--gradient-accumulation-steps',
  learningRate: '--learning-rate',
  maxSteps: '--max-iters',
  warmupSteps: '--warmup-iters',
  decaySteps: '--lr-decay-iters',
  minLr: '--min-lr',
  weightDecay: '--weight-decay',
  gradClip: '--grad-clip',
  evalInterval: '--eval-interval',
  evalBatches: '--eval-iters',
  saveEvery: '--checkpoint-interval',
  checkpointDir: '--checkpoint-dir',
  initFromModel: '--init-from-model',
  maxNewTokens: '--max-new-tokens',
  topK: '--top-k',
  topP: '--top-p',
  loraRank: '--lora-rank',
  allowMixed: '--allow-mixed',
};

function inFlags(message: string): string {
  const named = message.replace(/pass \{ (\w+): true \}/g, (text, name: string) =>
    flags[name] === undefined ? text : `give ${flags[name]}`,
  );
  return named.replace(/'?\b([a-z]+[A-Z]\w*)\b'?/g, (text, name: string) => flags[name] ?? text);
}
