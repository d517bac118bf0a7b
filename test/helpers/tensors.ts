import { expect } from 'vitest';
import type { Tensor } from '../../lib/index';

/** The tensor's elements as the bytes they are, in order. */
export function bytesOf(tensor: Tensor): Buffer {
  const elements = tensor.detach().toTypedArray();
  return Buffer.from(elements.buffer, elements.byteOffset, elements.byteLength);
}

/** Same dtype, same shape, same bits: -0 is not 0, and a NaN equals itself. */
export function expectSameBits(actual: Tensor, expected: Tensor, what: string): void {
  expect(actual.dtype, `dtype of ${what}`).toBe(expected.dtype);
  expect(actual.shape, `shape of ${what}`).toEqual(expected.shape);
  // Compared as one boolean: a diff of a million bytes helps nobody.
  if (!bytesOf(actual).equals(bytesOf(expected))) {
    expect.fail(`${what}: bits differ, by up to ${maxDifference(actual, expected)} in value`);
  }
}

/** The largest absolute difference of two tensors of one shape; NaN where either holds one. */
export function maxDifference(actual: Tensor, expected: Tensor): number {
  expect(actual.shape).toEqual(expected.shape);
  if (actual.numel() === 0) return 0;
  return Number(actual.detach().to('float64').sub(expected.detach().to('float64')).abs().max().item());
}

/** Every element within `tolerance` of what was expected. */
export function expectClose(actual: Tensor, expected: Tensor, tolerance: number, what: string): void {
  expect(maxDifference(actual, expected), `largest difference of ${what}`).toBeLessThanOrEqual(tolerance);
}
