import { checkOptions, describe, TorchBindError } from '../errors';
import * as aten from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';

/** PyTorch's `torch.nn.functional`, in its argument order. */

export {
  linear,
  relu,
  silu,
  tanh,
  sigmoid,
  softmax,
  logSoftmax,
  scaledDotProductAttention,
} from '../tensor/generated/functions';

/** Rows of `weight` (count, dim) for int64 indices (...): (..., dim). */
export function embedding(input: Tensor, weight: Tensor, options: { paddingIdx?: number } = {}): Tensor {
  checkOptions(options, ['paddingIdx'], 'embedding');
  return aten.embedding(weight, input, options.paddingIdx ?? -1);
}

/** Normalises over the last dimensions, whose sizes are `normalizedShape`. */
export function layerNorm(
  input: Tensor,
  normalizedShape: readonly number[],
  weight: Tensor | null = null,
  bias: Tensor | null = null,
  eps = 1e-5,
): Tensor {
  return aten.layerNorm(input, normalizedShape, weight, bias, eps);
}

/** Gaussian error linear unit; `tanh` is the approximation of GPT-2. */
export function gelu(input: Tensor, options: { approximate?: 'none' | 'tanh' } = {}): Tensor {
  return aten.gelu(input, options);
}

/** Zeroes each element with probability `p` and scales the others by 1 / (1 - p), when `training`. */
export function dropout(input: Tensor, p = 0.5, training = true): Tensor {
  return aten.dropout(input, p, training);
}

const REDUCTIONS = { none: 0, mean: 1, sum: 2 } as const;

/** What becomes of the losses of the elements. */
export type Reduction = keyof typeof REDUCTIONS;

/** The number by which aten knows a reduction. */
function reductionCode(reduction: Reduction, where: string): number {
  if (typeof reduction === 'string' && Object.hasOwn(REDUCTIONS, reduction)) return REDUCTIONS[reduction];
  throw new TorchBindError(
    `${where}: the reduction must be 'none', 'mean' or 'sum', but is ${describe(reduction)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** Squared differences of two tensors of one shape; their mean unless `reduction` says otherwise. */
export function mseLoss(input: Tensor, target: Tensor, options: { reduction?: Reduction } = {}): Tensor {
  checkOptions(options, ['reduction'], 'mseLoss');
  return aten.mseLoss(input, target, reductionCode(options.reduction ?? 'mean', 'mseLoss'));
}

export interface CrossEntropyOptions {
  /** A weight for each class (C). */
  weight?: Tensor | null;
  /** Targets of this class count for nothing. Default -100. */
  ignoreIndex?: number;
  /** `mean` (default) over targets, `sum`, or `none`. */
  reduction?: Reduction;
  /** Share of probability spread evenly over all classes. Default 0. */
  labelSmoothing?: number;
}

/** Cross-entropy of logits (N, C, ...) with class indices (N, ...) int64, or with class probabilities of the logits' shape. */
export function crossEntropy(input: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  checkOptions(options, ['weight', 'ignoreIndex', 'reduction', 'labelSmoothing'], 'crossEntropy');
  const { weight = null, ignoreIndex = -100, reduction = 'mean', labelSmoothing = 0 } = options;
  return aten.crossEntropyLoss(
    input,
    target,
    weight,
    reductionCode(reduction, 'crossEntropy'),
    ignoreIndex,
    labelSmoothing,
  );
}
