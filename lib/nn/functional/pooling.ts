import { checkArgument, checkFlags, checkOptions } from '../../errors';
import { byPosition, optionsFrom, type Positional } from '../positional';
import * as aten from '../../tensor/generated/functions';
import { tidy } from '../../tensor/scope';
import { checkTensor, isTensor } from '../../tensor/creation';
import type { Tensor } from '../../tensor/tensor';
import { type Sizes, sizesOf } from './sizes';

export {
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveAvgPool3d,
  avgPool1d,
  avgPool2d,
  avgPool3d,
  conv1d,
  conv2d,
  conv3d,
  convTranspose1d,
  convTranspose2d,
  convTranspose3d,
} from '../../tensor/generated/functions';

/** Options of `maxPool1d` to `maxPool3d`. */
export interface MaxPoolOptions {
  /** Default: the size of the kernel. */
  stride?: Sizes;
  /** Default 0. */
  padding?: Sizes;
  /** Default 1. */
  dilation?: Sizes;
  /** Round the output's size up. Default false. */
  ceilMode?: boolean;
}

type MaxPoolPlaces = readonly ['stride', 'padding', 'dilation', 'ceilMode', 'returnIndices'];
const MAX_POOL_PLACES: MaxPoolPlaces = ['stride', 'padding', 'dilation', 'ceilMode', 'returnIndices'];

interface MaxPool {
  (input: Tensor, kernelSize: Sizes, options: MaxPoolOptions & { returnIndices: true }): [Tensor, Tensor];
  (
    input: Tensor,
    kernelSize: Sizes,
    stride: Sizes | undefined,
    padding: Sizes | undefined,
    dilation: Sizes | undefined,
    ceilMode: boolean | undefined,
    returnIndices: true | { returnIndices: true },
  ): [Tensor, Tensor];
  (
    input: Tensor,
    kernelSize: Sizes,
    ...rest: Positional<MaxPoolOptions & { returnIndices?: false | undefined }, MaxPoolPlaces>
  ): Tensor;
}

interface AdaptiveMaxPool {
  (input: Tensor, outputSize: Sizes, returnIndices: true | { returnIndices: true }): [Tensor, Tensor];
  (input: Tensor, outputSize: Sizes, returnIndices?: false | { returnIndices?: false | undefined }): Tensor;
}

type Call = (...args: unknown[]) => unknown;

const maxPool = (plain: unknown, withIndices: unknown, where: string): MaxPool =>
  ((input: Tensor, kernelSize: Sizes, ...rest: unknown[]) => {
    const found = optionsFrom<{ returnIndices?: unknown }>(rest, MAX_POOL_PLACES, where, 2);
    const { returnIndices = false, ...options } = found;
    checkFlags({ returnIndices }, where);
    return ((returnIndices === true ? withIndices : plain) as Call)(input, kernelSize, options);
  }) as MaxPool;

const adaptiveMaxPool = (
  pool: (input: Tensor, outputSize: Sizes) => [Tensor, Tensor],
  where: string,
): AdaptiveMaxPool =>
  byPosition(
    ['returnIndices'],
    (input: Tensor, outputSize: Sizes, options: { returnIndices?: boolean } = {}) => {
      checkOptions(options, ['returnIndices'], where);
      const [values, indices] = pool(input, outputSize);
      if (options.returnIndices === true) return [values, indices];
      indices.dispose();
      return values;
    },
    where,
  ) as AdaptiveMaxPool;

/** Largest elements of windows of (N, C, L); with `returnIndices` their places too. */
export const maxPool1d = maxPool(aten.maxPool1d, aten.maxPool1dWithIndices, 'maxPool1d');
/** Largest elements of windows of (N, C, H, W); with `returnIndices` their places too. */
export const maxPool2d = maxPool(aten.maxPool2d, aten.maxPool2dWithIndices, 'maxPool2d');
/** Largest elements of windows of (N, C, D, H, W); with `returnIndices` their places too. */
export const maxPool3d = maxPool(aten.maxPool3d, aten.maxPool3dWithIndices, 'maxPool3d');
/** As `maxPool1d`, of as many windows as the output shall have elements. */
export const adaptiveMaxPool1d = adaptiveMaxPool(aten.adaptiveMaxPool1d, 'adaptiveMaxPool1d');
/** As `maxPool2d`, of as many windows as the output shall have elements. */
export const adaptiveMaxPool2d = adaptiveMaxPool(aten.adaptiveMaxPool2d, 'adaptiveMaxPool2d');
/** As `maxPool3d`, of as many windows as the output shall have elements. */
export const adaptiveMaxPool3d = adaptiveMaxPool(aten.adaptiveMaxPool3d, 'adaptiveMaxPool3d');

/** Options of `maxUnpool1d` to `maxUnpool3d`. */
export interface UnpoolOptions {
  /** Default: the size of the kernel. */
  stride?: Sizes;
  /** Default 0. */
  padding?: Sizes;
  /** Sizes of the output, where several inputs of the pooling would give the same. */
  outputSize?: readonly number[];
}

/** What `maxUnpool` computes with, for each dimension. */
function unpoolSizes(
  input: Tensor,
  kernelSize: Sizes,
  options: UnpoolOptions,
  dims: number,
): { output: number[]; stride: number[]; padding: number[] } {
  const where = `maxUnpool${dims}d`;
  checkOptions(options, ['stride', 'padding', 'outputSize'], where);
  checkArgument(isTensor(input) && input.ndim >= dims, `a tensor of at least ${dims} dimensions`, input, where);
  const kernel = sizesOf(kernelSize, dims, where);
  const stride = sizesOf(options.stride ?? kernelSize, dims, where);
  const padding = sizesOf(options.padding ?? 0, dims, where);
  const { outputSize } = options;
  const isFine = outputSize === undefined || Array.isArray(outputSize);
  checkArgument(isFine, 'an array of sizes', outputSize, `${where}: outputSize`);
  const given = outputSize?.slice(-dims);
  const sizes = input.shape.slice(-dims);
  const output = given ?? sizes.map((size, i) => (size - 1) * stride[i]! + kernel[i]! - 2 * padding[i]!);
  return { output: sizesOf(output, dims, where), stride, padding };
}

/** Puts what `maxPool1d` found back to its places, among zeros. */
export const maxUnpool1d = byPosition(
  ['stride', 'padding', 'outputSize'],
  function maxUnpool1d(input: Tensor, indices: Tensor, kernelSize: Sizes, options: UnpoolOptions = {}): Tensor {
    const { output } = unpoolSizes(input, kernelSize, options, 1);
    checkTensor(indices, 'maxUnpool1d');
    return tidy(() => aten.maxUnpool2d(input.unsqueeze(-1), indices.unsqueeze(-1), [...output, 1]).squeeze(-1));
  },
);

/** Puts what `maxPool2d` found back to its places, among zeros. */
export const maxUnpool2d = byPosition(
  ['stride', 'padding', 'outputSize'],
  function maxUnpool2d(input: Tensor, indices: Tensor, kernelSize: Sizes, options: UnpoolOptions = {}): Tensor {
    return aten.maxUnpool2d(input, indices, unpoolSizes(input, kernelSize, options, 2).output);
  },
);

/** Puts the maxima of `maxPool3d` back at their positions, with zeros elsewhere (PyTorch's `max_unpool3d`). */
export const maxUnpool3d = byPosition(
  ['stride', 'padding', 'outputSize'],
  function maxUnpool3d(input: Tensor, indices: Tensor, kernelSize: Sizes, options: UnpoolOptions = {}): Tensor {
    const { output, stride, padding } = unpoolSizes(input, kernelSize, options, 3);
    return aten.maxUnpool3d(input, indices, output, stride, padding);
  },
);

/** Options of `lpPool1d` to `lpPool3d`. */
export interface LpPoolOptions {
  /** Default: the size of the kernel. */
  stride?: Sizes;
  /** Round the output's size up. Default false. */
  ceilMode?: boolean;
}

type AvgPool = (input: Tensor, kernelSize: Sizes, options?: LpPoolOptions) => Tensor;

const lpPool = (pool: AvgPool, dims: number) =>
  byPosition(
    ['stride', 'ceilMode'],
    (input: Tensor, normType: number, kernelSize: Sizes, options: LpPoolOptions = {}): Tensor => {
      const where = `lpPool${dims}d`;
      checkOptions(options, ['stride', 'ceilMode'], where);
      checkTensor(input, where);
      checkArgument(typeof normType === 'number', 'a number', normType, where);
      const count = sizesOf(kernelSize, dims, where).reduce((a, b) => a * b);
      return tidy(() => {
        const mean = pool(input.pow(normType), kernelSize, options);
        return mean
          .sign()
          .mul(mean.abs().relu())
          .mul(count)
          .pow(1 / normType);
      });
    },
    `lpPool${dims}d`,
  );

/** The p-norm of windows of (N, C, L), without the roots' signs: (sum of x^p)^(1/p). */
export const lpPool1d = lpPool(aten.avgPool1d, 1);
/** As `lpPool1d`, of (N, C, H, W). */
export const lpPool2d = lpPool(aten.avgPool2d, 2);
/** As `lpPool1d`, of (N, C, D, H, W). */
export const lpPool3d = lpPool(aten.avgPool3d, 3);
