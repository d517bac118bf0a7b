/** Products of a few rows with large weights, which take most of the time of a generated token. */
import { loadedAddon } from '../native/native';
import { isAutocastEnabled } from '../tensor/autograd';
import type { DType } from '../tensor/dtype';
import { linear } from '../tensor/generated/functions';
import { Operator } from '../tensor/operator';
import type { Tensor } from '../tensor/tensor';

/** Elements of a weight from which oneDNN is ahead: for smaller ones what it prepares for a call costs more than it gains. */
const LARGE = 2 ** 17;

/** What multiplies the rows of the pass under way; undefined for libtorch's own choice. */
let kernel: 'own' | 'oneDnn' | undefined;
let oneDnn: Operator | undefined;
let ownLinear: Operator | undefined;

/**
 * Runs a synchronous function that computes no gradients, in which Linears multiply `rows` rows: by the kernel that reads large weights
 * fastest on this processor.
 *
 * @param weight one of the model's, as the others are
 */
export function decoding<T>(rows: number, weight: Tensor, fn: () => T): T {
  const before = kernel;
  kernel = weight.device === 'cpu' && !isAutocastEnabled('cpu') ? kernelFor(rows, weight.dtype) : undefined;
  try {
    return fn();
  } finally {
    kernel = before;
  }
}

function kernelFor(rows: number, dtype: DType): typeof kernel {
  const { ownRows, oneDnnRows } = loadedAddon().kernels;
  // The processors of our own kernel have no instructions for bfloat16, so it is ahead of libtorch's for any number of rows but two.
  const isOwn = dtype === 'bfloat16' ? ownRows > 0 && rows !== 2 : rows <= ownRows;
  if (isOwn) return 'own';
  return rows <= oneDnnRows ? 'oneDnn' : undefined;
}

/** input (..., in) times weight (out, in) plus bias (out): (..., out). */
export function multiply(input: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  const { dtype } = weight;
  if (kernel === 'own' && (dtype === 'float32' || dtype === 'bfloat16'))
    return own().call3(input, weight, bias) as Tensor;
  if (kernel !== 'oneDnn' || dtype !== 'float32' || weight.numel() < LARGE) return linear(input, weight, bias);
  oneDnn ??= new Operator('mkldnn::_linear_pointwise', '');
  return oneDnn.call([input, weight, bias, 'none', [], '']) as Tensor;
}

/** As `multiply`, of one row with a weight int8 (out, in) and scales (out); null where libtorch's kernel is to be used. */
export function multiplyInt8(input: Tensor, weight: Tensor, bias: Tensor | null, scales: Tensor): Tensor | null {
  return kernel === 'own' && input.numel() === weight.size(1)
    ? (own().call([input, weight, bias, scales]) as Tensor)
    : null;
}

/** The dtype in which keys and values are cached, and attention to them is computed, for a model with this weight. */
export function cacheDType({ dtype, device }: Tensor): DType {
  // The processors of our own kernel have no instructions for 16 bits: libtorch's attention is several times slower there than in float32.
  const isSlow = device === 'cpu' && (dtype === 'bfloat16' || dtype === 'float16') && loadedAddon().kernels.ownRows > 0;
  return isSlow ? 'float32' : dtype;
}

function own(): Operator {
  return (ownLinear ??= new Operator('torchbind::linear', ''));
}
