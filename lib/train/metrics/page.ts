import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { MetricsLine } from './line';

/** A picture with one or more curves over the step. */
interface Chart {
  title: string;
  series: { label: string; key: keyof MetricsLine }[];
}

const charts: readonly Chart[] = [
  {
    title: 'Loss, nats a token',
    series: [
      { label: 'batch', key: 'loss' },
      { label: 'train', key: 'train_loss' },
      { label: 'validation', key: 'val_loss' },
    ],
  },
  { title: 'Learning rate', series: [{ label: 'learning rate', key: 'learning_rate' }] },
  { title: 'Gradient norm before clipping', series: [{ label: 'norm', key: 'grad_norm' }] },
  { title: 'Tokens a second', series: [{ label: 'tokens/s', key: 'tokens_per_second' }] },
  { title: 'Resident memory, MB', series: [{ label: 'MB', key: 'memory' }] },
];

/** More points than a screen has columns tell nothing more. */
const MOST_POINTS = 2000;

/** Writes one page with the curves; it needs no network and no other file. */
export function writePage(file: string, lines: readonly MetricsLine[]): true {
  const data = charts.map((chart) => ({
    title: chart.title,
    labels: chart.series.map(({ label }) => label),
    data: columns(chart, lines),
  }));
  const drawn = data.filter(({ data: [steps] }) => steps!.length > 0);
  const temporary = `${file}.${process.pid}`;
  writeFileSync(temporary, page(JSON.stringify(drawn)));
  renameSync(temporary, file);
  return true;
}

/** Steps, and the values of each series at these; null where a series has none. */
function columns({ series }: Chart, lines: readonly MetricsLine[]): (number | null)[][] {
  const rows = new Map<number, (number | null)[]>();
  for (const { key } of series)
    for (const line of thin(lines.filter((candidate) => typeof candidate[key] === 'number'))) {
      const row = rows.get(line.step) ?? series.map(() => null);
      const index = series.findIndex((other) => other.key === key);
      row[index] = key === 'memory' ? (line[key] as number) / 1e6 : (line[key] as number);
      rows.set(line.step, row);
    }
  const sorted = [...rows].sort(([a], [b]) => a - b);
  return [sorted.map(([step]) => step), ...series.map((_, i) => sorted.map(([, row]) => row[i]!))];
}

function thin<T>(items: readonly T[]): readonly T[] {
  const stride = Math.ceil(items.length / MOST_POINTS);
  return items.filter((_, i) => i % stride === 0 || i === items.length - 1);
}

function page(json: string): string {
  const uplot = path.dirname(require.resolve('uplot'));
  const script = readFileSync(path.join(uplot, 'uPlot.iife.min.js'), 'utf8');
  const style = readFileSync(path.join(uplot, 'uPlot.min.css'), 'utf8');
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Training</title>
<style>${style}
body { font: 14px system-ui, sans-serif; margin: 2em auto; max-width: 1000px; padding: 0 1em; }
figure { margin: 0 0 2em; }
</style>
<h1>Training</h1>
<main></main>
<script>${script}</script>
<script>
const charts = ${json.replaceAll('<', '\\u003c')};
const colours = ['#9aa5b1', '#2563eb', '#dc2626'];
for (const { title, labels, data } of charts) {
  const figure = document.querySelector('main').appendChild(document.createElement('figure'));
  const alone = labels.length === 1;
  const series = labels.map((label, i) => ({ label, stroke: colours[alone ? 1 : i], spanGaps: true, width: 1.5 }));
  const size = { width: figure.clientWidth, height: 300 };
  const plot = new uPlot({ title, ...size, scales: { x: { time: false } }, series: [{ label: 'step' }, ...series] }, data, figure);
  addEventListener('resize', () => plot.setSize({ width: figure.clientWidth, height: 300 }));
}
</script>
</html>
`;
}
