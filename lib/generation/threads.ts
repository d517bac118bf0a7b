import type { GPTModel } from '../models/gpt-model';
import { getNumThreads, setNumThreads } from '../tensor/device';

/** Bytes of weights up to which one thread computes a token faster than two: with two, each operator ends with a wait. */
const SMALL = 16 * 2 ** 20;

/** Tokens of a pass up to which this holds. */
const FEW_TOKENS = 16;

/** Runs a synchronous function in which operators use at most `count` threads of the CPU. No result depends on their number. */
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

/** Threads that compute a pass of so many tokens fastest, for a model with so many bytes of weights; Infinity for all. */
export function fastestThreads(bytes: number, tokens: number): number {
  return tokens <= FEW_TOKENS && bytes <= SMALL ? 1 : Infinity;
}

/** Bytes of a model's weights. */
export function weightBytes(model: GPTModel): number {
  let bytes = 0;
  for (const parameter of model.parameters()) bytes += parameter.numel() * parameter.elementSize();
  return bytes;
}
