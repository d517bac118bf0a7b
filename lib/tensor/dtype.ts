import { closest, describe, TorchBindError } from '../errors';

/** c10::ScalarType of each dtype, by PyTorch's name. */
const CODES = {
  uint8: 0,
  int8: 1,
  int16: 2,
  int32: 3,
  int64: 4,
  float16: 5,
  float32: 6,
  float64: 7,
  complex32: 8,
  complex64: 9,
  complex128: 10,
  bool: 11,
  qint8: 12,
  quint8: 13,
  qint32: 14,
  bfloat16: 15,
  quint4x2: 16,
  quint2x4: 17,
  bits1x8: 18,
  bits2x4: 19,
  bits4x2: 20,
  bits8: 21,
  bits16: 22,
  float8_e5m2: 23,
  float8_e4m3fn: 24,
  float8_e5m2fnuz: 25,
  float8_e4m3fnuz: 26,
  uint16: 27,
  uint32: 28,
  uint64: 29,
  uint1: 30,
  uint2: 31,
  uint3: 32,
  uint4: 33,
  uint5: 34,
  uint6: 35,
  uint7: 36,
  int1: 37,
  int2: 38,
  int3: 39,
  int4: 40,
  int5: 41,
  int6: 42,
  int7: 43,
  float8_e8m0fnu: 44,
  float4_e2m1fn_x2: 45,
} as const;

/** A tensor's element type, by PyTorch's name. */
export type DType = keyof typeof CODES;

/** c10::ScalarType of each dtype: what crosses to C++. */
export const dtypeCode: Readonly<Record<DType, number>> = CODES;

const NAMES = new Map<number, DType>(Object.entries(CODES).map(([name, code]) => [code, name as DType]));

const ITEM_SIZES: Readonly<Record<DType, number>> = {
  uint8: 1,
  int8: 1,
  int16: 2,
  int32: 4,
  int64: 8,
  float16: 2,
  float32: 4,
  float64: 8,
  complex32: 4,
  complex64: 8,
  complex128: 16,
  bool: 1,
  qint8: 1,
  quint8: 1,
  qint32: 4,
  bfloat16: 2,
  quint4x2: 1,
  quint2x4: 1,
  float8_e5m2: 1,
  float8_e4m3fn: 1,
  float8_e5m2fnuz: 1,
  float8_e4m3fnuz: 1,
  uint16: 2,
  uint32: 4,
  uint64: 8,
  bits1x8: 1,
  bits2x4: 1,
  bits4x2: 1,
  bits8: 1,
  bits16: 2,
  uint1: 1,
  uint2: 1,
  uint3: 1,
  uint4: 1,
  uint5: 1,
  uint6: 1,
  uint7: 1,
  int1: 1,
  int2: 1,
  int3: 1,
  int4: 1,
  int5: 1,
  int6: 1,
  int7: 1,
  float8_e8m0fnu: 1,
  float4_e2m1fn_x2: 1,
};

/** The dtype of a c10::ScalarType code. */
export function dtypeFromCode(code: number): DType {
  const name = NAMES.get(code);
  if (name === undefined)
    throw new TorchBindError(`libtorch's dtype ${code} has no name here.`, 'ERR_TORCHBIND_UNSUPPORTED');
  return name;
}

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && Object.hasOwn(CODES, value);
}

/** PyTorch's second names, which say less. */
const PYTHON_NAMES: ReadonlyMap<string, DType> = new Map<string, DType>([
  ['half', 'float16'],
  ['float', 'float32'],
  ['double', 'float64'],
  ['short', 'int16'],
  ['int', 'int32'],
  ['long', 'int64'],
]);

/** Refuses what is not a dtype, and suggests the one that was probably meant. */
export function checkDType(value: unknown, where: string): DType {
  if (isDType(value)) return value;
  const near = typeof value === 'string' ? nearestName(value.replace(/^torch\./, '')) : undefined;
  const hint = near === undefined ? '' : ` Did you mean '${near}'?`;
  throw new TorchBindError(
    `${where}: expected a dtype such as 'float32', got ${describe(value)}.${hint}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function nearestName(name: string): string | undefined {
  return PYTHON_NAMES.get(name) ?? (isDType(name) ? name : closest(name, Object.keys(CODES)));
}

/** Bytes that one element takes. */
export function itemSize(dtype: DType): number {
  return ITEM_SIZES[dtype];
}

const INTEGRAL: ReadonlySet<DType> = new Set<DType>([
  ...(['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'uint64', 'int64'] as const),
]);

/** Whether elements are whole numbers; bool is not among them. */
export function isIntegral(dtype: DType): boolean {
  return INTEGRAL.has(dtype);
}

/** What `toTypedArray` gives. Half precision and float8 come as their bits, complex numbers as pairs. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

/** A typed array of the dtype's elements over all of `buffer`, or over some of its bytes. */
export function typedArrayOf(dtype: DType, buffer: ArrayBuffer, offset = 0, nbytes = buffer.byteLength): TypedArray {
  const type = arrayType(dtype);
  return new type(buffer, offset, nbytes / type.BYTES_PER_ELEMENT);
}

interface TypedArrayType {
  new (buffer: ArrayBuffer, offset: number, length: number): TypedArray;
  readonly BYTES_PER_ELEMENT: number;
}

function arrayType(dtype: DType): TypedArrayType {
  switch (dtype) {
    case 'float32':
    case 'complex64':
      return Float32Array;
    case 'float64':
    case 'complex128':
      return Float64Array;
    case 'int64':
      return BigInt64Array;
    case 'uint64':
      return BigUint64Array;
    case 'int32':
    case 'qint32':
      return Int32Array;
    case 'uint32':
      return Uint32Array;
    case 'int16':
      return Int16Array;
    case 'uint16':
    case 'bits16':
    case 'float16':
    case 'bfloat16':
    case 'complex32':
      return Uint16Array;
    case 'int8':
    case 'qint8':
      return Int8Array;
    default:
      return Uint8Array;
  }
}

/** Default dtype for the elements of a typed array. */
export function dtypeOfTypedArray(array: ArrayBufferView): DType {
  if (array instanceof Float32Array) return 'float32';
  if (array instanceof Float64Array) return 'float64';
  if (array instanceof BigInt64Array) return 'int64';
  if (array instanceof BigUint64Array) return 'uint64';
  if (array instanceof Int32Array) return 'int32';
  if (array instanceof Uint32Array) return 'uint32';
  if (array instanceof Int16Array) return 'int16';
  if (array instanceof Uint16Array) return 'uint16';
  if (array instanceof Int8Array) return 'int8';
  if (array instanceof Uint8Array || array instanceof Uint8ClampedArray || array instanceof DataView) return 'uint8';
  if (Object.prototype.toString.call(array) === '[object Float16Array]') return 'float16';
  throw new TorchBindError(`Expected a typed array, got ${describe(array)}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
