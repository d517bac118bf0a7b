import { checkArgument, checkOptions } from '../../errors';
import { byPosition } from '../positional';
import * as aten from '../../tensor/generated/functions';
import { norm } from '../../tensor/composites';
import { tidy } from '../../tensor/scope';
import { checkTensor, isTensor } from '../../tensor/creation';
import type { Tensor } from '../../tensor/tensor';

export { rmsNorm } from '../../tensor/generated/functions';

/** Scale, shift and epsilon of a normalisation. */
export interface AffineOptions {
  /** A factor for each channel (C), or each element of `normalizedShape`. */
  weight?: Tensor | null;
  /** What is added to each channel (C), or each element of `normalizedShape`. */
  bias?: Tensor | null;
  /** Added to the variance. Default 1e-5. */
  eps?: number;
}

/** Normalises over the last dimensions, whose sizes are `normalizedShape`; weight and bias have these sizes. */
export const layerNorm = byPosition(
  ['weight', 'bias', 'eps'],
  function layerNorm(input: Tensor, normalizedShape: readonly number[], options: AffineOptions = {}): Tensor {
    checkOptions(options, ['weight', 'bias', 'eps'], 'layerNorm');
    const { weight = null, bias = null, eps = 1e-5 } = options;
    return aten.layerNorm(input, normalizedShape, weight, bias, eps);
  },
);

/** Options of `batchNorm`. */
export interface BatchNormOptions extends AffineOptions {
  /** Normalise by the batch, and move the running figures. Default false. */
  training?: boolean;
  /** Weight of the batch's statistics in the running statistics. Default 0.1. */
  momentum?: number;
}

/** Normalises each channel of (N, C, ...) by the batch in training, else by the running mean and variance (C). */
export const batchNorm = byPosition(
  ['weight', 'bias', 'training', 'momentum', 'eps'],
  function batchNorm(
    input: Tensor,
    runningMean: Tensor | null,
    runningVar: Tensor | null,
    options: BatchNormOptions = {},
  ): Tensor {
    checkOptions(options, ['weight', 'bias', 'training', 'momentum', 'eps'], 'batchNorm');
    const { weight = null, bias = null, training = false, momentum = 0.1, eps = 1e-5 } = options;
    return aten.batchNorm(input, weight, bias, runningMean, runningVar, training, momentum, eps, true);
  },
);

/** Options of `instanceNorm`. */
export interface InstanceNormOptions extends AffineOptions {
  runningMean?: Tensor | null;
  runningVar?: Tensor | null;
  /** Normalise by the input, not by the running figures. Default true. */
  useInputStats?: boolean;
  /** Default 0.1. */
  momentum?: number;
}

/** Normalises each channel of each sample of (N, C, ...). */
export const instanceNorm = byPosition(
  ['runningMean', 'runningVar', 'weight', 'bias', 'useInputStats', 'momentum', 'eps'],
  function instanceNorm(input: Tensor, options: InstanceNormOptions = {}): Tensor {
    const names = ['runningMean', 'runningVar', 'weight', 'bias', 'useInputStats', 'momentum', 'eps'];
    checkOptions(options, names, 'instanceNorm');
    const { runningMean = null, runningVar = null, weight = null, bias = null } = options;
    const { useInputStats = true, momentum = 0.1, eps = 1e-5 } = options;
    return aten.instanceNorm(input, weight, bias, runningMean, runningVar, useInputStats, momentum, eps, true);
  },
);

/** Normalises each of `numGroups` groups of channels of each sample of (N, C, ...). */
export const groupNorm = byPosition(
  ['weight', 'bias', 'eps'],
  function groupNorm(input: Tensor, numGroups: number, options: AffineOptions = {}): Tensor {
    checkOptions(options, ['weight', 'bias', 'eps'], 'groupNorm');
    const { weight = null, bias = null, eps = 1e-5 } = options;
    return aten.groupNorm(input, numGroups, weight, bias, eps);
  },
);

/** Options of `localResponseNorm`. */
export interface LocalResponseOptions {
  /** Default 1e-4. */
  alpha?: number;
  /** Default 0.75. */
  beta?: number;
  /** Default 1. */
  k?: number;
}

/** Divides by the squares of `size` neighbouring channels of (N, C, ...). */
export const localResponseNorm = byPosition(
  ['alpha', 'beta', 'k'],
  function localResponseNorm(input: Tensor, size: number, options: LocalResponseOptions = {}): Tensor {
    const where = 'localResponseNorm';
    checkOptions(options, ['alpha', 'beta', 'k'], where);
    const { alpha = 1e-4, beta = 0.75, k = 1 } = options;
    checkArgument(isTensor(input) && input.ndim >= 3, 'a tensor of at least 3 dimensions', input, where);
    checkArgument(Number.isSafeInteger(size) && size > 0, 'a number of channels', size, where);
    if (input.numel() === 0) return input;
    const [before, after] = [Math.floor(size / 2), Math.floor((size - 1) / 2)];
    return tidy(() => {
      const sums = (): Tensor => {
        if (input.ndim === 3) {
          const padded = aten.pad(input.mul(input).unsqueeze(1), [0, 0, before, after]);
          return aten.avgPool2d(padded, [size, 1], { stride: 1 }).squeeze(1);
        }
        const [n, c, h] = input.shape as [number, number, number];
        const padded = aten.pad(input.mul(input).view([n, 1, c, h, -1]), [0, 0, 0, 0, before, after]);
        return aten.avgPool3d(padded, [size, 1, 1], { stride: 1 }).squeeze(1).view(input.shape);
      };
      return input.div(sums().mul(alpha).add(k).pow(beta));
    });
  },
);

/** Options of `normalize`. */
export interface NormalizeOptions {
  /** Norm. Default 2. */
  p?: number;
  /** Default 1. */
  dim?: number | readonly number[];
  /** The least by which is divided. Default 1e-12. */
  eps?: number;
}

/** Divides by the norm along `dim`, so that it becomes 1. */
export const normalize = byPosition(
  ['p', 'dim', 'eps'],
  function normalize(input: Tensor, options: NormalizeOptions = {}): Tensor {
    checkOptions(options, ['p', 'dim', 'eps'], 'normalize');
    checkTensor(input, 'normalize');
    const { p = 2, dim = 1, eps = 1e-12 } = options;
    return tidy(() => input.div(norm(input, { p, dim, keepdim: true }).clampMin(eps).expandAs(input)));
  },
);
