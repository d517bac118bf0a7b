import type { Tensor } from '../../lib/index';

/** Where a tensor of the file stands that a result must equal, and the strides it must have (null: any). */
export interface ExpectedTensor {
  $: 'tensor';
  at: number;
  strides: number[] | null;
}

/** A result as Python gave it: an `ExpectedTensor`, another marked value, a plain one, or a list of them. */
export type Expected = unknown;

/** What is compared, besides the values. */
export interface Comparison {
  /** The tensors of the file. */
  tensors: readonly Tensor[];
  /** Nobody set the values: only dtype, shape and strides count. */
  unset: boolean;
}

/** How a result differs from what Python gave; undefined where it is equal to the bit. */
export function difference(actual: unknown, expected: Expected, context: Comparison): string | undefined {
  if (Array.isArray(expected)) return listDifference(actual, expected as Expected[], context);
  if (isMarked(expected)) {
    if (expected.$ === 'tensor') return tensorDifference(actual, expected as unknown as ExpectedTensor, context);
    return plainDifference(actual, plainValue(expected));
  }
  return plainDifference(actual, expected);
}

function isMarked(value: unknown): value is { $: string; [key: string]: unknown } {
  return typeof value === 'object' && value !== null && '$' in value;
}

/** The JavaScript value of a marked Python value that is not a tensor. */
export function plainValue(value: { $: string; [key: string]: unknown }): unknown {
  switch (value.$) {
    case 'bigint':
      return BigInt(value['value'] as string);
    case 'float':
      return toNumber(value['value'] as string);
    case 'complex':
      return { re: realPart(value['re']), im: realPart(value['im']) };
    case 'dtype':
      return value['name'];
    default:
      throw new Error(`the samples hold a value marked ${value.$}`);
  }
}

function realPart(value: unknown): number {
  return isMarked(value) ? (plainValue(value) as number) : (value as number);
}

/** A float as Python writes it. */
function toNumber(text: string): number {
  if (text === 'nan') return NaN;
  return text.endsWith('inf') ? (text.startsWith('-') ? -Infinity : Infinity) : Number(text);
}

function listDifference(actual: unknown, expected: Expected[], context: Comparison): string | undefined {
  if (!Array.isArray(actual)) return `a list of ${expected.length} was expected, not ${typeof actual}`;
  if (actual.length !== expected.length) return `${actual.length} results instead of ${expected.length}`;
  for (let i = 0; i < expected.length; i++) {
    const found = difference(actual[i], expected[i], context);
    if (found !== undefined) return `result ${i}: ${found}`;
  }
  return undefined;
}

function plainDifference(actual: unknown, expected: unknown): string | undefined {
  const same = JSON.stringify(actual) === JSON.stringify(expected) && typeof actual === typeof expected;
  return Object.is(actual, expected) || (same && typeof actual !== 'number')
    ? undefined
    : `${String(actual)} instead of ${String(expected)}`;
}

function tensorDifference(actual: unknown, expected: ExpectedTensor, context: Comparison): string | undefined {
  if (!isTensor(actual)) return `${typeof actual} instead of a tensor`;
  const wanted = context.tensors[expected.at]!;
  if (actual.dtype !== wanted.dtype) return `dtype ${actual.dtype} instead of ${wanted.dtype}`;
  if (String(actual.shape) !== String(wanted.shape))
    return `shape [${String(actual.shape)}] instead of [${String(wanted.shape)}]`;
  const strided = actual.layout === 'strided';
  if (strided !== (expected.strides !== null)) return `layout ${actual.layout}`;
  if (strided && String(actual.strides()) !== String(expected.strides)) {
    return `strides [${String(actual.strides())}] instead of [${String(expected.strides)}]`;
  }
  return context.unset ? undefined : valueDifference(strided ? actual : actual.toDense(), wanted);
}

function isTensor(value: unknown): value is Tensor {
  return typeof value === 'object' && value !== null && 'toTypedArray' in value;
}

/** Bits are compared first; where they differ, all values that are not NaN must still be the same. */
function valueDifference(actual: Tensor, wanted: Tensor): string | undefined {
  if (sameBits(actual, wanted)) return undefined;
  const [a, b] = [numbers(actual), numbers(wanted)];
  let count = 0;
  let largest = 0;
  for (let i = 0; i < b.length; i++) {
    if (a[i] === b[i] ? Object.is(a[i], b[i]) : a[i] !== a[i] && b[i] !== b[i]) continue;
    count++;
    const scale = Math.max(Math.abs(Number(b[i])), Number.MIN_VALUE);
    largest = Math.max(largest, Math.abs(Number(a[i]) - Number(b[i])) / scale);
  }
  return count === 0 ? undefined : `${count} of ${b.length} values, by up to ${largest.toExponential(1)} of the value`;
}

function sameBits(a: Tensor, b: Tensor): boolean {
  const [x, y] = [a.toTypedArray(), b.toTypedArray()];
  return Buffer.compare(Buffer.from(x.buffer), Buffer.from(y.buffer)) === 0;
}

const HALVES = ['float16', 'bfloat16'];

function numbers(tensor: Tensor): ArrayLike<number | bigint> {
  return (HALVES.includes(tensor.dtype) ? tensor.detach().to('float32') : tensor).toTypedArray();
}
