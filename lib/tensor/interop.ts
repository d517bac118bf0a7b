import { checkOptions, TorchBindError } from '../errors';
import { native } from '../native/native';
import { noGrad } from './autograd/modes';
import { unwrap, wrap } from './core';
import type { Tensor } from './core';
import { itemSize, typedArrayOf } from './dtype';
import type { TypedArray } from './dtype';
import type { Complex, NestedValues } from './schema-types';
import { tidy } from './scope';

/** What `toTypedArray` takes. */
export interface TypedArrayOptions {
  /**
   * false: the array covers the tensor's own memory, and writing to one changes the other (PyTorch's `numpy()`).
   * Default true: a copy.
   */
  copy?: boolean;
}

/** A single value of a tensor. */
export type Item = number | bigint | boolean | Complex;

/** Values out of a tensor and into JavaScript. */
export interface TensorInterop {
  /**
   * The value of a one-element tensor; int64 values beyond the safe integers are returned as bigint.
   *
   * TypeScript takes it for a number, which it is of most dtypes: say otherwise where you know otherwise,
   * `mask.any().item<boolean>()`.
   */
  item<T extends Item = number>(): T;
  /**
   * All values as nested arrays, row by row (PyTorch's `tolist`). TypeScript can be told how deep: `x.tolist<number[][]>()`.
   *
   * @throws {TorchBindError} `ERR_TORCHBIND_UNSUPPORTED` for quantized tensors, as in Python, and those that are not dense
   */
  tolist<T extends NestedValues = NestedValues>(): T;
  /** What `JSON.stringify` writes: the values as nested arrays. NaN and infinities become null there, as numbers do. */
  toJSON(): NestedValues;
  /**
   * All elements in row-major order. float16, bfloat16 and complex32 come as their bits in a Uint16Array, float8 in a
   * Uint8Array, bool as 0 and 1 in a Uint8Array, quantized ones as the integers that are stored, int64 in a BigInt64Array, complex as (re, im) pairs.
   *
   * With `{ copy: false }` the array shares the tensor's memory and keeps it alive, also after `dispose()`; the memory can
   * no longer be resized. It is for contiguous tensors on the CPU that require no gradient; autograd does not see what
   * is written through the array.
   *
   * @throws {TorchBindError} `ERR_TORCHBIND_UNSUPPORTED` where the memory cannot be shared, or the tensor is not dense
   */
  toTypedArray(options?: TypedArrayOptions): TypedArray;
  /**
   * `item()` that does not hold up the event loop while a GPU is still computing the value: the wait is on another
   * thread. What the promise gives is the value at the moment of the call, also when the tensor is changed or disposed
   * meanwhile.
   *
   * @returns rejects with what `item()` throws
   */
  itemAsync<T extends Item = number>(): Promise<T>;
  /**
   * `tolist()` that waits for the device on another thread, as `itemAsync()` does. The arrays are made on this one.
   *
   * @returns rejects with what `tolist()` throws
   */
  tolistAsync<T extends NestedValues = NestedValues>(): Promise<T>;
  /**
   * `toTypedArray()`, a copy, that waits for the device on another thread, as `itemAsync()` does.
   *
   * @returns rejects with what `toTypedArray()` throws
   */
  toTypedArrayAsync(): Promise<TypedArray>;
}

export const interop: TensorInterop & ThisType<Tensor> = {
  item<T extends Item>() {
    const value = native().item(unwrap(this, 'item'));
    return (Array.isArray(value) ? { re: value[0], im: value[1] } : value) as T;
  },

  tolist<T extends NestedValues>() {
    unwrap(this, 'tolist');
    if (this.isQuantized) {
      throw new TorchBindError(
        'tolist(): a quantized tensor has two kinds of values: take dequantize().tolist() or intRepr().tolist().',
        'ERR_TORCHBIND_UNSUPPORTED',
      );
    }
    return nest(this.shape, valuesOf(this)) as T;
  },

  toJSON() {
    return this.tolist();
  },

  toTypedArray(options) {
    checkOptions(options, ['copy'], 'toTypedArray()');
    const handle = unwrap(this, 'toTypedArray');
    return options?.copy === false ? sharedArray(this) : typedArrayOf(this.dtype, native().toArrayBuffer(handle));
  },

  async itemAsync<T extends Item>() {
    return readLater(this, 'itemAsync', (values) => values.item<T>(), true);
  },

  async tolistAsync<T extends NestedValues>() {
    return readLater(this, 'tolistAsync', (values) => values.tolist<T>());
  },

  async toTypedArrayAsync() {
    return readLater(this, 'toTypedArrayAsync', (values) => values.toTypedArray());
  },
};

/** Reads from a copy on the CPU that another thread waits for; from the tensor itself where that says why it cannot be. */
async function readLater<T>(tensor: Tensor, name: string, read: (values: Tensor) => T, wantsOne = false): Promise<T> {
  const copying = native().copyToCpu(unwrap(tensor, name), wantsOne);
  if (copying === null) return read(tensor);
  const handle = await copying;
  return tidy(() => read(wrap(handle)));
}

/** One ArrayBuffer for a storage, however often it is asked for: engines do not like two over the same memory. */
const buffers = new Map<number, WeakRef<ArrayBuffer>>();
const collected = new FinalizationRegistry<number>((id) => {
  if (buffers.get(id)?.deref() === undefined) buffers.delete(id);
});

function sharedArray(tensor: Tensor): TypedArray {
  refuseUnshareable(tensor);
  const { id } = native().storageInfo(tensor.handle);
  let buffer = buffers.get(id)?.deref();
  if (buffer === undefined) {
    buffer = native().shareStorage(tensor.handle);
    if (buffer.byteLength > 0) {
      buffers.set(id, new WeakRef(buffer));
      collected.register(buffer, id);
    }
  }
  const size = itemSize(tensor.dtype);
  // An empty view may begin anywhere, also where no number reaches.
  const offset = tensor.numel() === 0 ? 0 : tensor.storageOffset() * size;
  return typedArrayOf(tensor.dtype, buffer, offset, tensor.numel() * size);
}

function refuseUnshareable(tensor: Tensor): void {
  const reason = tensor.requiresGrad
    ? 'it requires a gradient; use detach() first'
    : !tensor.device.startsWith('cpu')
      ? `it is on ${tensor.device}; use cpu() first`
      : tensor.layout !== 'strided'
        ? `its layout is ${tensor.layout}; use toDense() first`
        : !tensor.isContiguous()
          ? 'it is not contiguous; use contiguous() first'
          : tensor.isConj() || tensor.isNeg()
            ? 'its values are conjugated or negated when they are read; use resolveConj() and resolveNeg() first'
            : /^quint[24]x/.test(tensor.dtype)
              ? 'several of its elements share a byte'
              : undefined;
  if (reason === undefined) return;
  throw new TorchBindError(
    `toTypedArray({ copy: false }): the memory of this tensor cannot be shared: ${reason}.`,
    'ERR_TORCHBIND_UNSUPPORTED',
  );
}

/** Half precision, float8 and complex32 as types that JavaScript can read. */
function widen(tensor: Tensor): Tensor {
  const dtype = tensor.dtype;
  const half = dtype === 'float16' || dtype === 'bfloat16' || dtype.startsWith('float8');
  if (half || dtype === 'complex32') return noGrad(() => tensor.to(half ? 'float32' : 'complex64'));
  return tensor;
}

/** Values in row-major order as JavaScript's own types. */
function valuesOf(tensor: Tensor): Item[] {
  const dtype = tensor.dtype;
  const widened = widen(tensor);
  const data = widened.toTypedArray() as ArrayLike<number | bigint>;
  if (widened !== tensor) widened.dispose();
  if (dtype === 'bool') return Array.from(data, (value) => value !== 0);
  if (dtype.startsWith('complex')) {
    return Array.from({ length: data.length / 2 }, (_, i) => ({
      re: Number(data[2 * i]),
      im: Number(data[2 * i + 1]),
    }));
  }
  return Array.from(data, (value) => (typeof value === 'bigint' && isSafe(value) ? Number(value) : value));
}

function isSafe(value: bigint): boolean {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER;
}

function nest(shape: number[], values: Item[]): NestedValues {
  if (shape.length === 0) return values[0]!;
  let rows: NestedValues[] = values;
  for (let d = shape.length - 1; d > 0; d--) {
    const size = shape[d]!;
    const count = shape.slice(0, d).reduce((a, b) => a * b, 1);
    rows = Array.from({ length: count }, (_, i) => rows.slice(i * size, (i + 1) * size));
  }
  return rows;
}
