import { checkArgument, checkOptions, describe, TorchBindError } from '../errors';
import { Tensor } from './core';
import { checkDType, isDType } from './dtype';
import type { DType } from './dtype';
import { Operator } from './operator';
import type { DeviceName, MemoryFormat } from './schema-types';

/** What `to()` changes. */
export interface ToOptions {
  dtype?: DType;
  device?: DeviceName;
  /** Copy even if nothing changes. Default false. */
  copy?: boolean;
  /** Copy from pinned memory asynchronously. Default false. */
  nonBlocking?: boolean;
  /** Order of the elements in memory. Default `preserve_format`. */
  memoryFormat?: MemoryFormat;
}

/** What the conversions to one dtype take. */
export type CastOptions = Pick<ToOptions, 'memoryFormat'>;

/** Conversions to other dtypes and devices. Each returns the tensor itself if nothing changes. */
export interface TensorConversions {
  /** A tensor of another dtype or on another device; itself where nothing changes (PyTorch's `Tensor.to`). */
  to(dtypeOrDevice: DType | DeviceName, options?: ToOptions): Tensor;
  to(device: DeviceName, dtype: DType, options?: ToOptions): Tensor;
  to(options: ToOptions): Tensor;
  to(other: Tensor, options?: ToOptions): Tensor;
  /** The tensor on the CPU. */
  cpu(): Tensor;
  /** The tensor on a CUDA device; the current one without an index. */
  cuda(index?: number): Tensor;
  /** To float32. */
  float(options?: CastOptions): Tensor;
  /** To float64. */
  double(options?: CastOptions): Tensor;
  /** To float16. */
  half(options?: CastOptions): Tensor;
  /** To bfloat16. */
  bfloat16(options?: CastOptions): Tensor;
  /** To int64. */
  long(options?: CastOptions): Tensor;
  /** To int32. */
  int(options?: CastOptions): Tensor;
  /** To int16. */
  short(options?: CastOptions): Tensor;
  /** To int8. */
  char(options?: CastOptions): Tensor;
  /** To uint8. */
  byte(options?: CastOptions): Tensor;
  /** To bool: whether elements are not 0. */
  bool(options?: CastOptions): Tensor;
  /** To complex64. */
  cfloat(options?: CastOptions): Tensor;
  /** To complex128. */
  cdouble(options?: CastOptions): Tensor;
}

const OPTIONS = ['dtype', 'device', 'copy', 'nonBlocking', 'memoryFormat'];

let operator: Operator | undefined;

function convert(tensor: Tensor, options: ToOptions): Tensor {
  operator ??= new Operator('aten::to', 'dtype_layout');
  const { dtype, device = tensor.device, nonBlocking = false, copy = false, memoryFormat } = options;
  return operator.call([tensor, dtype, undefined, device, undefined, nonBlocking, copy, memoryFormat]) as Tensor;
}

/** What the first argument of `to()` asks for. */
function target(value: unknown): ToOptions {
  if (value instanceof Tensor) return { dtype: value.dtype, device: value.device };
  if (typeof value === 'string') return isDType(value) ? { dtype: value } : { device: value as DeviceName };
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) return value;
  throw new TorchBindError(
    `to(): expected a dtype, a device, a tensor or options, got ${describe(value)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function to(this: Tensor, first: string | Tensor | ToOptions, second?: DType | ToOptions, third?: ToOptions): Tensor {
  const dtype = typeof second === 'string' ? { dtype: second } : {};
  const options = typeof second === 'object' ? second : third;
  checkArgument(options === third || third === undefined, 'nothing after the options', third, 'to()');
  const merged: ToOptions = { ...options, ...dtype, ...target(first) };
  checkOptions(merged, OPTIONS, 'to()');
  if (merged.dtype !== undefined) checkDType(merged.dtype, 'to()');
  return convert(this, merged);
}

const cast = (dtype: DType) =>
  function (this: Tensor, options?: CastOptions): Tensor {
    checkOptions(options, ['memoryFormat'], dtype);
    return convert(this, { ...options, dtype });
  };

export const conversions: TensorConversions & ThisType<Tensor> = {
  to,
  cpu() {
    return convert(this, { device: 'cpu' });
  },
  cuda(index) {
    checkArgument(index === undefined || typeof index === 'number', 'the index of a device', index, 'cuda()');
    return convert(this, { device: index === undefined ? 'cuda' : `cuda:${index}` });
  },
  float: cast('float32'),
  double: cast('float64'),
  half: cast('float16'),
  bfloat16: cast('bfloat16'),
  long: cast('int64'),
  int: cast('int32'),
  short: cast('int16'),
  char: cast('int8'),
  byte: cast('uint8'),
  bool: cast('bool'),
  cfloat: cast('complex64'),
  cdouble: cast('complex128'),
};
