import { describe, TorchBindError } from '../errors';
import { fromTypedArray } from '../tensor/creation';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { checkTokens, type Tokens } from './token-stream';

/** Inputs and targets of one step: `y` is `x` one token later. Both (B, T) int64. */
export interface Batch {
  x: Tensor;
  y: Tensor;
}

/** What gives one batch after the other. */
export interface BatchSource {
  next(): Batch;
}

/** The windows of `blockSize` tokens that begin at `starts`, and their targets. */
export function windowsAt(tokens: Tokens, starts: readonly number[], blockSize: number, device = 'cpu'): Batch {
  const x = new Int32Array(starts.length * blockSize);
  const y = new Int32Array(starts.length * blockSize);
  starts.forEach((start, row) => {
    x.set(tokens.subarray(start, start + blockSize), row * blockSize);
    y.set(tokens.subarray(start + 1, start + 1 + blockSize), row * blockSize);
  });
  const batch = (ids: Int32Array): Tensor =>
    tidy(() => fromTypedArray(ids, [starts.length, blockSize]).to({ dtype: 'int64', device })); // (B, T)
  return { x: batch(x), y: batch(y) };
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT for sizes that are none, and where there are not tokens enough for a window */
export function checkWindows(
  where: string,
  tokens: Tokens,
  { batchSize, blockSize }: { batchSize: number; blockSize: number },
): void {
  checkTokens(tokens, where);
  for (const [name, value] of Object.entries({ batchSize, blockSize })) {
    if (Number.isSafeInteger(value) && value > 0) continue;
    throw invalid(`${where}: ${name} must be a positive integer, got ${describe(value)}`);
  }
  if (tokens.length > blockSize) return;
  throw invalid(
    `${where}: windows of ${blockSize} tokens and their targets need at least ${blockSize + 1} tokens, but there are ` +
      `${tokens.length}. Give more text, or a model with a smaller blockSize.`,
  );
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(message, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
