import { checkFunction, checkOptions, takes } from '../../errors';
import { byPosition } from '../positional';
import * as aten from '../../tensor/generated/functions';
import { checkTensor } from '../../tensor/creation';
import { tidy } from '../../tensor/scope';
import type { Tensor } from '../../tensor/tensor';
import { type LossOptions, reduce, reductionCode } from './reduction';

export interface MarginOptions extends LossOptions {
  /** The loss is zero from this distance on. */
  margin?: number;
}

/** Of pairs (N, D): small where their cosine is near 1 for targets of 1, and below `margin` (default 0) for targets of -1. */
export const cosineEmbeddingLoss = byPosition(
  ['margin', null, null, 'reduction'],
  function cosineEmbeddingLoss(x1: Tensor, x2: Tensor, target: Tensor, options: MarginOptions = {}): Tensor {
    checkOptions(options, ['margin', 'reduction'], 'cosineEmbeddingLoss');
    const code = reductionCode(options.reduction, 'cosineEmbeddingLoss');
    return aten.cosineEmbeddingLoss(x1, x2, target, options.margin ?? 0, code);
  },
);

/** The input itself for targets of 1, and what it lacks to `margin` (default 1) for targets of -1. */
export const hingeEmbeddingLoss = byPosition(
  ['margin', null, null, 'reduction'],
  function hingeEmbeddingLoss(input: Tensor, target: Tensor, options: MarginOptions = {}): Tensor {
    checkOptions(options, ['margin', 'reduction'], 'hingeEmbeddingLoss');
    const code = reductionCode(options.reduction, 'hingeEmbeddingLoss');
    return aten.hingeEmbeddingLoss(input, target, options.margin ?? 1, code);
  },
);

/** Small where `x1` is above `x2` by `margin` (default 0) for targets of 1, and below it for targets of -1. */
export const marginRankingLoss = byPosition(
  ['margin', null, null, 'reduction'],
  function marginRankingLoss(x1: Tensor, x2: Tensor, target: Tensor, options: MarginOptions = {}): Tensor {
    checkOptions(options, ['margin', 'reduction'], 'marginRankingLoss');
    const code = reductionCode(options.reduction, 'marginRankingLoss');
    return aten.marginRankingLoss(x1, x2, target, options.margin ?? 0, code);
  },
);

/** Two-class logistic loss of targets of 1 and -1. */
export const softMarginLoss = byPosition(
  [null, null, 'reduction'],
  function softMarginLoss(input: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
    checkOptions(options, ['reduction'], 'softMarginLoss');
    return aten.softMarginLoss(input, target, reductionCode(options.reduction, 'softMarginLoss'));
  },
);

export interface MultiMarginOptions extends MarginOptions {
  /** Exponent, 1 (default) or 2. */
  p?: number;
  /** A weight for each class (C). */
  weight?: Tensor | null;
}

/** Hinge loss of scores (N, C) with class indices (N); `margin` is 1. */
export const multiMarginLoss = byPosition(
  ['p', 'margin', 'weight', null, null, 'reduction'],
  function multiMarginLoss(input: Tensor, target: Tensor, options: MultiMarginOptions = {}): Tensor {
    checkOptions(options, ['p', 'margin', 'weight', 'reduction'], 'multiMarginLoss');
    const { p = 1, margin = 1, weight = null, reduction } = options;
    return aten.multiMarginLoss(input, target, p, margin, weight, reductionCode(reduction, 'multiMarginLoss'));
  },
);

/** Hinge loss of scores (N, C) with several classes each: indices (N, C), ended by -1. */
export const multilabelMarginLoss = byPosition(
  [null, null, 'reduction'],
  function multilabelMarginLoss(input: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
    checkOptions(options, ['reduction'], 'multilabelMarginLoss');
    return aten.multilabelMarginLoss(input, target, reductionCode(options.reduction, 'multilabelMarginLoss'));
  },
);

/** Logistic loss of each class, averaged over classes: logits (N, C) with targets (N, C) of 0 and 1. */
export const multilabelSoftMarginLoss = byPosition(
  ['weight', null, null, 'reduction'],
  function multilabelSoftMarginLoss(
    input: Tensor,
    target: Tensor,
    options: LossOptions & { weight?: Tensor | null } = {},
  ): Tensor {
    checkOptions(options, ['weight', 'reduction'], 'multilabelSoftMarginLoss');
    checkTensor(input, 'multilabelSoftMarginLoss');
    checkTensor(target, 'multilabelSoftMarginLoss');
    const { weight = null, reduction } = options;
    return tidy(() => {
      const positive = target.mul(aten.logSigmoid(input));
      const losses = positive.add(aten.rsub(target, 1).mul(aten.logSigmoid(input.neg()))).neg();
      const weighted = weight === null ? losses : losses.mul(weight);
      const ofRows = weighted.sum(-1).div(input.size(-1));
      return reduce(ofRows, reduction, 'multilabelSoftMarginLoss');
    });
  },
);

export interface TripletOptions extends MarginOptions {
  /** Norm of the distance. Default 2. */
  p?: number;
  /** Added to each difference. Default 1e-6. */
  eps?: number;
  /** Take the distance of positive and negative where it is the smaller one. Default false. */
  swap?: boolean;
}

/** What the distance to the positive one lacks of being `margin` (default 1) below that to the negative one: three of (N, D). */
export const tripletMarginLoss = byPosition(
  ['margin', 'p', 'eps', 'swap', null, null, 'reduction'],
  function tripletMarginLoss(anchor: Tensor, positive: Tensor, negative: Tensor, options: TripletOptions = {}): Tensor {
    checkOptions(options, ['margin', 'p', 'eps', 'swap', 'reduction'], 'tripletMarginLoss');
    const { margin = 1, p = 2, eps = 1e-6, swap = false, reduction } = options;
    const code = reductionCode(reduction, 'tripletMarginLoss');
    return aten.tripletMarginLoss(anchor, positive, negative, margin, p, eps, swap, code);
  },
);

export interface TripletDistanceOptions extends MarginOptions {
  /** Distance of two tensors. Default: `pairwiseDistance`. */
  distanceFunction?: (a: Tensor, b: Tensor) => Tensor;
  swap?: boolean;
}

/** `tripletMarginLoss` with any distance. */
export const tripletMarginWithDistanceLoss = takes(
  4,
  function tripletMarginWithDistanceLoss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    options: TripletDistanceOptions = {},
  ): Tensor {
    const where = 'tripletMarginWithDistanceLoss';
    checkOptions(options, ['distanceFunction', 'margin', 'swap', 'reduction'], where);
    const { distanceFunction = aten.pairwiseDistance, margin = 1, swap = false, reduction } = options;
    checkFunction(distanceFunction, where);
    const distance = (a: Tensor, b: Tensor): Tensor => {
      const result = distanceFunction(a, b);
      checkTensor(result, `${where}: a distance`);
      return result;
    };
    return tidy(() => {
      const near = distance(anchor, positive);
      const far = distance(anchor, negative);
      const least = swap ? aten.minimum(far, distance(positive, negative)) : far;
      return reduce(near.add(margin).sub(least).clampMin(0), reduction, where);
    });
  },
);
