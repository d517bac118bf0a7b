import { checkArgument, checkOptions, describe, TorchBindError } from '../../errors';
import { type OperatorNamespace, ops } from '../../tensor/ops';
import { byPosition } from '../positional';
import * as aten from '../../tensor/generated/functions';
import { isTensor } from '../../tensor/creation';
import type { Tensor } from '../../tensor/tensor';
import { type Sizes, sizesOf } from './sizes';

export { channelShuffle, pad, pixelShuffle, pixelUnshuffle } from '../../tensor/generated/functions';

/** How values between pixels come about: by the nearest pixel, by lines, by cubic curves, or by means over areas. */
export type InterpolationMode = 'nearest' | 'nearest-exact' | 'linear' | 'bilinear' | 'bicubic' | 'trilinear' | 'area';

/** Options of `interpolate`. */
export interface InterpolateOptions {
  /** Sizes of the output, this or `scaleFactor`. */
  size?: Sizes | null;
  /** Factors from the input's sizes. */
  scaleFactor?: number | readonly number[] | null;
  /** Default `nearest`. */
  mode?: InterpolationMode;
  /** Whether the corners' centres, not their edges, lie on one another. Default false. */
  alignCorners?: boolean;
  /** Recompute the factors from the output sizes. Default false. */
  recomputeScaleFactor?: boolean;
  /** Let no detail of the input turn into a pattern where the image gets smaller. Default false. */
  antialias?: boolean;
}

const NAMES = ['size', 'scaleFactor', 'mode', 'alignCorners', 'recomputeScaleFactor', 'antialias'];
/** Operator of each mode, by the number of spatial dimensions. */
const OPERATORS: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  nearest: { 1: 'upsample_nearest1d', 2: 'upsample_nearest2d', 3: 'upsample_nearest3d' },
  'nearest-exact': {
    ...{ 1: '_upsample_nearest_exact1d', 2: '_upsample_nearest_exact2d', 3: '_upsample_nearest_exact3d' },
  },
  linear: { 1: 'upsample_linear1d' },
  bilinear: { 2: 'upsample_bilinear2d' },
  bicubic: { 2: 'upsample_bicubic2d' },
  trilinear: { 3: 'upsample_trilinear3d' },
  area: { 1: 'adaptive_avg_pool1d', 2: 'adaptive_avg_pool2d', 3: 'adaptive_avg_pool3d' },
};

/** Another size for the spatial dimensions of (N, C, ...): of a signal, an image or a volume. */
export const interpolate = byPosition(
  ['size', 'scaleFactor', 'mode', 'alignCorners', 'recomputeScaleFactor', 'antialias'],
  function interpolate(input: Tensor, options: InterpolateOptions = {}): Tensor {
    checkArgument(isTensor(input) && input.ndim >= 3, 'a tensor of 3, 4 or 5 dimensions', input, 'interpolate');
    checkOptions(options, NAMES, 'interpolate');
    const { mode = 'nearest', alignCorners, antialias = false } = options;
    const dims = input.ndim - 2;
    const isLine = !['nearest', 'nearest-exact', 'area'].includes(mode);
    if (alignCorners !== undefined && !isLine)
      throw invalid('alignCorners is for linear, bilinear, bicubic and trilinear');
    const operator = typeof mode === 'string' && Object.hasOwn(OPERATORS, mode) ? OPERATORS[mode]![dims] : undefined;
    if (operator === undefined) {
      const modes = Object.keys(OPERATORS).filter((name) => OPERATORS[name]![dims] !== undefined);
      throw invalid(`a tensor of ${input.ndim} dimensions takes the modes ${modes.join(', ')}, not ${describe(mode)}`);
    }
    const { size, factors } = spatial(input, options, dims);
    const { aten: operators }: Readonly<Record<string, OperatorNamespace>> = ops; // the name is computed
    if (mode === 'area') return operators![operator]!(input, size);
    if (!isLine) return operators![operator]!.vec!(input, size, factors);
    if (!antialias) return operators![operator]!.vec!(input, size, alignCorners ?? false, factors);
    if (dims !== 2) throw invalid('antialias is for bilinear and bicubic');
    return operators![`_${operator}_aa`]!.vec!(input, size, alignCorners ?? false, factors);
  },
);

/** Either the sizes or the factors, for each spatial dimension. */
function spatial(
  input: Tensor,
  options: InterpolateOptions,
  dims: number,
): { size: number[] | null; factors: number[] | null } {
  const { mode, recomputeScaleFactor = false, antialias = false } = options;
  const size = options.size ?? undefined;
  const scaleFactor = options.scaleFactor ?? undefined;
  if ((size === undefined) === (scaleFactor === undefined)) throw invalid('give either size or scaleFactor');
  if (antialias && mode !== 'bilinear' && mode !== 'bicubic') throw invalid('antialias is for bilinear and bicubic');
  if (size !== undefined) {
    if (recomputeScaleFactor) throw invalid('recomputeScaleFactor is of no use with a size');
    return { size: sizesOf(size, dims, 'interpolate'), factors: null };
  }
  const factors = typeof scaleFactor === 'number' ? new Array<number>(dims).fill(scaleFactor) : scaleFactor;
  const isFine = Array.isArray(factors) && factors.length === dims && factors.every((one) => typeof one === 'number');
  checkArgument(isFine, `a factor, or ${dims} of them`, scaleFactor, 'interpolate');
  const list = [...(factors as number[])];
  if (mode !== 'area' && !recomputeScaleFactor) return { size: null, factors: list };
  return { size: list.map((factor, i) => Math.trunc(input.size(i + 2) * factor)), factors: null };
}

/** Options of `gridSample`. */
export interface GridSampleOptions {
  /** Default `bilinear`. */
  mode?: 'bilinear' | 'nearest' | 'bicubic';
  /** What is outside: zeros (default), the border's values, or the input reflected. */
  paddingMode?: 'zeros' | 'border' | 'reflection';
  /** Whether -1 and 1 are the centres of the corner pixels, not their edges. Default false. */
  alignCorners?: boolean;
}

/** Values of (N, C, H, W) at the places (N, H', W', 2) from -1 to 1, x first: (N, C, H', W'). Volumes likewise. */
export const gridSample = byPosition(
  ['mode', 'paddingMode', 'alignCorners'],
  function gridSample(input: Tensor, grid: Tensor, options: GridSampleOptions = {}): Tensor {
    checkOptions(options, ['mode', 'paddingMode', 'alignCorners'], 'gridSample');
    const { mode = 'bilinear', paddingMode = 'zeros', alignCorners = false } = options;
    const modeCode = ['bilinear', 'nearest', 'bicubic'].indexOf(mode);
    checkArgument(modeCode >= 0, "'bilinear', 'nearest' or 'bicubic'", mode, 'gridSample: mode');
    const paddingCode = ['zeros', 'border', 'reflection'].indexOf(paddingMode);
    checkArgument(paddingCode >= 0, "'zeros', 'border' or 'reflection'", paddingMode, 'gridSample: paddingMode');
    return aten.gridSampler(input, grid, modeCode, paddingCode, alignCorners);
  },
);

/** Places for `gridSample` from affine maps (N, 2, 3), or (N, 3, 4): for an output of the sizes (N, C, H, W). */
export const affineGrid = byPosition(
  ['alignCorners'],
  function affineGrid(theta: Tensor, size: readonly number[], options: { alignCorners?: boolean } = {}): Tensor {
    checkOptions(options, ['alignCorners'], 'affineGrid');
    return aten.affineGridGenerator(theta, size, options.alignCorners ?? false);
  },
);

/** Options of `unfold` and `fold`. */
export interface WindowOptions {
  /** Default 1. */
  dilation?: Sizes;
  /** Default 0. */
  padding?: Sizes;
  /** Default 1. */
  stride?: Sizes;
}

/** The windows of (N, C, H, W) as columns: (N, C * kernel, L). */
export const unfold = byPosition(
  ['dilation', 'padding', 'stride'],
  function unfold(input: Tensor, kernelSize: Sizes, options: WindowOptions = {}): Tensor {
    checkOptions(options, ['dilation', 'padding', 'stride'], 'unfold');
    const pair = (value: Sizes): number[] => sizesOf(value, 2, 'unfold');
    const { dilation = 1, padding = 0, stride = 1 } = options;
    return aten.im2col(input, pair(kernelSize), pair(dilation), pair(padding), pair(stride));
  },
);

/** Sums the columns (N, C * kernel, L) of `unfold` into an image (N, C, ...outputSize). */
export const fold = byPosition(
  ['dilation', 'padding', 'stride'],
  function fold(input: Tensor, outputSize: Sizes, kernelSize: Sizes, options: WindowOptions = {}): Tensor {
    checkOptions(options, ['dilation', 'padding', 'stride'], 'fold');
    const pair = (value: Sizes): number[] => sizesOf(value, 2, 'fold');
    const { dilation = 1, padding = 0, stride = 1 } = options;
    return aten.col2im(input, pair(outputSize), pair(kernelSize), pair(dilation), pair(padding), pair(stride));
  },
);

function invalid(reason: string): TorchBindError {
  return new TorchBindError(`interpolate: ${reason}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
