/** How each dtype of a tensor is named and stored in a `.pt` file. */

export interface FileDType {
  /** `float32`, as in `torch.float32`. */
  name: string;
  itemSize: number;
  /** Bytes that belong together when the byte order changes: a complex number is two parts. */
  swapSize: number;
  /**
   * The storage class that `_rebuild_tensor_v2` goes with; null for the dtypes that came later and are written by
   * `_rebuild_tensor_v3` over an `UntypedStorage` of bytes.
   */
  storageClass: string | null;
}

function dtype(name: string, itemSize: number, storageClass: string | null, swapSize = itemSize): FileDType {
  return { name, itemSize, swapSize, storageClass };
}

const table = [
  dtype('float64', 8, 'DoubleStorage'),
  dtype('float32', 4, 'FloatStorage'),
  dtype('float16', 2, 'HalfStorage'),
  dtype('bfloat16', 2, 'BFloat16Storage'),
  dtype('int64', 8, 'LongStorage'),
  dtype('int32', 4, 'IntStorage'),
  dtype('int16', 2, 'ShortStorage'),
  dtype('int8', 1, 'CharStorage'),
  dtype('uint8', 1, 'ByteStorage'),
  dtype('bool', 1, 'BoolStorage'),
  dtype('complex64', 8, 'ComplexFloatStorage', 4),
  dtype('complex128', 16, 'ComplexDoubleStorage', 8),
  dtype('complex32', 4, null, 2),
  dtype('uint16', 2, null),
  dtype('uint32', 4, null),
  dtype('uint64', 8, null),
  dtype('float8_e4m3fn', 1, null),
  dtype('float8_e4m3fnuz', 1, null),
  dtype('float8_e5m2', 1, null),
  dtype('float8_e5m2fnuz', 1, null),
  dtype('float8_e8m0fnu', 1, null),
];

/** By name: the dtypes whose tensors are read and written. */
export const fileDTypes: ReadonlyMap<string, FileDType> = new Map(table.map((entry) => [entry.name, entry]));

/** The unit of an `UntypedStorage`. */
export const byteDType = fileDTypes.get('uint8')!;

/** dtypes that a file may name as values, but whose tensors are not read. */
export const valueOnlyDTypes: readonly string[] = [
  ...['qint8', 'qint32', 'quint8', 'quint4x2', 'quint2x4', 'float4_e2m1fn_x2'],
  ...['bits1x8', 'bits2x4', 'bits4x2', 'bits8', 'bits16'],
  ...[1, 2, 3, 4, 5, 6, 7].flatMap((bits) => [`int${bits}`, `uint${bits}`]),
];

/** Whether tensors of a dtype can require gradients. */
export function isDifferentiable(name: string): boolean {
  return /^(float|bfloat|complex)/.test(name);
}
