import { readFileSync } from 'node:fs';
import path from 'node:path';
import { replaceContent } from '../../formats/files/write-sync';
import type { MetricsLine } from './line';
import { pageScript, pageStyle } from './page-script';

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

/** Writes one page with the curves; it needs no network and no other file. */
export function writePage(file: string, name: string, lines: readonly MetricsLine[]): true {
  const drawn = charts
    .map((chart) => ({
      title: chart.title,
      fromZero: chart.fromZero,
      labels: chart.series.map(({ label }) => label),
      data: columns(chart, lines),
    }))
    .filter(({ data: [steps] }) => steps!.length > 0);
  replaceContent(file, page(name, summary(lines), JSON.stringify(drawn)));
  return true;
}

/** Steps, and the values of each series at these steps; null if a series has no value there. */
function columns({ series }: Chart, lines: readonly MetricsLine[]): (number | null)[][] {
  const rows = new Map<number, (number | null)[]>();
  for (const [index, { key, unit = 1 }] of series.entries())
    for (const [step, value] of thin(pointsOf(key, lines))) {
      const row = rows.get(step) ?? series.map(() => null);
      row[index] = value / unit;
      rows.set(step, row);
    }
  const sorted = [...rows].sort(([a], [b]) => a - b);
  return [sorted.map(([step]) => step), ...series.map((_, i) => sorted.map(([, row]) => row[i]!))];
}

type Point = readonly [step: number, value: number];

function pointsOf(key: keyof MetricsLine, lines: readonly MetricsLine[]): Point[] {
  return lines.flatMap((line) => (typeof line[key] === 'number' ? [[line.step, line[key]] as const] : []));
}

/** Keeps the lowest and the highest point of each stretch, so that no spike disappears, and the last one. */
function thin(points: readonly Point[]): readonly Point[] {
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

/** How far the run is, in a line. */
function summary(lines: readonly MetricsLine[]): string {
  const last = lines.at(-1);
  if (last === undefined) return '';
  const tokens = pointsOf('tokens_seen', lines).at(-1)?.[1];
  const validation = pointsOf('val_loss', lines).at(-1)?.[1];
  return [
    `step ${last.step.toLocaleString('en')}`,
    ...(tokens === undefined ? [] : [`${tokens.toLocaleString('en')} tokens`]),
    ...(validation === undefined ? [] : [`validation loss ${validation.toFixed(4)}`]),
    `${new Date(last.time * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`,
  ].join(' · ');
}

function page(name: string, text: string, json: string): string {
  const uplot = path.dirname(require.resolve('uplot'));
  const script = readFileSync(path.join(uplot, 'uPlot.iife.min.js'), 'utf8');
  const style = readFileSync(path.join(uplot, 'uPlot.min.css'), 'utf8');
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(name)}: training</title>
<style>${style}${pageStyle}</style>
<h1>${escapeHtml(name)}</h1>
<p>${escapeHtml(text)}</p>
<main></main>
<script>${script}</script>
<script>
const charts = ${json.replaceAll('<', '\\u003c')};
${pageScript}</script>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
