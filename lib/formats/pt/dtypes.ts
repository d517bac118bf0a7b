/** How each dtype of a tensor is named and stored in a `.pt` file. */
import { type DType, itemSize } from '../../tensor/dtype';

export interface FileDType {
  /** `float32`, as in `torch.float32`. */
  name: DType;
  itemSize: number;
  /** Bytes that belong together when the byte order changes: a complex number is two parts. */
  swapSize: number;
  /**
   * The storage class that `_rebuild_tensor_v2` goes with; null for the dtypes that came later and are written by
   * `_rebuild_tensor_v3` over an `UntypedStorage` of bytes.
   */
  storageClass: string | null;
}

function dtype(name: DType, storageClass: string | null, swapSize = itemSize(name)): FileDType {
  return { name, itemSize: itemSize(name), swapSize, storageClass };
}

const table = [
  dtype('float64', 'DoubleStorage'),
  dtype('float32', 'FloatStorage'),
  dtype('float16', 'HalfStorage'),
  dtype('bfloat16', 'BFloat16Storage'),
  dtype('int64', 'LongStorage'),
  dtype('int32', 'IntStorage'),
  dtype('int16', 'ShortStorage'),
  dtype('int8', 'CharStorage'),
  dtype('uint8', 'ByteStorage'),
  dtype('bool', 'BoolStorage'),
  dtype('complex64', 'ComplexFloatStorage', 4),
  dtype('complex128', 'ComplexDoubleStorage', 8),
  dtype('complex32', null, 2),
  dtype('uint16', null),
  dtype('uint32', null),
  dtype('uint64', null),
  dtype('float8_e4m3fn', null),
  dtype('float8_e4m3fnuz', null),
  dtype('float8_e5m2', null),
  dtype('float8_e5m2fnuz', null),
  dtype('float8_e8m0fnu', null),
  dtype('float4_e2m1fn_x2', null),
];

/** By name: the dtypes whose tensors are read and written. */
export const fileDTypes: ReadonlyMap<string, FileDType> = new Map(table.map((entry) => [entry.name, entry]));

/** By name: the dtypes of quantized tensors, which are their integers with a scale and a zero point. */
export const quantizedDTypes: ReadonlyMap<string, FileDType> = new Map(
  [dtype('qint8', 'QInt8Storage'), dtype('quint8', 'QUInt8Storage'), dtype('qint32', 'QInt32Storage')].map((entry) => [
    entry.name,
    entry,
  ]),
);

/** The unit of an `UntypedStorage`. */
export const byteDType = fileDTypes.get('uint8')!;

/** dtypes that a file may name as values, but whose tensors are not read. */
export const valueOnlyDTypes: readonly string[] = [
  ...['qint8', 'qint32', 'quint8', 'quint4x2', 'quint2x4'],
  ...['bits1x8', 'bits2x4', 'bits4x2', 'bits8', 'bits16'],
  ...[1, 2, 3, 4, 5, 6, 7].flatMap((bits) => [`int${bits}`, `uint${bits}`]),
];

/** Whether tensors of a dtype can require gradients. */
export function isDifferentiable(name: string): boolean {
  return /^(float|bfloat|complex)/.test(name);
}
