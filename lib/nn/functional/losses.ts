import { checkOptions, describe, TorchBindError } from '../../errors';
import { byPosition } from '../positional';
import * as aten from '../../tensor/generated/functions';
import { noGrad } from '../../tensor/autograd';
import { tidy } from '../../tensor/scope';
import { checkTensor, isTensor } from '../../tensor/creation';
import type { Tensor } from '../../tensor/tensor';
import { type LossOptions, reduce, type Reduction, reductionCode } from './reduction';

/** Squared differences of two tensors of one shape; their mean unless `reduction` says otherwise. */
export const mseLoss = byPosition(
  [null, null, 'reduction'],
  function mseLoss(input: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
    checkOptions(options, ['reduction'], 'mseLoss');
    return aten.mseLoss(input, target, reductionCode(options.reduction, 'mseLoss'));
  },
);

/** Absolute differences of two tensors of one shape. */
export const l1Loss = byPosition(
  [null, null, 'reduction'],
  function l1Loss(input: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
    checkOptions(options, ['reduction'], 'l1Loss');
    return aten.l1Loss(input, target, reductionCode(options.reduction, 'l1Loss'));
  },
);

/** Squared differences below `beta` (default 1), absolute ones above. */
export const smoothL1Loss = byPosition(
  [null, null, 'reduction', 'beta'],
  function smoothL1Loss(input: Tensor, target: Tensor, options: LossOptions & { beta?: number } = {}): Tensor {
    checkOptions(options, ['reduction', 'beta'], 'smoothL1Loss');
    const { reduction, beta = 1 } = options;
    if (beta === 0) return l1Loss(input, target, { reduction });
    return aten.smoothL1Loss(input, target, reductionCode(reduction, 'smoothL1Loss'), beta);
  },
);

/** Squared differences below `delta` (default 1), above `delta` times the absolute ones. */
export const huberLoss = byPosition(
  ['reduction', 'delta'],
  function huberLoss(input: Tensor, target: Tensor, options: LossOptions & { delta?: number } = {}): Tensor {
    checkOptions(options, ['reduction', 'delta'], 'huberLoss');
    return aten.huberLoss(input, target, reductionCode(options.reduction, 'huberLoss'), options.delta ?? 1);
  },
);

export interface ClassLossOptions extends LossOptions {
  /** A weight for each class (C). */
  weight?: Tensor | null;
  /** Targets of this class count for nothing. Default -100. */
  ignoreIndex?: number;
}

export interface CrossEntropyOptions extends ClassLossOptions {
  /** Share of probability spread evenly over all classes. Default 0. */
  labelSmoothing?: number;
}

/** Cross-entropy of logits (N, C, ...) with class indices (N, ...) int64, or with class probabilities of the logits' shape. */
export const crossEntropy = byPosition(
  ['weight', null, 'ignoreIndex', null, 'reduction', 'labelSmoothing'],
  function crossEntropy(input: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
    checkOptions(options, ['weight', 'ignoreIndex', 'reduction', 'labelSmoothing'], 'crossEntropy');
    const { weight = null, ignoreIndex = -100, labelSmoothing = 0 } = options;
    const code = reductionCode(options.reduction, 'crossEntropy');
    return aten.crossEntropyLoss(input, target, weight, code, ignoreIndex, labelSmoothing);
  },
);

/** Negative log-likelihood: of log-probabilities (N, C, ...) with class indices (N, ...) int64. */
export const nllLoss = byPosition(
  ['weight', null, 'ignoreIndex', null, 'reduction'],
  function nllLoss(input: Tensor, target: Tensor, options: ClassLossOptions = {}): Tensor {
    checkOptions(options, ['weight', 'ignoreIndex', 'reduction'], 'nllLoss');
    const { weight = null, ignoreIndex = -100, reduction } = options;
    return aten.nllLossNd(input, target, weight, reductionCode(reduction, 'nllLoss'), ignoreIndex);
  },
);

/** Of probabilities, with targets between 0 and 1; `weight` multiplies the losses of the elements. */
export const binaryCrossEntropy = byPosition(
  ['weight', null, null, 'reduction'],
  function binaryCrossEntropy(
    input: Tensor,
    target: Tensor,
    options: LossOptions & { weight?: Tensor | null } = {},
  ): Tensor {
    checkOptions(options, ['weight', 'reduction'], 'binaryCrossEntropy');
    const { weight = null, reduction } = options;
    return aten.binaryCrossEntropy(input, target, weight, reductionCode(reduction, 'binaryCrossEntropy'));
  },
);

/** Of logits, with targets between 0 and 1; `posWeight` multiplies the losses of positive targets. */
export const binaryCrossEntropyWithLogits = byPosition(
  ['weight', null, null, 'reduction', 'posWeight'],
  function binaryCrossEntropyWithLogits(
    input: Tensor,
    target: Tensor,
    options: LossOptions & { weight?: Tensor | null; posWeight?: Tensor | null } = {},
  ): Tensor {
    const where = 'binaryCrossEntropyWithLogits';
    checkOptions(options, ['weight', 'posWeight', 'reduction'], where);
    const { weight = null, posWeight = null, reduction } = options;
    return aten.binaryCrossEntropyWithLogits(input, target, weight, posWeight, reductionCode(reduction, where));
  },
);

/**
 * Kullback-Leibler divergence of log-probabilities from probabilities, or with `logTarget` from log-probabilities. The
 * reduction `batchmean` is the sum divided by the size of the first dimension, which is the definition.
 */
export const klDiv = byPosition(
  [null, null, 'reduction', 'logTarget'],
  function klDiv(
    input: Tensor,
    target: Tensor,
    options: { reduction?: Reduction | 'batchmean'; logTarget?: boolean } = {},
  ): Tensor {
    checkOptions(options, ['reduction', 'logTarget'], 'klDiv');
    const { reduction = 'mean', logTarget = false } = options;
    checkTensor(input, 'klDiv');
    if (reduction !== 'batchmean') return aten.klDiv(input, target, reductionCode(reduction, 'klDiv'), { logTarget });
    const sum = aten.klDiv(input, target, reductionCode('sum', 'klDiv'), { logTarget });
    return input.ndim === 0 ? sum : sum.div(input.size(0));
  },
);

export interface PoissonNllOptions extends LossOptions {
  /** Whether the input is the logarithm of the expected number. Default true. */
  logInput?: boolean;
  /** Add Stirling's approximation of the part that depends on the target alone. Default false. */
  full?: boolean;
  /** Added to an input that is not a logarithm. Default 1e-8. */
  eps?: number;
}

/** Negative log-likelihood of numbers that are Poisson-distributed. */
export const poissonNllLoss = byPosition(
  ['logInput', 'full', null, 'eps', null, 'reduction'],
  function poissonNllLoss(input: Tensor, target: Tensor, options: PoissonNllOptions = {}): Tensor {
    checkOptions(options, ['logInput', 'full', 'eps', 'reduction'], 'poissonNllLoss');
    const { logInput = true, full = false, eps = 1e-8, reduction } = options;
    return aten.poissonNllLoss(input, target, logInput, full, eps, reductionCode(reduction, 'poissonNllLoss'));
  },
);

/** Negative log-likelihood of a normal distribution of mean `input` and variance `variance`, which is at least `eps`. */
export const gaussianNllLoss = byPosition(
  ['full', 'eps', 'reduction'],
  function gaussianNllLoss(
    input: Tensor,
    target: Tensor,
    variance: Tensor | number,
    options: LossOptions & { full?: boolean; eps?: number } = {},
  ): Tensor {
    checkOptions(options, ['full', 'eps', 'reduction'], 'gaussianNllLoss');
    checkTensor(input, 'gaussianNllLoss');
    const { full = false, eps = 1e-6, reduction } = options;
    return tidy(() => {
      const given = isTensor(variance) ? variance : aten.fullLike(input, variance);
      if (given.lt(0).any().item()) {
        throw new TorchBindError('gaussianNllLoss: a variance is negative.', 'ERR_TORCHBIND_INVALID_ARGUMENT');
      }
      const isRow = given.ndim === input.ndim - 1 && given.shape.every((size, dim) => size === input.shape[dim]);
      const bounded = (isRow ? given.unsqueeze(-1) : given).clone();
      noGrad(() => bounded.clamp_({ min: eps }));
      const losses = bounded.log().add(input.sub(target).pow(2).div(bounded)).mul(0.5);
      return reduce(full ? losses.add(0.5 * Math.log(2 * Math.PI)) : losses, reduction, 'gaussianNllLoss');
    });
  },
);

export interface CtcOptions extends LossOptions {
  /** Class of the blank. Default 0. */
  blank?: number;
  /** Count infinite losses, of inputs too short for their targets, as 0. Default false. */
  zeroInfinity?: boolean;
}

/** Connectionist temporal classification: log-probabilities (T, N, C) with targets (N, S), or all in one row. */
export const ctcLoss = byPosition(
  ['blank', 'reduction', 'zeroInfinity'],
  function ctcLoss(
    logProbs: Tensor,
    targets: Tensor,
    inputLengths: Tensor | readonly number[],
    targetLengths: Tensor | readonly number[],
    options: CtcOptions = {},
  ): Tensor {
    checkOptions(options, ['blank', 'reduction', 'zeroInfinity'], 'ctcLoss');
    const { blank = 0, reduction, zeroInfinity = false } = options;
    const rest = [blank, reductionCode(reduction, 'ctcLoss'), zeroInfinity] as const;
    if (isTensor(inputLengths) && isTensor(targetLengths))
      return aten.ctcLoss(logProbs, targets, inputLengths, targetLengths, ...rest);
    if (Array.isArray(inputLengths) && Array.isArray(targetLengths))
      return aten.ctcLoss(logProbs, targets, inputLengths as number[], targetLengths as number[], ...rest);
    throw new TorchBindError(
      `ctcLoss: expected inputLengths and targetLengths both as tensors, or both as arrays, got ${describe(inputLengths)} and ${describe(targetLengths)}.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  },
);
