import { checkArgument, checkOptions, isAtLeast } from '../errors';
import type { Comparison, TensorComparison } from './compare';
import { alignColumns, plural, printable } from './text-table';

/** Options of `formatComparison`. */
export interface FormatComparisonOptions {
  /** The most tensors to list. Where there are more, those that differ most are listed. Default: all. */
  tensors?: number;
}

const header = ['tensor', 'shape', 'L2', 'largest', 'relative', 'cosine', ''];

/** A comparison as a table for people: a line for each tensor, then the totals, then what was not compared. */
export function formatComparison(comparison: Comparison, options: FormatComparisonOptions = {}): string {
  checkOptions(options, ['tensors'], 'formatComparison');
  const { tensors: limit = Infinity } = options;
  checkArgument(isAtLeast(limit, 0), "a number for 'tensors'", limit, 'formatComparison');
  try {
    return tableOf(comparison, limit);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    checkArgument(false, 'what compare() gives', comparison, 'formatComparison');
    throw error;
  }
}

function tableOf(comparison: Comparison, limit: number): string {
  const { tensors, totals, onlyInA, onlyInB, shapesDiffer } = comparison;
  const listed = mostDifferent(tensors, limit);
  const rows = [
    header,
    ...listed.map((tensor) => [printable(tensor.name), `[${tensor.shape.join(', ')}]`, ...numbers(tensor)]),
    ['total', plural(totals.elements, 'element'), ...numbers(totals)],
  ];
  const unlisted = tensors.length - listed.length;
  return [
    ...alignColumns(rows, [2, 3, 4, 5]),
    ...(unlisted > 0 ? [`${plural(unlisted, 'tensor')} that differ less are not listed`] : []),
    `${totals.equalTensors} of ${plural(totals.tensors, 'tensor')} equal`,
    ...shapesDiffer.map(({ name, a, b }) => `shapes differ: ${printable(name)} [${a.join(', ')}], [${b.join(', ')}]`),
    ...onlyInA.map((name) => `only in the first: ${printable(name)}`),
    ...onlyInB.map((name) => `only in the second: ${printable(name)}`),
  ].join('\n');
}

function numbers({
  l2,
  maxAbs,
  relative,
  cosine,
  equal,
  dtypes,
}: Omit<TensorComparison, 'name' | 'shape' | 'dtypes'> & { dtypes?: readonly string[] }): string[] {
  const note = dtypes !== undefined && dtypes[0] !== dtypes[1] ? dtypes.join(' and ') : equal ? 'equal' : '';
  return [short(l2), short(maxAbs), relative === null ? '-' : short(relative), cosine?.toFixed(6) ?? '-', note];
}

function short(value: number): string {
  return value === 0 ? '0' : value.toPrecision(4);
}

/** In their order, those that differ most; what is not a number differs most of all. */
function mostDifferent(tensors: readonly TensorComparison[], limit: number): readonly TensorComparison[] {
  if (tensors.length <= limit) return tensors;
  const distance = ({ relative }: TensorComparison): number =>
    relative === null || Number.isNaN(relative) ? Infinity : relative;
  const chosen = new Set([...tensors].sort((a, b) => (distance(b) < distance(a) ? -1 : 1)).slice(0, limit));
  return tensors.filter((tensor) => chosen.has(tensor));
}
