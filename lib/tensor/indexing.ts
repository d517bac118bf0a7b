import { describe, TorchBindError } from '../errors';
import { native } from '../native/native';
import type { NativeIndex } from '../native/binding';
import { Tensor, unwrap, wrap } from './core';
import { elementsOf, fromNested, isSparse, viewOf } from './values';
import type { TensorData } from './values';
import { isScalar } from './schema-types';

type Bound = number | '';

/** Arrays of integers or booleans, nested to any depth, as index tensors or masks. */
export type IndexArray = readonly (number | boolean | IndexArray)[];

/**
 * What stands between the brackets of Python's `x[...]`: an integer, a slice, `null` for a new dimension, `'...'` for
 * all dimensions between, a boolean mask, an index tensor, or an array of integers or booleans.
 */
export type TensorIndex =
  | number
  | bigint
  | boolean
  | null
  | '...'
  | `${Bound}:${Bound}`
  | `${Bound}:${Bound}:${Bound}`
  | Slice
  | Tensor
  | IndexArray
  | Int8Array
  | Uint8Array
  | Int16Array
  | Int32Array
  | BigInt64Array;

/** A range of positions in one dimension, made by `slice()`. */
export class Slice {
  constructor(
    readonly start: number | null,
    readonly stop: number | null,
    readonly step: number | null,
  ) {}
}

/**
 * Python's `slice`: `slice(5)` is `:5`, `slice(1, 5)` is `1:5`, `slice(1, 5, 2)` is `1:5:2`; null leaves a bound out.
 * Negative bounds count from the end. The strings `'1:5:2'` say the same.
 */
export function slice(stop: number | null): Slice;
export function slice(start: number | null, stop: number | null, step?: number | null): Slice;
export function slice(...bounds: (number | null | undefined)[]): Slice {
  if (bounds.length === 1) return new Slice(null, checkBound(bounds[0]), null);
  if (bounds.length < 1 || bounds.length > 3) {
    throw invalidIndex('slice(): expected (stop), (start, stop) or (start, stop, step).');
  }
  return new Slice(checkBound(bounds[0]), checkBound(bounds[1]), checkBound(bounds[2]));
}

/** Python's `None` in an index: a new dimension of size 1. */
export const newAxis = null;

function checkBound(value: number | null | undefined): number | null {
  if (value === null || value === undefined) return null;
  if (Number.isSafeInteger(value)) return value;
  throw invalidIndex(`slice(): expected integers or null, got ${describe(value)}.`);
}

function invalidIndex(message: string): TorchBindError {
  return new TorchBindError(message, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}

/** Reading and writing by index: what `Tensor` has in place of Python's brackets. */
export interface TensorIndexing extends Iterable<Tensor> {
  /**
   * Python's `x[...]`, one argument an index: `x.at(0, '1:3')` is `x[0, 1:3]`, `x.at(mask)` is `x[mask]`, `x.at('...', null)`
   * is `x[..., None]`. Integers and slices give views that share memory; masks, index tensors and arrays give copies.
   *
   * @throws {TorchBindError} `ERR_TORCHBIND_INDEX` where an index is outside the shape or there are too many
   */
  at(...indices: TensorIndex[]): Tensor;
  /**
   * Python's `x[...] = value`: writes in place, the value broadcast and converted as `copy_` does, and returns the
   * tensor. Several indices come as an array: `x.setAt([0, '1:3'], y)` is `x[0, 1:3] = y`; an array that is itself an
   * index goes inside: `x.setAt([[0, 2]], 1)` is `x[[0, 2]] = 1`.
   */
  setAt(indices: readonly TensorIndex[] | Exclude<TensorIndex, IndexArray>, value: Tensor | TensorData): this;
  /** The size of the first dimension (Python's `len(x)`). */
  readonly length: number;
  /** The rows along the first dimension, as views (Python's `for row in x`). */
  [Symbol.iterator](): IterableIterator<Tensor>;
}

export const indexing: TensorIndexing & ThisType<Tensor> = {
  at(...indices) {
    return withIndices(this, indices, 'at()', (native, handle, encoded) => wrap(native.getIndex(handle, encoded)));
  },

  setAt(indices, value) {
    const tuple =
      Array.isArray(indices) && indices.length <= 2 ** 24
        ? (indices as readonly TensorIndex[])
        : [indices as TensorIndex];
    return withIndices(this, tuple, 'setAt()', (native, handle, encoded) => {
      if (isScalar(value)) native.setIndex(handle, encoded, value);
      else withTensor(this, value, (source) => native.setIndex(handle, encoded, [source]));
      return this;
    });
  },

  get length(): number {
    const size = this.shape[0];
    if (size === undefined) throw zeroDimensional('length');
    return size;
  },

  [Symbol.iterator]() {
    if (this.shape.length === 0) throw zeroDimensional('iteration');
    return this.unbind(0)[Symbol.iterator]();
  },
};

function zeroDimensional(what: string): TorchBindError {
  return new TorchBindError(`${what} of a 0-d tensor: it has no rows. Its value is item().`, 'ERR_TORCHBIND_TYPE');
}

/** Calls `run` with the handle of a value that is to be written into `target`; what is made for it is freed again. */
function withTensor(target: Tensor, value: Tensor | TensorData, run: (handle: number) => void): void {
  if (value instanceof Tensor) return run(unwrap(value, 'setAt(): value'));
  const view = viewOf(value);
  const made =
    view === undefined
      ? fromNested(value, target.dtype, 'setAt()')
      : fromNested(elementsOf(view), target.dtype, 'setAt()');
  try {
    run(made.handle);
  } finally {
    made.dispose();
  }
}

function withIndices<T>(
  tensor: Tensor,
  indices: readonly TensorIndex[],
  where: string,
  run: (binding: ReturnType<typeof native>, handle: number, encoded: NativeIndex[]) => T,
): T {
  const handle = unwrap(tensor, where);
  const made: Tensor[] = [];
  try {
    const encoded = Array.from(indices, (index) => encode(index, made, where));
    return run(native(), handle, encoded);
  } catch (error) {
    throw explained(error, tensor, where);
  } finally {
    for (const temporary of made) temporary.dispose();
  }
}

/** libtorch names the dimension but not the tensor. */
function explained(error: unknown, tensor: Tensor, where: string): unknown {
  if (!(error instanceof TorchBindError) || error.message.startsWith(where) || tensor.isDisposed) return error;
  const message = `${where}: ${error.message.replace(/\.$/, '')}. The tensor has shape [${tensor.shape.join(', ')}].`;
  return new TorchBindError(message, error.code, { cause: error });
}

/** An index as it crosses to C++; tensors made on the way are added to `made`. */
function encode(index: unknown, made: Tensor[], where: string): NativeIndex {
  if (index === null || typeof index === 'boolean') return index;
  if (typeof index === 'number' && Number.isSafeInteger(index)) return index;
  if (typeof index === 'bigint' && Number.isSafeInteger(Number(index))) return Number(index);
  if (index instanceof Slice) return [index.start, index.stop, index.step];
  if (index instanceof Tensor) return [unwrap(index, where)];
  if (typeof index === 'string') return encodeText(index, where);
  if (Array.isArray(index)) return indexTensor(index, made, where);
  if (ArrayBuffer.isView(index) && !(index instanceof DataView)) return indexTensor(elementsOf(index), made, where);
  const hint = index === undefined ? ' Use null for a new dimension.' : '';
  throw invalidIndex(
    `${where}: indices are integers, slices, null, '...', booleans, tensors or arrays of them, got ${describe(index)}.${hint}`,
  );
}

const SLICE = /^(-?\d+)?:(-?\d+)?(?::(-?\d+)?)?$/;

function encodeText(text: string, where: string): NativeIndex {
  if (text === '...') return '...';
  const match = SLICE.exec(text);
  if (match === null) {
    throw invalidIndex(`${where}: expected '...' or a slice such as '1:5:2', got ${describe(text)}.`);
  }
  const [start, stop, step] = match
    .slice(1)
    .map((bound: string | undefined) => (bound === undefined ? null : checkBound(Number(bound))));
  return [start!, stop!, step!];
}

function indexTensor(values: unknown[], made: Tensor[], where: string): NativeIndex {
  const flat = leavesOf(values);
  const booleans = flat.length > 0 && flat.every((value) => typeof value === 'boolean');
  const stray = booleans ? undefined : flat.find((value) => !isIndexNumber(value));
  if (stray !== undefined) {
    throw invalidIndex(
      `${where}: an index array holds integers or booleans, but there is ${describe(stray)}. Slices and null go next to arrays, not inside.`,
    );
  }
  const tensor = fromNested(values, booleans ? 'bool' : 'int64', where);
  made.push(tensor);
  return [tensor.handle];
}

/** The elements of nested arrays; a sparse array, which claims 2^32 elements, counts as one. */
function leavesOf(values: readonly unknown[]): unknown[] {
  if (isSparse(values)) return [values];
  return values.flatMap((value: unknown) => (Array.isArray(value) ? leavesOf(value) : [value]));
}

function isIndexNumber(value: unknown): boolean {
  return typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value));
}
