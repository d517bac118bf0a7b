/** Products of a few rows with large weights, which take most of the time of a generated token. */
import { loadedAddon } from '../native/native';
import { isAutocastEnabled } from '../tensor/autograd';
import { linear } from '../tensor/generated/functions';
import { Operator } from '../tensor/operator';
import type { Tensor } from '../tensor/tensor';

/** Elements of a weight from which oneDNN is ahead: for smaller ones what it prepares for a call costs more than it gains. */
const LARGE = 2 ** 17;

let isDecoding = false;
let oneDnn: Operator | undefined;

/**
 * Runs a synchronous function that computes no gradients, in which Linears multiply `rows` rows: on processors where oneDNN reads
 * large weights faster, it multiplies them.
 *
 * @param weight one of the model's, as the others are
 */
export function decoding<T>(rows: number, weight: Tensor, fn: () => T): T {
  const before = isDecoding;
  isDecoding = rows <= loadedAddon().kernels.oneDnnRows && weight.device === 'cpu' && !isAutocastEnabled('cpu');
  try {
    return fn();
  } finally {
    isDecoding = before;
  }
}

/** input (..., in) times weight (out, in) plus bias (out): (..., out). */
export function multiply(input: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  if (!isDecoding || weight.dtype !== 'float32' || weight.numel() < LARGE) return linear(input, weight, bias);
  oneDnn ??= new Operator('mkldnn::_linear_pointwise', '');
  return oneDnn.call([input, weight, bias, 'none', [], '']) as Tensor;
}
