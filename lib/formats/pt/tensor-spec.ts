import { GlobalError } from '../../pickle/globals';
import type { FileDType } from './dtypes';

/** A storage as a pickle names it: a record of the container, and what the pickle claims of it. */
export class StorageRef {
  constructor(
    /** `0` for the record `data/0`. */
    readonly key: string,
    readonly dtype: FileDType,
    /** Whether it is an UntypedStorage: bytes, whose dtype only the tensors over it know. */
    readonly untyped: boolean,
    /** Size in bytes. */
    readonly nbytes: number,
  ) {}
}

/** A part of a storage that the file names as a storage of its own, as files before PyTorch 1.6 may. */
export class StorageView {
  constructor(
    readonly storage: StorageRef,
    /** In bytes. */
    readonly start: number,
    readonly nbytes: number,
  ) {}
}

/** Where a tensor is in its storage. */
export interface TensorPlace {
  storage: StorageRef;
  dtype: FileDType;
  /** In elements, as are the strides. */
  offset: number;
  shape: number[];
  strides: number[];
}

/** A tensor as a pickle describes it, checked against its storage. */
export interface TensorSpec extends TensorPlace {
  requiresGrad: boolean;
  /** The elements are the complex conjugates of the bytes; the negatives of them. */
  conj: boolean;
  neg: boolean;
}

/** How the integers of a quantized tensor stand for numbers. */
export type Quantizer =
  | { scale: number; zeroPoint: number }
  /** One of each for every index along `axis`; tensors, as the builder made them. */
  | { scales: unknown; zeroPoints: unknown; axis: number };

/** A sparse tensor: its parts are tensors, as the builder made them. */
export interface SparseSpec {
  layout: SparseLayout;
  /** (sparse dimensions, nnz) of a COO tensor; [compressed, plain] indices of the others. */
  indices: unknown[];
  values: unknown;
  shape: number[];
  coalesced: boolean | undefined;
}

/** Without the `torch.` prefix. */
export const sparseLayouts = ['sparse_coo', 'sparse_csr', 'sparse_csc', 'sparse_bsr', 'sparse_bsc'] as const;

export type SparseLayout = (typeof sparseLayouts)[number];

/** A tensor without data. */
export interface MetaSpec {
  dtype: FileDType;
  shape: number[];
  strides: number[];
  requiresGrad: boolean;
}

/** Bytes of a NumPy array, in the byte order of this machine. */
export interface ArraySpec {
  dtype: FileDType;
  shape: number[];
  bytes: Uint8Array;
  /** Column by column. */
  fortran: boolean;
  /** The module that the file names for arrays. */
  module: string;
}

/** Makes the tensors that a pickle describes: real ones, or only notes of them. */
export interface TensorBuilder {
  tensor(spec: TensorSpec): unknown;
  /** Turns what `tensor` made into a parameter. */
  parameter(tensor: unknown, requiresGrad: boolean): unknown;
  isTensor(value: unknown): boolean;
  quantized(spec: TensorSpec, quantizer: Quantizer): unknown;
  /** Throws `GlobalError` where the indices are not those of such a tensor. */
  sparse(spec: SparseSpec): unknown;
  meta(spec: MetaSpec): unknown;
  array(spec: ArraySpec): unknown;
  /** A storage that is a value itself. Throws `GlobalError` where it cannot be one. */
  storage(view: StorageView): unknown;
}

/** libtorch keeps sizes of up to 64 dimensions in every operator. */
export const maxDimensions = 64;

/**
 * Checks that a strided tensor stays within a storage, in arithmetic that cannot overflow.
 *
 * @throws GlobalError where it does not
 */
export function checkGeometry(
  dtype: FileDType,
  nbytes: number,
  offset: number,
  shape: number[],
  strides: number[],
): void {
  if (shape.length !== strides.length) throw new GlobalError(`${shape.length} sizes and ${strides.length} strides`);
  const itemSize = BigInt(dtype.itemSize);
  const numel = checkShape(dtype, shape);
  let end = BigInt(offset);
  if (numel > 0n) {
    shape.forEach((size, dim) => (end += BigInt(size - 1) * BigInt(strides[dim]!)));
    end += 1n;
  }
  if (end * itemSize <= BigInt(nbytes)) return;
  const tensor = `a ${dtype.name} tensor of shape [${shape.join(', ')}], strides [${strides.join(', ')}]`;
  throw new GlobalError(
    `${tensor} and offset ${offset} ends at byte ${end * itemSize} of a storage of ${nbytes} bytes`,
  );
}

/**
 * Checks that a tensor can have this shape, whatever its data. Returns the number of elements.
 *
 * @throws GlobalError if it cannot
 */
export function checkShape(dtype: FileDType, shape: number[]): bigint {
  if (shape.length > maxDimensions)
    throw new GlobalError(`${shape.length} dimensions; at most ${maxDimensions} are possible`);
  const numel = shape.reduce((product, size) => product * BigInt(size), 1n);
  if (numel * BigInt(dtype.itemSize) > BigInt(Number.MAX_SAFE_INTEGER))
    throw new GlobalError(`shape [${shape.join(', ')}] has too many elements`);
  return numel;
}

/** Row-major strides in elements. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    strides[dim] = stride;
    stride *= Math.max(shape[dim]!, 1);
  }
  return strides;
}

/** Checks of the arguments that pickles give to known functions. */

export function sizes(value: unknown, what: string): number[] {
  if (!Array.isArray(value)) throw new GlobalError(`${what} are not a tuple`);
  // Array.from leaves room for more items, and a file may have a hundred thousand shapes.
  const list = new Array<number>(value.length);
  for (let i = 0; i < list.length; i++) list[i] = nonNegative(value[i], what);
  return list;
}

export function nonNegative(value: unknown, what: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new GlobalError(`${what}: expected ints from 0 to 2^53 - 1`);
}
