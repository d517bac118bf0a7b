import type { Tensor } from './core';
import type { Item } from './interop';
import type { Complex, NestedValues } from './schema-types';

/** PyTorch's defaults of `torch.set_printoptions`. */
const PRECISION = 4;
const THRESHOLD = 1000;
const EDGE_ITEMS = 3;
const LINE_WIDTH = 80;

/** How values are written, and the columns that each takes. */
interface ValueFormat {
  text(value: Item): string;
  width: number;
}

/** The values of a dense tensor in brackets; `indent` is the column at which they begin. */
export function formatValues(tensor: Tensor, indent: number): string {
  const shape = tensor.shape;
  if (shape.includes(0)) return '[]';
  const summarize = tensor.numel() > THRESHOLD;
  const shown = summarize ? edges(tensor, shape) : tensor.tolist();
  const format = valueFormat(flatten(shown), /^(float|bfloat|complex)/.test(tensor.dtype));
  const gaps = shape.map((size) => summarize && size > 2 * EDGE_ITEMS);
  return render(shown, format, gaps, indent);
}

/** Only the first and last few of each long dimension. */
function edges(tensor: Tensor, shape: number[]): NestedValues {
  let part = tensor.detach();
  shape.forEach((size, dim) => {
    if (size <= 2 * EDGE_ITEMS) return;
    const first = Array.from({ length: EDGE_ITEMS }, (_, i) => part.narrow(dim, i, 1));
    const last = Array.from({ length: EDGE_ITEMS }, (_, i) => part.narrow(dim, size - EDGE_ITEMS + i, 1));
    part = concatenate([...first, ...last], dim);
  });
  return part.tolist();
}

/** As `cat`, which lives in a module that this one cannot depend on. */
function concatenate(parts: Tensor[], dim: number): Tensor {
  const [first, ...rest] = parts.map((part) => part.movedim(dim, 0));
  const rows = [first!, ...rest];
  const target = first!.newEmpty([rows.length, ...first!.shape.slice(1)]);
  rows.forEach((row, i) => target.narrow(0, i, 1).copy_(row));
  return target.movedim(0, dim);
}

function flatten(values: NestedValues): Item[] {
  return Array.isArray(values) ? values.flatMap(flatten) : [values];
}

/** One format for all values of a tensor, chosen as PyTorch chooses it. */
function valueFormat(values: Item[], floating: boolean): ValueFormat {
  if (values.some(isComplex)) return complexFormat(values as Complex[]);
  if (floating) return realFormat(values as number[]) as ValueFormat;
  const width = Math.max(1, ...values.map((value) => String(value).length));
  return { text: (value) => String(value).padStart(width), width };
}

function complexFormat(values: Complex[]): ValueFormat {
  const real = realFormat(values.map(({ re }) => re));
  const imaginary = realFormat(values.map(({ im }) => im));
  return {
    text(value) {
      const { re, im } = value as Complex;
      const text = `${imaginary.text(im)}j`.trimStart();
      return real.text(re) + (text.startsWith('-') ? '' : '+') + text;
    },
    width: real.width + imaginary.width + 1,
  };
}

/** Integers with a point, fixed or scientific; the width is that of the widest finite number but zero. */
function realFormat(numbers: number[]): { text(value: number): string; width: number } {
  const finite = numbers.filter((n) => Number.isFinite(n) && n !== 0);
  const magnitudes = finite.map(Math.abs);
  const largest = Math.max(...magnitudes);
  const smallest = Math.min(...magnitudes);
  const asIntegers = finite.every(Number.isInteger);
  const asScientific = largest / smallest > 1000 || largest > 1e8 || smallest < 1e-4;
  const text = (n: number): string => {
    if (Number.isNaN(n)) return 'nan';
    if (!Number.isFinite(n)) return n > 0 ? 'inf' : '-inf';
    if (asScientific) return scientific(n);
    return asIntegers ? `${integer(n)}.` : n.toFixed(PRECISION);
  };
  const width = Math.max(1, ...finite.map((n) => text(n).length));
  return { text: (n) => text(n).padStart(width), width };
}

/** All digits: a large number has no exponent here, and -0 keeps its sign. */
function integer(value: number): string {
  return Object.is(value, -0) ? '-0' : value.toFixed(0);
}

function scientific(value: number): string {
  const [mantissa, exponent] = value.toExponential(PRECISION).split('e') as [string, string];
  return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
}

function isComplex(value: Item): value is Complex {
  return typeof value === 'object';
}

function render(values: NestedValues, format: ValueFormat, gaps: boolean[], indent: number): string {
  if (!Array.isArray(values)) return format.text(values).trim();
  const nested = Array.isArray(values[0]);
  const inner = values.map((value) =>
    Array.isArray(value) ? render(value, format, gaps.slice(1), indent + 1) : format.text(value),
  );
  if (gaps[0]) inner.splice(EDGE_ITEMS, 0, nested ? '...' : ' ...');
  const newLine = (count: number): string => `,${'\n'.repeat(count)}${' '.repeat(indent + 1)}`;
  return `[${nested ? inner.join(newLine(gaps.length - 1)) : lines(inner, format.width, indent).join(newLine(1))}]`;
}

/** As many values on a line as PyTorch puts there. */
function lines(values: string[], width: number, indent: number): string[] {
  const perLine = Math.max(1, Math.floor((LINE_WIDTH - indent) / (width + 2)));
  const count = Math.ceil(values.length / perLine);
  return Array.from({ length: count }, (_, i) => values.slice(i * perLine, (i + 1) * perLine).join(', '));
}
