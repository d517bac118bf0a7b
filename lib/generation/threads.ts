import type { GPTModel } from '../models/gpt-model';
import { getNumThreads, setNumThreads } from '../tensor/device';

/** Bytes of weights up to which one thread computes a few tokens faster than two: with two, each operator ends with a wait. */
const SMALL = 16 * 2 ** 20;

/** As many tokens have the same bits with any number of threads. */
const FEW_TOKENS = 16;

/** Runs a synchronous function in which operators use at most `count` threads of the CPU. */
export function withThreads<T>(count: number, fn: () => T): T {
  const before = getNumThreads();
  if (before <= count) return fn();
  setNumThreads(count);
  try {
    return fn();
  } finally {
    setNumThreads(before);
  }
}

/**
 * Threads that compute a pass fastest; Infinity for all. A busy machine makes threads that wait for one another slower still.
 *
 * @param bytes of the model's weights
 * @param tokens of all sequences of the pass
 * @param isPacked whether it has several sequences: its products are rounded otherwise than those of one in any case
 */
export function fastestThreads(bytes: number, tokens: number, isPacked: boolean): number {
  const isSmall = bytes * Math.max(tokens, FEW_TOKENS) <= SMALL * FEW_TOKENS;
  return isSmall && (isPacked || tokens <= FEW_TOKENS) ? 1 : Infinity;
}

/** Bytes of a model's weights. */
export function weightBytes(model: GPTModel): number {
  let bytes = 0;
  for (const parameter of model.parameters()) bytes += parameter.numel() * parameter.elementSize();
  return bytes;
}
