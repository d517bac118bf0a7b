import { checkArgument, describe, TorchBindError } from '../errors';
import { fromTypedArray } from '../tensor/creation';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { TokenFile, wrongData } from './token-file';
import { checkTokens, type Tokens } from './token-stream';
import type { DeviceName } from '../tensor/schema-types';

/** Inputs and targets of one step: `y` is `x` one token later. Both (B, T) int64. */
export interface Batch {
  x: Tensor;
  y: Tensor;
}

/** A source of batches. */
export interface BatchSource {
  next(): Batch;
}

/** Options for making a batch of windows. */
export interface WindowOptions {
  /** T, tokens in a window. */
  blockSize: number;
  /** Device of the batch. Default `cpu`. */
  device?: DeviceName | undefined;
  /** Ids of a file must be below it; files are not scanned beforehand. Default: not checked. */
  vocabSize?: number | undefined;
}

/** The windows of T tokens that start at `starts`, and their targets. */
export function windowsAt(tokens: Tokens, starts: readonly number[], options: WindowOptions): Batch {
  const { blockSize, vocabSize } = options;
  const windows = starts.map((start) => {
    const window = tokens.subarray(start, start + blockSize + 1);
    if (tokens instanceof TokenFile && vocabSize !== undefined) checkIds(tokens, start, window, vocabSize);
    return window;
  });
  return batchOf(windows, options);
}

/** A batch of windows of T + 1 ids each. */
export function batchOf(windows: readonly ArrayLike<number>[], { blockSize, device = 'cpu' }: WindowOptions): Batch {
  const x = new Int32Array(windows.length * blockSize);
  const y = new Int32Array(windows.length * blockSize);
  windows.forEach((window, row) => {
    for (let i = 0; i < blockSize; i++) {
      x[row * blockSize + i] = window[i]!;
      y[row * blockSize + i] = window[i + 1]!;
    }
  });
  const batch = (ids: Int32Array): Tensor =>
    tidy(() => {
      const there = fromTypedArray(ids, [windows.length, blockSize]).to('int64'); // (B, T)
      // A copy from pinned memory is asynchronous: this thread does not wait for it.
      return device.startsWith('cuda') ? there.pinMemory().to({ device, nonBlocking: true }) : there.to(device);
    });
  return { x: batch(x), y: batch(y) };
}

function checkIds(
  file: TokenFile,
  start: number,
  ids: Uint16Array | Uint32Array | Int32Array,
  vocabSize: number,
): void {
  const wrong = ids.findIndex((id) => id >= vocabSize);
  if (wrong < 0) return;
  throw wrongData(
    `${file.path}: token ${file.placeOf(start + wrong)} is ${ids[wrong]}, but the model's ids are 0 to ${vocabSize - 1}. The ` +
      'file was made with another vocabulary, or holds ids of another type (option dtype)',
  );
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT for invalid sizes, or if the tokens do not fill a window */
export function checkWindows(
  where: string,
  tokens: Tokens,
  { batchSize, blockSize, device }: { batchSize: number; blockSize: number; device?: DeviceName },
): void {
  checkTokens(tokens, where);
  checkArgument(device === undefined || typeof device === 'string', 'a device', device, where);
  for (const [name, value] of Object.entries({ batchSize, blockSize })) {
    if (Number.isSafeInteger(value) && value > 0) continue;
    throw invalid(`${where}: ${name} must be a positive integer, got ${describe(value)}`);
  }
  if (tokens.length > blockSize) return;
  const place = tokens instanceof TokenFile ? ` in ${tokens.path}` : '';
  throw invalid(
    `${where}: windows of ${blockSize} tokens and their targets need at least ${blockSize + 1} tokens, but there are ` +
      `${tokens.length}${place}. Give more text, or a model with a smaller blockSize.`,
  );
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(message, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
