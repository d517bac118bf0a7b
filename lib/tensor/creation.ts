import { checkOptions, describe, TorchBindError } from '../errors';
import { native } from '../native/native';
import { checkDType, dtypeCode, dtypeOfTypedArray, itemSize, typedArrayOf } from './dtype';
import type { DType } from './dtype';
import { isComplex, Operator } from './operator';
import type { Generator } from './random';
import type { Complex, Scalar } from './schema-types';
import { Tensor, wrap } from './tensor';

/** Options of functions that make tensors. */
export interface TensorOptions {
  /** Default float32, or what the values suggest where there are values. */
  dtype?: DType;
  /** Default `cpu`. */
  device?: string;
  /** Record operations on it. Default false. */
  requiresGrad?: boolean;
}

/** Options of functions that make random tensors. */
export interface RandomOptions extends TensorOptions {
  /** Draw from this generator instead of the device's default one. */
  generator?: Generator;
}

/** Sizes as one array or one by one, then options: `zeros([2, 3])`, `zeros(2, 3, { dtype: 'int64' })`. */
type SizeArguments<Options> =
  [size: readonly number[], options?: Options] | [...size: number[]] | [...size: number[], options: Options];

const TENSOR_OPTIONS = ['dtype', 'device', 'requiresGrad'] as const;
const RANDOM_OPTIONS = [...TENSOR_OPTIONS, 'generator'] as const;

const operators = new Map<string, Operator>();

function operator(name: string, overload = ''): Operator {
  const key = `${name}.${overload}`;
  let found = operators.get(key);
  if (found === undefined) {
    found = new Operator(`aten::${name}`, overload);
    operators.set(key, found);
  }
  return found;
}

function finish(tensor: Tensor, options: TensorOptions): Tensor {
  return options.requiresGrad === true ? tensor.requiresGrad_() : tensor;
}

function checkCommon(options: object, allowed: readonly string[], where: string): void {
  checkOptions(options, allowed, where);
  const dtype = (options as TensorOptions).dtype;
  if (dtype !== undefined) checkDType(dtype, where);
}

/** Splits leading numbers from a trailing options object. */
function splitNumbers<Options extends object>(
  args: readonly unknown[],
  where: string,
): { numbers: number[]; options: Options } {
  const last = args[args.length - 1];
  const hasOptions = args.length > 0 && (last === undefined || (typeof last === 'object' && !Array.isArray(last)));
  const rest = hasOptions ? args.slice(0, -1) : args;
  const numbers = rest.length === 1 && Array.isArray(rest[0]) ? (rest[0] as unknown[]) : rest;
  for (const value of numbers) {
    if (typeof value !== 'number' && typeof value !== 'bigint') {
      throw new TorchBindError(
        `${where}: expected numbers but received ${describe(value)}.`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
  }
  return { numbers: numbers as number[], options: (hasOptions ? (last ?? {}) : {}) as Options };
}

/** A tensor of a size by an operator `(size, *, dtype, layout, device, pin_memory)`. */
function ofSize(name: string, args: readonly unknown[], overload = ''): Tensor {
  const { numbers, options } = splitNumbers<TensorOptions>(args, `${name}()`);
  checkCommon(options, TENSOR_OPTIONS, `${name}()`);
  return finish(operator(name, overload).call([numbers, options.dtype, undefined, options.device]) as Tensor, options);
}

function randomOfSize(name: string, args: readonly unknown[]): Tensor {
  const { numbers, options } = splitNumbers<RandomOptions>(args, `${name}()`);
  checkCommon(options, RANDOM_OPTIONS, `${name}()`);
  const made = operator(name, 'generator').call([numbers, options.generator, options.dtype, undefined, options.device]);
  return finish(made as Tensor, options);
}

/** All zeros (PyTorch's `torch.zeros`). */
export function zeros(...args: SizeArguments<TensorOptions>): Tensor {
  return ofSize('zeros', args);
}

/** All ones (PyTorch's `torch.ones`). */
export function ones(...args: SizeArguments<TensorOptions>): Tensor {
  return ofSize('ones', args);
}

/** Memory as it comes: values are arbitrary (PyTorch's `torch.empty`). */
export function empty(...args: SizeArguments<TensorOptions>): Tensor {
  return ofSize('empty', args, 'memory_format');
}

/** Uniform numbers in [0, 1) (PyTorch's `torch.rand`). */
export function rand(...args: SizeArguments<RandomOptions>): Tensor {
  return randomOfSize('rand', args);
}

/** Standard normal numbers (PyTorch's `torch.randn`). */
export function randn(...args: SizeArguments<RandomOptions>): Tensor {
  return randomOfSize('randn', args);
}

/** One value everywhere; without a dtype, that of the value (PyTorch's `torch.full`). */
export function full(size: readonly number[], value: Scalar, options: TensorOptions = {}): Tensor {
  checkCommon(options, TENSOR_OPTIONS, 'full()');
  return finish(operator('full').call([size, value, options.dtype, undefined, options.device]) as Tensor, options);
}

/** Numbers from `start` (0) up to but without `end` in steps of `step` (1) (PyTorch's `torch.arange`). */
export function arange(end: number, options?: TensorOptions): Tensor;
export function arange(start: number, end: number, options?: TensorOptions): Tensor;
export function arange(start: number, end: number, step: number, options?: TensorOptions): Tensor;
export function arange(...args: (number | TensorOptions | undefined)[]): Tensor {
  const { numbers, options } = splitNumbers<TensorOptions>(args, 'arange()');
  checkCommon(options, TENSOR_OPTIONS, 'arange()');
  if (numbers.length < 1 || numbers.length > 3) {
    throw new TorchBindError(
      'arange(): expected (end), (start, end) or (start, end, step).',
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const [start, end, step] = numbers.length === 1 ? [0, numbers[0]!, 1] : [numbers[0]!, numbers[1]!, numbers[2] ?? 1];
  const made = operator('arange', 'start_step').call([start, end, step, options.dtype, undefined, options.device]);
  return finish(made as Tensor, options);
}

/** `steps` numbers evenly from `start` to `end`, both included (PyTorch's `torch.linspace`). */
export function linspace(start: number, end: number, steps: number, options: TensorOptions = {}): Tensor {
  checkCommon(options, TENSOR_OPTIONS, 'linspace()');
  return finish(
    operator('linspace').call([start, end, steps, options.dtype, undefined, options.device]) as Tensor,
    options,
  );
}

/** Ones on the diagonal of an (n, m) matrix, zeros elsewhere (PyTorch's `torch.eye`). */
export function eye(n: number, options?: TensorOptions): Tensor;
export function eye(n: number, m: number, options?: TensorOptions): Tensor;
export function eye(...args: (number | TensorOptions | undefined)[]): Tensor {
  const { numbers, options } = splitNumbers<TensorOptions>(args, 'eye()');
  checkCommon(options, TENSOR_OPTIONS, 'eye()');
  const [n, m] = [numbers[0], numbers[1] ?? numbers[0]];
  return finish(operator('eye', 'm').call([n, m, options.dtype, undefined, options.device]) as Tensor, options);
}

/** Integers in [low, high), low 0 where left out; int64 (PyTorch's `torch.randint`). */
export function randint(high: number, size: readonly number[], options?: RandomOptions): Tensor;
export function randint(low: number, high: number, size: readonly number[], options?: RandomOptions): Tensor;
export function randint(...args: (number | readonly number[] | RandomOptions | undefined)[]): Tensor {
  const at = args.findIndex(Array.isArray);
  if (at < 1 || at > 2) {
    throw new TorchBindError(
      'randint(): expected (high, size) or (low, high, size).',
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const options = (args[at + 1] ?? {}) as RandomOptions;
  checkCommon(options, RANDOM_OPTIONS, 'randint()');
  const [low, high] = at === 1 ? [0, args[0]] : [args[0], args[1]];
  const made = operator('randint', 'low_generator').call([
    low,
    high,
    args[at],
    options.generator,
    options.dtype ?? 'int64',
    undefined,
    options.device,
  ]);
  return finish(made as Tensor, options);
}

/** The integers 0 to n - 1 in random order; int64 (PyTorch's `torch.randperm`). */
export function randperm(n: number, options: RandomOptions = {}): Tensor {
  checkCommon(options, RANDOM_OPTIONS, 'randperm()');
  const made = operator('randperm', 'generator').call([
    n,
    options.generator,
    options.dtype ?? 'int64',
    undefined,
    options.device,
  ]);
  return finish(made as Tensor, options);
}

/** Values for `tensor()`: a number, nested arrays of numbers, or a typed array. */
export type TensorData = Scalar | ArrayBufferView | readonly TensorData[];

/**
 * A new tensor with a copy of the values (PyTorch's `torch.tensor`).
 *
 * Without a dtype: booleans give bool, integral numbers and bigints int64, other numbers float32, as literals do in
 * Python; a typed array gives the dtype of its elements.
 */
export function tensor(data: TensorData | Tensor, options: TensorOptions = {}): Tensor {
  checkCommon(options, TENSOR_OPTIONS, 'tensor()');
  if (data instanceof Tensor) {
    return finish(data.detach().to({ ...conversion(options), copy: true }), options);
  }
  if (ArrayBuffer.isView(data)) return finish(fromTypedArray(data).to(conversion(options)), options);
  const { shape, values } = flatten(data);
  const inferred = inferDType(values);
  // The values are laid down in the wanted dtype where JavaScript has a typed array for it: no detour, no rounding twice.
  const direct =
    options.dtype !== undefined && WRITABLE.has(options.dtype) && !values.some(isComplex) ? options.dtype : inferred;
  const made = wrap(native().fromTypedArray(fill(values, direct), shape, dtypeCode[direct]));
  return finish(
    made.to({ dtype: options.dtype ?? inferred, ...(options.device === undefined ? {} : { device: options.device }) }),
    options,
  );
}

function conversion(options: TensorOptions): { dtype?: DType; device?: string } {
  return {
    ...(options.dtype === undefined ? {} : { dtype: options.dtype }),
    ...(options.device === undefined ? {} : { device: options.device }),
  };
}

const WRITABLE: ReadonlySet<DType> = new Set<DType>([
  'float32',
  'float64',
  'int64',
  'int32',
  'int16',
  'int8',
  'uint8',
  'bool',
]);

function flatten(data: unknown): { shape: number[]; values: unknown[] } {
  if (!Array.isArray(data)) {
    checkValue(data);
    return { shape: [], values: [data] };
  }
  const shape: number[] = [data.length];
  let level: unknown[] = data;
  while (Array.isArray(level[0])) {
    const size = level[0].length;
    for (const row of level) checkRow(row, size, shape.length);
    shape.push(size);
    level = level.flat(1);
  }
  // Not forEach, which would walk through the holes of a sparse array in silence.
  for (const value of level) checkValue(value);
  return { shape, values: level };
}

function checkRow(row: unknown, size: number, depth: number): void {
  if (Array.isArray(row) && row.length === size) return;
  throw new TorchBindError(
    `tensor(): rows at depth ${depth} differ in length; all must have ${size} elements.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function checkValue(value: unknown): void {
  const type = typeof value;
  if (type === 'number' || type === 'bigint' || type === 'boolean' || isComplex(value)) return;
  throw new TorchBindError(
    `tensor(): expected numbers but received ${describe(value)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function inferDType(values: readonly unknown[]): DType {
  if (values.length === 0) return 'float32';
  if (values.some(isComplex)) return 'complex64';
  if (values.every((value) => typeof value === 'boolean')) return 'bool';
  const integral = values.every((value) => typeof value !== 'number' || Number.isSafeInteger(value));
  return integral ? 'int64' : 'float32';
}

function fill(values: readonly unknown[], dtype: DType): ArrayBufferView {
  if (dtype === 'complex64') {
    const pairs = values.flatMap((value) =>
      isComplex(value) ? [value.re, (value as Complex).im] : [Number(value), 0],
    );
    return Float32Array.from(pairs);
  }
  if (dtype === 'int64') {
    return BigInt64Array.from(values as (number | bigint | boolean)[], (value) => toBigInt(value));
  }
  if (dtype === 'bool') return Uint8Array.from(values, (value) => (value ? 1 : 0));
  const array = typedArrayOf(dtype, new ArrayBuffer(values.length * itemSize(dtype)));
  values.forEach((value, i) => (array[i] = Number(value)));
  return array;
}

function toBigInt(value: number | bigint | boolean): bigint {
  if (typeof value !== 'number') return BigInt.asIntN(64, BigInt(value));
  if (!Number.isFinite(value)) {
    throw new TorchBindError(`tensor(): ${value} has no int64 value.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
  }
  return BigInt(Math.trunc(value));
}

/**
 * A tensor with a copy of a typed array's elements.
 *
 * @param shape default: one dimension
 * @param dtype default: that of the elements; give float16 or bfloat16 for a Uint16Array of their bits
 */
export function fromTypedArray(data: ArrayBufferView, shape?: readonly number[], dtype?: DType): Tensor {
  if (!ArrayBuffer.isView(data)) {
    throw new TorchBindError(
      `fromTypedArray(): expected a typed array but received ${describe(data)}.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const type = dtype === undefined ? dtypeOfTypedArray(data) : checkDType(dtype, 'fromTypedArray()');
  const sizes = shape ?? [data.byteLength / itemSize(type)];
  return wrap(native().fromTypedArray(data, [...sizes], dtypeCode[type]));
}
