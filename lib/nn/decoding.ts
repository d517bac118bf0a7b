/** Products of a few rows with large weights, which take most of the time of a generated token. */
import { loadedAddon } from '../native/native';
import { isAutocastEnabled } from '../tensor/autograd';
import type { DType } from '../tensor/dtype';
import { linear } from '../tensor/generated/functions';
import { Operator } from '../tensor/operator';
import type { Tensor } from '../tensor/tensor';

/** Whether our own kernel multiplies the rows of the pass under way, not libtorch's. */
let isOwn = false;
let ownLinear: Operator | undefined;

/**
 * Runs a synchronous function that computes no gradients, in which Linears multiply `rows` rows: by the kernel that reads large weights
 * fastest on this processor.
 *
 * @param weight one of the model's, as the others are
 */
export function decoding<T>(rows: number, weight: Tensor, fn: () => T): T {
  const before = isOwn;
  isOwn = weight.device === 'cpu' && !isAutocastEnabled('cpu') && isFaster(rows, weight.dtype);
  try {
    return fn();
  } finally {
    isOwn = before;
  }
}

function isFaster(rows: number, dtype: DType): boolean {
  const { ownRows } = loadedAddon().kernels;
  // Without instructions for bfloat16 our own kernel is ahead of libtorch's for any number of rows but two.
  return dtype === 'bfloat16' && isWithoutBfloat16() ? rows !== 2 : rows <= ownRows;
}

/** Whether our own kernel is used on a processor that has no instructions for bfloat16: all of AMD's with AVX-512 have them. */
function isWithoutBfloat16(): boolean {
  const { ownRows, processor } = loadedAddon().kernels;
  return ownRows > 0 && !processor.avx512;
}

/** input (..., in) times weight (out, in) plus bias (out): (..., out). */
export function multiply(input: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  const { dtype } = weight;
  return isOwn && (dtype === 'float32' || dtype === 'bfloat16')
    ? (own().call3(input, weight, bias) as Tensor)
    : linear(input, weight, bias);
}

/** As `multiply`, of one row with a weight int8 (out, in) and scales (out); null where libtorch's kernel is to be used. */
export function multiplyInt8(input: Tensor, weight: Tensor, bias: Tensor | null, scales: Tensor): Tensor | null {
  return isOwn && input.numel() === weight.size(1) ? (own().call([input, weight, bias, scales]) as Tensor) : null;
}

/** The dtype in which keys and values are cached, and attention to them is computed, for a model with this weight. */
export function cacheDType({ dtype, device }: Tensor): DType {
  // Without instructions for 16 bits libtorch's attention is several times slower in them than in float32.
  const isSlow = device === 'cpu' && (dtype === 'bfloat16' || dtype === 'float16') && isWithoutBfloat16();
  return isSlow ? 'float32' : dtype;
}

function own(): Operator {
  return (ownLinear ??= new Operator('torchbind::linear', ''));
}
