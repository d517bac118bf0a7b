import { describe, TorchBindError } from '../errors';
import { native } from '../native/native';
import { Tensor, wrap } from './core';
import { dtypeCode, dtypeOfTypedArray, isIntegral, itemSize, typedArrayOf } from './dtype';
import type { DType } from './dtype';
import { complexTypeOf, getDefaultDtype, iinfo } from './dtype-info';
import { isComplex } from './schema-types';
import type { Complex, Scalar } from './schema-types';

/** Values for a tensor: a number, nested arrays of numbers, a typed array, or bytes. */
export type TensorData = Scalar | ArrayBufferView | ArrayBufferLike | readonly TensorData[];

/** A CPU tensor of nested arrays; without a dtype, that which the values suggest. */
export function fromNested(data: unknown, dtype: DType | undefined, where: string): Tensor {
  const { shape, values, rowType } = flatten(data, where);
  const wanted = dtype ?? rowType ?? inferDType(values);
  // Laid down in the wanted dtype where JavaScript has a typed array for it: no detour, no rounding twice.
  const type = storedAs(wanted, values);
  const made = wrap(native().fromTypedArray(fill(values, type, where), shape, dtypeCode[type]));
  if (type === wanted) return made;
  const converted = made.to(wanted);
  made.dispose();
  return converted;
}

/** The elements of a typed array; none of one whose buffer was given away. */
export function elementsOf(view: ArrayBufferView): unknown[] {
  return view.byteLength === 0 ? [] : Array.from(view as unknown as ArrayLike<unknown>);
}

/** A view of any buffer's bytes or elements; undefined for anything else. */
export function viewOf(data: unknown): ArrayBufferView | undefined {
  if (ArrayBuffer.isView(data)) return data;
  return isBuffer(data) ? new Uint8Array(data) : undefined;
}

function isBuffer(data: unknown): data is ArrayBufferLike {
  return data instanceof ArrayBuffer || (typeof SharedArrayBuffer === 'function' && data instanceof SharedArrayBuffer);
}

interface Flat {
  shape: number[];
  values: unknown[];
  /** dtype of the typed arrays that are the rows, where they are. */
  rowType: DType | undefined;
}

function flatten(data: unknown, where: string): Flat {
  if (!Array.isArray(data)) {
    checkValue(data, where);
    return { shape: [], values: [data], rowType: undefined };
  }
  const shape: number[] = [data.length];
  let level: unknown[] = data;
  while (Array.isArray(level[0])) {
    level = rowsOf(level as unknown[][], shape, where);
  }
  if (ArrayBuffer.isView(level[0]) && !(level[0] instanceof DataView)) {
    const rowType = dtypeOfTypedArray(level[0]);
    const rows = level.map((row) => (ArrayBuffer.isView(row) ? elementsOf(row) : row));
    return { shape, values: rowsOf(rows as unknown[][], shape, where), rowType };
  }
  // Not forEach, which would walk through the holes of a sparse array in silence.
  for (const value of level) checkValue(value, where);
  return { shape, values: level, rowType: undefined };
}

/** Whether an array claims far more elements than anyone put into it: walking through 2^32 holes takes minutes. */
export function isSparse(values: readonly unknown[]): boolean {
  return values.length > 2 ** 24 && !(values.length - 1 in values);
}

/** The elements of equally long rows, whose length is added to the shape. */
function rowsOf(rows: unknown[][], shape: number[], where: string): unknown[] {
  const size = rows[0]!.length;
  if (isSparse(rows[0]!)) {
    throw new TorchBindError(
      `${where}: row 0 at depth ${shape.length} claims ${size} elements and has no last one.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  rows.forEach((row, i) => {
    if (Array.isArray(row) && row.length === size) return;
    const got = Array.isArray(row) ? `row ${i} has ${row.length}` : `row ${i} is ${describe(row)}`;
    throw new TorchBindError(
      `${where}: rows at depth ${shape.length} differ in length: row 0 has ${size} elements, ${got}. Pad them, or make one tensor each.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  });
  shape.push(size);
  return rows.flat(1);
}

function checkValue(value: unknown, where: string): void {
  const type = typeof value;
  if (type === 'number' || type === 'bigint' || type === 'boolean' || isComplex(value)) return;
  throw new TorchBindError(
    `${where}: expected numbers, got ${describe(value)}.${value instanceof Tensor ? ' stack([a, b]) makes one of several tensors.' : ''}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function inferDType(values: readonly unknown[]): DType {
  if (values.length === 0) return getDefaultDtype();
  if (values.some(isComplex)) return complexTypeOf(getDefaultDtype());
  if (values.every((value) => typeof value === 'boolean')) return 'bool';
  const integral = values.every((value) => typeof value !== 'number' || Number.isSafeInteger(value));
  return integral ? 'int64' : getDefaultDtype();
}

const WRITABLE: ReadonlySet<DType> = new Set<DType>([
  ...(['float32', 'float64', 'int64', 'uint64', 'int32', 'uint32', 'int16', 'uint16', 'int8', 'uint8'] as const),
  ...(['bool', 'complex64', 'complex128'] as const),
]);

/** The type that values are written in on their way to `dtype`. */
function storedAs(dtype: DType, values: readonly unknown[]): DType {
  if (values.some(isComplex)) return 'complex128';
  // Half precision and float8 come from float32, as in PyTorch.
  return WRITABLE.has(dtype) ? dtype : 'float32';
}

function fill(values: readonly unknown[], dtype: DType, where: string): ArrayBufferView {
  if (dtype === 'bool') return Uint8Array.from(values, (value) => (Number(value) === 0 ? 0 : 1));
  if (dtype.startsWith('complex')) return fillComplex(values, dtype);
  const numbers = values as (number | bigint | boolean)[];
  const array = typedArrayOf(dtype, new ArrayBuffer(values.length * itemSize(dtype)));
  if (!isIntegral(dtype)) {
    numbers.forEach((value, i) => (array[i] = Number(value)));
    return array;
  }
  const { min, max } = iinfo(dtype);
  numbers.forEach((value, i) => (array[i] = toInteger(value, dtype, min, max, where)));
  return array;
}

function fillComplex(values: readonly unknown[], dtype: DType): ArrayBufferView {
  const array = typedArrayOf(dtype, new ArrayBuffer(values.length * itemSize(dtype)));
  values.forEach((value, i) => {
    const { re, im } = isComplex(value) ? (value as Complex) : { re: Number(value), im: 0 };
    array[2 * i] = re;
    array[2 * i + 1] = im;
  });
  return array;
}

/** Fractions are cut off, as in PyTorch; what does not fit the type is refused. */
function toInteger(
  value: number | bigint | boolean,
  dtype: DType,
  min: number | bigint,
  max: number | bigint,
  where: string,
): number | bigint {
  const whole = typeof value === 'number' ? Math.trunc(value) : BigInt(value);
  if (!(whole >= min && whole <= max)) {
    throw new TorchBindError(
      `${where}: ${String(value)} does not fit ${dtype}, which holds ${min} to ${max}.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  return itemSize(dtype) === 8 ? BigInt(whole) : Number(whole);
}
