import { checkArgument, checkOptions, takes, TorchBindError } from '../errors';
import { Tensor } from './core';
import { bindFunction, overloadSet } from './dispatch';
import type { DType } from './dtype';
import { isPlainObject } from '../objects';
import { ops } from './ops';
import { tidy } from './scope';

/** What Python's `torch` defines above the operators: other forms of arguments, and other defaults. */

type Call = (...args: unknown[]) => unknown;

/** Tensors one by one, or in one array. */
interface OfTensors<Result, Options = never> {
  (tensors: readonly Tensor[], options?: Options): Result;
  (...tensors: Tensor[]): Result;
  (...args: [...tensors: Tensor[], options: Options]): Result;
}

/** Arguments whose leading tensors are one array; from `least` tensors on. */
function gathered(args: readonly unknown[], least = 1): unknown[] {
  const end = args.findIndex((value) => !(value instanceof Tensor));
  const count = end < 0 ? args.length : end;
  return count < least ? [...args] : [args.slice(0, count), ...args.slice(count)];
}

function ofTensors<F>(name: string, least = 1): F {
  const call = bindFunction<Call>(name);
  return ((...args: unknown[]) => call(...gathered(args, least))) as F;
}

/** Tensors expanded to the shape that all broadcast to (PyTorch's `torch.broadcast_tensors`). */
export const broadcastTensors = ofTensors<OfTensors<Tensor[]>>('broadcast_tensors');
/** All combinations of the elements of tensors of one dimension: (product of sizes, number of tensors). */
export const cartesianProd = ofTensors<OfTensors<Tensor>>('cartesian_prod');
/** A matrix with the given ones along its diagonal. */
export const blockDiag = ofTensors<OfTensors<Tensor>>('block_diag');
/** The product of matrices, in the order that takes the fewest multiplications. */
export const chainMatmul = ofTensors<OfTensors<Tensor, { out?: Tensor }>>('chain_matmul');
/** Coordinates of a grid, a tensor for each dimension; `xy` swaps the first two, as NumPy does. Default `ij`. */
export const meshgrid = ofTensors<OfTensors<Tensor[], { indexing?: 'ij' | 'xy' }>>('meshgrid');

interface AtLeast {
  (tensor: Tensor): Tensor;
  (tensors: readonly Tensor[]): Tensor[];
  (...tensors: Tensor[]): Tensor[];
}

/** With dimensions of size 1 until there is one. */
export const atleast1d = ofTensors<AtLeast>('atleast_1d', 2);
/** With dimensions of size 1 until there are two. */
export const atleast2d = ofTensors<AtLeast>('atleast_2d', 2);
/** With dimensions of size 1 until there are three. */
export const atleast3d = ofTensors<AtLeast>('atleast_3d', 2);

/**
 * Sums of products, written as in Einstein's notation: `einsum('bij,bjk->bik', a, b)` (PyTorch's `torch.einsum`). The
 * operands come one by one, or in an array.
 */
export const einsum = ((equation: unknown, ...args: unknown[]) =>
  overloadSet('aten::einsum').call([equation, ...gathered(args)])) as {
  (equation: string, operands: readonly Tensor[], options?: { path?: readonly number[] | null }): Tensor;
  (equation: string, ...operands: Tensor[]): Tensor;
};

/**
 * Contracts dimensions of two tensors (PyTorch's `torch.tensordot`).
 *
 * @param dims how many: the last of the one with the first of the other (default 2); or which ones of each
 */
export function tensordot(
  a: Tensor,
  b: Tensor,
  dims?: number | readonly [readonly number[], readonly number[]] | { dims?: TensordotDims },
): Tensor;
export function tensordot(
  a: Tensor,
  b: Tensor,
  dimsA: readonly number[],
  dimsB: readonly number[],
  options?: { out?: Tensor },
): Tensor;
export function tensordot(a: Tensor, b: Tensor, ...rest: unknown[]): Tensor {
  const operator = overloadSet('aten::tensordot');
  if (rest.length > 1) return operator.call([a, b, ...rest]) as Tensor;
  const [first = 2] = rest;
  if (isPlainObject(first)) checkOptions(first, ['dims'], 'tensordot');
  const dims = isPlainObject(first) ? (first.dims ?? 2) : first;
  if (Array.isArray(dims) && dims.length === 2 && dims.every(Array.isArray))
    return operator.call([a, b, ...(dims as unknown[])]) as Tensor;
  const isCount = typeof dims === 'number' && Number.isSafeInteger(dims) && dims >= 0 && dims <= 64;
  checkArgument(isCount, 'how many dimensions, or two arrays of them', dims, 'tensordot');
  const count = dims as number;
  const last = Array.from({ length: count }, (_, i) => i - count);
  return operator.call([a, b, last, Array.from(last, (_, i) => i)]) as Tensor;
}

/** How many dimensions, or which ones of each tensor. */
export type TensordotDims = number | readonly [readonly number[], readonly number[]];

/** What `norm` takes. */
export interface NormOptions {
  /** Order of a vector's norm, `fro` (default), or `nuc` of matrices. */
  p?: number | 'fro' | 'nuc' | null;
  /** Dimensions that the norm is taken over. Default: all. */
  dim?: number | readonly number[] | null;
  /** Keep them, with size 1. Default false. */
  keepdim?: boolean;
  /** What to compute in. Default: the dtype of the input. */
  dtype?: DType;
}

const NORM = ['p', 'dim', 'keepdim', 'dtype'];

/** Norm of a vector, or of matrices for `nuc` (PyTorch's `torch.norm`); `linalg.vectorNorm` and `linalg.matrixNorm` are clearer. */
export function norm(input: Tensor, options?: NormOptions): Tensor;
export function norm(input: Tensor, p?: NormOptions['p'], options?: Omit<NormOptions, 'p'>): Tensor;
export function norm(
  input: Tensor,
  p: NormOptions['p'],
  dim: NormOptions['dim'],
  options?: Pick<NormOptions, 'keepdim' | 'dtype'>,
): Tensor;
export function norm(
  input: Tensor,
  p: NormOptions['p'],
  dim: NormOptions['dim'],
  keepdim: boolean,
  options?: Pick<NormOptions, 'dtype'>,
): Tensor;
export function norm(input: Tensor, ...rest: unknown[]): Tensor {
  const { p = 'fro', dim = null, keepdim = false, dtype = null } = byName(rest, NORM, 'norm');
  checkArgument(input instanceof Tensor, 'a tensor', input, 'norm');
  if (input.layout !== 'strided') return overloadSet('aten::norm').call([input, ...rest]) as Tensor;
  const dims = typeof dim === 'number' ? [dim] : (dim as number[] | null);
  const isFrobenius = p === 'fro' && (!Array.isArray(dim) || dim.length <= 2);
  const linalg = ops.aten;
  if (typeof p !== 'string' || isFrobenius)
    return linalg.linalg_vector_norm!(input, isFrobenius ? 2 : (p ?? 2), dims, keepdim, { dtype });
  return linalg.linalg_matrix_norm!(input, p, dims ?? input.shape.map((_, i) => i), keepdim, { dtype });
}

/** Positional arguments, and those named in trailing options, by name. */
function byName(args: readonly unknown[], names: readonly string[], where: string): Record<string, unknown> {
  const last = args.at(-1);
  const hasOptions = isPlainObject(last);
  const positional = hasOptions ? args.slice(0, -1) : args;
  if (hasOptions) checkOptions(last, names.slice(positional.length), where);
  checkArgument(positional.length <= names.length, `at most ${names.length + 1} arguments`, args, where);
  return { ...Object.fromEntries(positional.map((value, i) => [names[i]!, value])), ...(hasOptions ? last : {}) };
}

const CDIST_MODES = ['use_mm_for_euclid_dist_if_necessary', 'use_mm_for_euclid_dist', 'donot_use_mm_for_euclid_dist'];

/** What `cdist` takes. */
export interface CdistOptions {
  /** Order of the norm. Default 2. */
  p?: number;
  /** Whether Euclidean distances come from a matrix product: where there are more than 25 rows (default), always, or never. */
  computeMode?: string | number | null;
}

/** Distances of each row of (B, P, M) to each of (B, R, M): (B, P, R). */
export function cdist(x1: Tensor, x2: Tensor, options?: CdistOptions): Tensor;
export function cdist(x1: Tensor, x2: Tensor, p?: number, computeMode?: CdistOptions['computeMode']): Tensor;
export function cdist(x1: Tensor, x2: Tensor, ...rest: unknown[]): Tensor {
  const { p = 2, computeMode = null } = byName(rest, ['p', 'computeMode'], 'cdist');
  const code = typeof computeMode === 'string' ? CDIST_MODES.indexOf(computeMode) : computeMode;
  checkArgument(code !== -1, CDIST_MODES.join(' or '), computeMode, 'cdist: computeMode');
  return overloadSet('aten::cdist').call([x1, x2, p, code === 0 ? null : code]) as Tensor;
}

/** What `stft` takes. */
export interface StftOptions {
  /** Samples between frames. Default: a quarter of `nFft`. */
  hopLength?: number | null;
  /** Length of the window. Default `nFft`. */
  winLength?: number | null;
  /** Default: ones. */
  window?: Tensor | null;
  /** Pad the signal, so that frames are centred. Default true. */
  center?: boolean;
  /** How to pad. Default `reflect`. */
  padMode?: string;
  normalized?: boolean;
  /** Give only the half that determines the other; true (default) for real signals. */
  onesided?: boolean | null;
  /** Give complex numbers, which PyTorch demands. */
  returnComplex?: boolean | null;
  alignToWindow?: boolean | null;
}

const STFT = [
  'hopLength',
  'winLength',
  'window',
  'center',
  'padMode',
  'normalized',
  'onesided',
  'returnComplex',
  'alignToWindow',
];

/** Fourier transforms of frames of a signal (B, L): (B, N, frames) (PyTorch's `torch.stft`). */
export function stft(input: Tensor, nFft: number, options?: StftOptions): Tensor;
export function stft(
  input: Tensor,
  nFft: number,
  hopLength: number | null,
  winLength?: number | null,
  window?: Tensor | null,
  options?: Omit<StftOptions, 'hopLength' | 'winLength' | 'window'>,
): Tensor;
export function stft(input: Tensor, nFft: number, ...rest: unknown[]): Tensor {
  return ops.aten.stft.center(input, nFft, byName(rest, STFT, 'stft'));
}

/** A shape; one number is that of one dimension. */
function shapeOf(value: readonly number[] | number, expected: string, where: string): readonly number[] {
  const shape = typeof value === 'number' ? [value] : value;
  const isShape = Array.isArray(shape) && shape.length <= 64 && shape.every((n) => Number.isSafeInteger(n) && n >= 0);
  checkArgument(isShape, expected, value, where);
  return shape;
}

/** The shape that tensors of the given ones broadcast to (PyTorch's `torch.broadcast_shapes`). */
export function broadcastShapes(...shapes: readonly (readonly number[] | number)[]): number[] {
  const result: number[] = [];
  for (const given of shapes) {
    const shape = shapeOf(given, 'shapes', 'broadcastShapes');
    while (result.length < shape.length) result.unshift(1);
    const offset = result.length - shape.length;
    shape.forEach((size, i) => {
      const other = result[offset + i]!;
      if (size === 1 || size === other) return;
      if (other !== 1)
        throw new TorchBindError(
          `broadcastShapes: shapes ${shapes.map((one) => `[${String(one)}]`).join(' and ')} do not broadcast: ` +
            `${other} and ${size} in dimension ${offset + i}`,
          'ERR_TORCHBIND_SHAPE',
        );
      result[offset + i] = size;
    });
  }
  return result;
}

/** Places in a tensor of a shape, from places in the row of all its elements: a tensor for each dimension. */
export const unravelIndex = takes(
  2,
  function unravelIndex(indices: Tensor, shape: readonly number[] | number): Tensor[] {
    checkArgument(indices instanceof Tensor, 'a tensor of integers', indices, 'unravelIndex');
    const isInteger = !indices.isFloatingPoint() && !indices.isComplex() && indices.dtype !== 'bool';
    checkArgument(isInteger, 'a tensor of integers', indices.dtype, 'unravelIndex');
    const sizes = shapeOf(shape, 'a shape', 'unravelIndex');
    return tidy(() => {
      const parts: Tensor[] = [];
      const places = indices.to('int64');
      let step = 1;
      for (const size of [...sizes].reverse()) {
        parts.unshift(places.floorDivide(step).remainder(size));
        step *= size;
      }
      return parts;
    });
  },
);
