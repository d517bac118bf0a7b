import { checkArgument, describe, takes, TorchBindError } from '../errors';
import { overloadSet } from './dispatch';
import { isOptions, Operator } from './operator';
import type { Generator } from './random';
import type { Scalar } from './schema-types';
import { Tensor } from './tensor';
import { checkTensorOptions, finish, TENSOR_OPTIONS } from './tensor-options';
import type { TensorOptions } from './tensor-options';

export { asTensor, fromTypedArray, scalarTensor, tensor } from './from-data';
export type { TensorOptions } from './tensor-options';

/** Options of functions that make random tensors. */
export interface RandomOptions extends TensorOptions {
  /** Draw from this generator instead of the device's default one. */
  generator?: Generator;
}

/** Sizes as one array or one by one, then options: `zeros([2, 3])`, `zeros(2, 3, { dtype: 'int64' })`. */
type SizeArguments<Options> =
  [size: readonly number[], options?: Options] | [...size: number[]] | [...size: number[], options: Options];

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
      throw new TorchBindError(`${where}: expected numbers, got ${describe(value)}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
    }
  }
  return { numbers: numbers as number[], options: (hasOptions ? (last ?? {}) : {}) as Options };
}

/** A tensor of a size by an operator `(size, *, dtype, layout, device, pin_memory)`. */
function ofSize(name: string, args: readonly unknown[], overload = ''): Tensor {
  const { numbers, options } = splitNumbers<TensorOptions>(args, `${name}()`);
  checkTensorOptions(options, TENSOR_OPTIONS, `${name}()`);
  return finish(operator(name, overload).call([numbers, options.dtype, undefined, options.device]) as Tensor, options);
}

function randomOfSize(name: string, args: readonly unknown[]): Tensor {
  const { numbers, options } = splitNumbers<RandomOptions>(args, `${name}()`);
  checkTensorOptions(options, RANDOM_OPTIONS, `${name}()`);
  const made = operator(name, 'generator').call([numbers, options.generator, options.dtype, undefined, options.device]);
  return finish(made as Tensor, options);
}

/** A tensor of zeros; default dtype float32 (PyTorch's `torch.zeros`). */
export function zeros(...args: SizeArguments<TensorOptions>): Tensor {
  return ofSize('zeros', args);
}

/** A tensor of ones; default dtype float32 (PyTorch's `torch.ones`). */
export function ones(...args: SizeArguments<TensorOptions>): Tensor {
  return ofSize('ones', args);
}

/** Uninitialised memory: values are arbitrary (PyTorch's `torch.empty`). */
export function empty(...args: SizeArguments<TensorOptions>): Tensor {
  return ofSize('empty', args, 'memory_format');
}

/** Uniform random numbers in [0, 1); default dtype float32 (PyTorch's `torch.rand`). */
export function rand(...args: SizeArguments<RandomOptions>): Tensor {
  return randomOfSize('rand', args);
}

/** Standard normal random numbers; default dtype float32 (PyTorch's `torch.randn`). */
export function randn(...args: SizeArguments<RandomOptions>): Tensor {
  return randomOfSize('randn', args);
}

/** A tensor filled with one value; the default dtype is that of the value (PyTorch's `torch.full`). */
export const full = takes(
  3,
  function full(size: readonly number[], value: Scalar, options: TensorOptions = {}): Tensor {
    checkArgument(Array.isArray(size), 'an array of sizes', size, 'full()');
    checkTensorOptions(options, TENSOR_OPTIONS, 'full()');
    return finish(operator('full').call([size, value, options.dtype, undefined, options.device]) as Tensor, options);
  },
);

/** Numbers from `start` (0) up to but without `end` in steps of `step` (1) (PyTorch's `torch.arange`). */
export function arange(end: number, options?: TensorOptions): Tensor;
export function arange(start: number, end: number, options?: TensorOptions): Tensor;
export function arange(start: number, end: number, step: number, options?: TensorOptions): Tensor;
export function arange(...args: (number | TensorOptions | undefined)[]): Tensor {
  const { numbers, options } = splitNumbers<TensorOptions>(args, 'arange()');
  checkTensorOptions(options, TENSOR_OPTIONS, 'arange()');
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

/** `steps` numbers evenly from `start` to `end`, numbers or tensors of one value, both included (PyTorch's `torch.linspace`). */
export function linspace(start: Scalar | Tensor, end: Scalar | Tensor, steps: number, options?: TensorOptions): Tensor;
export function linspace(
  start: Scalar | Tensor,
  end: Scalar | Tensor,
  options: TensorOptions & { steps: number },
): Tensor;
export function linspace(
  start: Scalar | Tensor,
  end: Scalar | Tensor,
  ...rest: [steps: number, options?: TensorOptions] | [options: TensorOptions & { steps: number }]
): Tensor {
  const given = rest.find(isOptions) as TensorOptions | undefined;
  const { requiresGrad = false, ...options } = given ?? {};
  checkTensorOptions(options, [...TENSOR_OPTIONS, 'steps'], 'linspace()');
  const positional = rest.filter((value) => value !== given);
  const args = [start, end, ...positional, ...(given === undefined ? [] : [options])];
  return finish(overloadSet('aten::linspace').call(args) as Tensor, { requiresGrad });
}

/** Ones on the diagonal of an (n, m) matrix, zeros elsewhere (PyTorch's `torch.eye`). */
export function eye(n: number, options?: TensorOptions): Tensor;
export function eye(n: number, m: number, options?: TensorOptions): Tensor;
export function eye(...args: (number | TensorOptions | undefined)[]): Tensor {
  const { numbers, options } = splitNumbers<TensorOptions>(args, 'eye()');
  checkTensorOptions(options, TENSOR_OPTIONS, 'eye()');
  if (numbers.length < 1 || numbers.length > 2)
    throw new TorchBindError('eye(): expected (n) or (n, m).', 'ERR_TORCHBIND_INVALID_ARGUMENT');
  const [n, m] = [numbers[0], numbers[1] ?? numbers[0]];
  return finish(operator('eye', 'm').call([n, m, options.dtype, undefined, options.device]) as Tensor, options);
}

/** Random integers in [low, high), with low 0 by default; int64 (PyTorch's `torch.randint`). */
export function randint(high: number, size: readonly number[], options?: RandomOptions): Tensor;
export function randint(low: number, high: number, size: readonly number[], options?: RandomOptions): Tensor;
export function randint(...args: (number | readonly number[] | RandomOptions | undefined)[]): Tensor {
  const at = args.findIndex(Array.isArray);
  if (at < 1 || at > 2 || args.length > at + 2) {
    throw new TorchBindError(
      'randint(): expected (high, size) or (low, high, size).',
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const options = (args[at + 1] ?? {}) as RandomOptions;
  checkTensorOptions(options, RANDOM_OPTIONS, 'randint()');
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
export const randperm = takes(2, function randperm(n: number, options: RandomOptions = {}): Tensor {
  checkTensorOptions(options, RANDOM_OPTIONS, 'randperm()');
  const made = operator('randperm', 'generator').call([
    n,
    options.generator,
    options.dtype ?? 'int64',
    undefined,
    options.device,
  ]);
  return finish(made as Tensor, options);
});

/** Whether a value is a Tensor (PyTorch's `torch.is_tensor`). */
export function isTensor(value: unknown): value is Tensor {
  return value instanceof Tensor;
}

/** @internal Refuses what is not a tensor. */
export function checkTensor(value: unknown, where: string): asserts value is Tensor {
  checkArgument(isTensor(value), 'a tensor', value, where);
}
