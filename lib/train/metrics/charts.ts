import type { MetricsLine } from './line';

/** A chart with one or more curves over the step. */
interface Chart {
  title: string;
  /** The y axis begins at 0. */
  fromZero: boolean;
  series: { label: string; key: keyof MetricsLine; unit?: number }[];
}

const charts: readonly Chart[] = [
  {
    title: 'Loss (nats per token)',
    fromZero: false,
    series: [
      { label: 'batch', key: 'loss' },
      { label: 'train', key: 'train_loss' },
      { label: 'validation', key: 'val_loss' },
    ],
  },
  { title: 'Learning rate', fromZero: true, series: [{ label: 'learning rate', key: 'learning_rate' }] },
  { title: 'Gradient norm before clipping', fromZero: true, series: [{ label: 'norm', key: 'grad_norm' }] },
  { title: 'Tokens per second', fromZero: true, series: [{ label: 'tokens/s', key: 'tokens_per_second' }] },
  { title: 'Resident memory (GB)', fromZero: true, series: [{ label: 'memory', key: 'memory', unit: 1e9 }] },
];

/** Points of a curve are thinned beyond this number: a screen has fewer columns. */
const MOST_POINTS = 2000;

/** A chart as the page draws it. */
export interface DrawnChart {
  title: string;
  fromZero: boolean;
  labels: string[];
  /** Steps, and the values of each series at these steps; null if a series has no value there. */
  data: (number | null)[][];
}

/** The charts of a run; those without points are left out. */
export function drawnCharts(pointsOf: (key: keyof MetricsLine) => readonly Point[]): DrawnChart[] {
  return charts
    .map((chart) => ({
      title: chart.title,
      fromZero: chart.fromZero,
      labels: chart.series.map(({ label }) => label),
      data: columns(chart, pointsOf),
    }))
    .filter(({ data: [steps] }) => steps!.length > 0);
}

function columns({ series }: Chart, pointsOf: (key: keyof MetricsLine) => readonly Point[]): (number | null)[][] {
  const rows = new Map<number, (number | null)[]>();
  for (const [index, { key, unit = 1 }] of series.entries())
    for (const [step, value] of thin(pointsOf(key))) {
      const row = rows.get(step) ?? series.map(() => null);
      row[index] = value / unit;
      rows.set(step, row);
    }
  const sorted = [...rows].sort(([a], [b]) => a - b);
  return [sorted.map(([step]) => step), ...series.map((_, i) => sorted.map(([, row]) => row[i]!))];
}

export type Point = readonly [step: number, value: number];

export function pointsOf(key: keyof MetricsLine, lines: readonly MetricsLine[]): Point[] {
  return lines.flatMap((line) => (typeof line[key] === 'number' ? [[line.step, line[key]] as const] : []));
}

/** Keeps the lowest and the highest point of each stretch, so that no spike disappears, and the last one. */
export function thin(points: readonly Point[]): readonly Point[] {
  if (points.length <= MOST_POINTS) return points;
  const stretch = Math.ceil((2 * points.length) / MOST_POINTS);
  const kept = new Set([points.at(-1)!]);
  for (let start = 0; start < points.length; start += stretch) {
    const part = points.slice(start, start + stretch);
    kept.add(part.reduce((lowest, point) => (point[1] < lowest[1] ? point : lowest)));
    kept.add(part.reduce((highest, point) => (point[1] > highest[1] ? point : highest)));
  }
  return [...kept];
}
