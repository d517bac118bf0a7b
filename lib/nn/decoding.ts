/** Products of a few rows with large weights, which take most of the time of a generated token. */
import { loadedAddon } from '../native/native';
import { isAutocastEnabled } from '../tensor/autograd';
import { linear } from '../tensor/generated/functions';
import { Operator } from '../tensor/operator';
import type { Tensor } from '../tensor/tensor';

/** Elements of a weight from which oneDNN is ahead: for smaller ones what it prepares for a call costs more than it gains. */
const LARGE = 2 ** 17;

/** What multiplies the rows of the pass under way; undefined for libtorch's own choice. */
let kernel: 'gemv' | 'oneDnn' | undefined;
let oneDnn: Operator | undefined;
let ownKernel: Operator | undefined;

/**
 * Runs a synchronous function that computes no gradients, in which Linears multiply `rows` rows: by the kernel that reads large weights
 * fastest on this processor.
 *
 * @param weight one of the model's, as the others are
 */
export function decoding<T>(rows: number, weight: Tensor, fn: () => T): T {
  const before = kernel;
  kernel = weight.device === 'cpu' && !isAutocastEnabled('cpu') ? kernelFor(rows) : undefined;
  try {
    return fn();
  } finally {
    kernel = before;
  }
}

function kernelFor(rows: number): typeof kernel {
  const { kernels } = loadedAddon();
  if (rows === 1 && kernels.gemv) return 'gemv';
  return rows <= kernels.oneDnnRows ? 'oneDnn' : undefined;
}

/** input (..., in) times weight (out, in) plus bias (out): (..., out). */
export function multiply(input: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  const { dtype } = weight;
  if (kernel === 'gemv' && (dtype === 'float32' || dtype === 'bfloat16'))
    return gemv().call3(input, weight, bias) as Tensor;
  if (kernel !== 'oneDnn' || dtype !== 'float32' || weight.numel() < LARGE) return linear(input, weight, bias);
  oneDnn ??= new Operator('mkldnn::_linear_pointwise', '');
  return oneDnn.call([input, weight, bias, 'none', [], '']) as Tensor;
}

/** As `multiply`, of one row with a weight int8 (out, in) and scales (out); null where libtorch's kernel is to be used. */
export function multiplyInt8(input: Tensor, weight: Tensor, bias: Tensor | null, scales: Tensor): Tensor | null {
  return kernel === 'gemv' ? (gemv().call([input, weight, bias, scales]) as Tensor) : null;
}

function gemv(): Operator {
  return (ownKernel ??= new Operator('torchbind::gemv', ''));
}
