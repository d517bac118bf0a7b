import { describe, isAtLeast } from '../errors';
import { Float, isPythonInt, plainNumber, Tuple } from '../pickle/types';
import { Tensor } from '../tensor/tensor';
import { stateDictError } from './state-dict';

/** The values that a hyperparameter may have, in words and as a test. */
interface Range {
  expected: string;
  includes(value: unknown): boolean;
}

export const AT_LEAST_0: Range = { expected: '0 or more', includes: (value) => isAtLeast(value, 0) };
export const ANY_NUMBER: Range = {
  expected: 'a number',
  includes: (value) => typeof value === 'number' && !Number.isNaN(value),
};
export const BOOLEAN: Range = { expected: 'true or false', includes: (value) => typeof value === 'boolean' };
export const BETAS: Range = {
  expected: 'two numbers from 0 to below 1',
  includes: (value) =>
    Array.isArray(value) && value.length === 2 && value.every((beta) => isAtLeast(beta, 0) && beta < 1),
};

/** What a group may hold under each key: how it is named here, and how PyTorch writes and reads it. */
export interface Hyperparameter {
  /** Key in PyTorch's `param_groups`. */
  file: string;
  /** Property of the group here. */
  name: string;
  /** Value when neither the caller nor a loaded file gives one. */
  default: unknown;
  /** `float` is written as a Python float even where it is integral, `number` as what it is. */
  kind: 'float' | 'floats' | 'number' | 'boolean' | 'plain';
  /** Only what callers may set has a range; the rest are notes of PyTorch's that are kept and written back. */
  range?: Range;
}

/** Which of PyTorch's kernels ran: recorded in every group, of no use here, where the fused kernel always runs. */
export function kernelNote(file: 'foreach' | 'fused' | 'capturable' | 'differentiable'): Hyperparameter {
  return { file, name: file, default: file === 'foreach' || file === 'fused' ? null : false, kind: 'plain' };
}

/** The names of the options that callers may give. */
export function optionNames(table: readonly Hyperparameter[]): string[] {
  return table.filter(({ range }) => range !== undefined).map(({ name }) => name);
}

/** What is wrong with the first value out of range; undefined where all are in range. */
export function findOutOfRange(
  table: readonly Hyperparameter[],
  values: Readonly<Record<string, unknown>>,
): string | undefined {
  for (const { name, range } of table) {
    if (range === undefined || range.includes(values[name])) continue;
    return `expected ${range.expected} for '${name}', got ${shown(values[name])}`;
  }
  return undefined;
}

/** Numbers by their value, anything else by its type. */
function shown(value: unknown): string {
  if (Array.isArray(value) && value.length <= 4) return `[${value.map(shown).join(', ')}]`;
  return typeof value === 'number' ? String(value) : describe(value);
}

/** A value as Python's optimizer would hold it. */
export function pack(value: unknown, kind: Hyperparameter['kind']): unknown {
  if (kind === 'float') return pythonFloat(value as number);
  return kind === 'floats' ? Tuple.from(value as number[], pythonFloat) : value;
}

/** A number that Python must read as a float. */
function pythonFloat(value: number): number | Float {
  return isPythonInt(value) ? new Float(value) : value;
}

/** The keys of a group in a state dict whose values are floats in Python, and integral. */
export function floatsIn(values: ReadonlyMap<string, unknown>): ReadonlySet<string> {
  return new Set([...values].filter(([, value]) => value instanceof Float).map(([key]) => key));
}

/** A value from a state dict as it is held here. */
export function unpack(value: unknown, { kind, file }: Hyperparameter, where: string): unknown {
  if (kind === 'plain') return value;
  if (kind === 'boolean') return value === 0 || value === 1 ? value === 1 : value;
  if (kind !== 'floats') return numberOf(value, file, where);
  if (!Array.isArray(value))
    throw stateDictError(`expected a pair of numbers for '${file}' of ${where}, got ${describe(value)}.`);
  return value.map((item) => numberOf(item, file, where));
}

function numberOf(value: unknown, key: string, where: string): number {
  const number = plainNumber(value);
  if (number !== undefined) return number;
  if (value instanceof Tensor && value.numel() === 1) return Number(value.item());
  throw stateDictError(`expected a number for '${key}' of ${where}, got ${describe(value)}.`);
}
