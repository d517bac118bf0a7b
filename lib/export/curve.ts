import type { MetricsLine } from '../train';

/** The curve of a training run as a picture, SVG: loss over steps. */

const width = 720;
const height = 360;
const margin = { left: 56, right: 16, top: 24, bottom: 40 };
/** More points than the picture has pixels show nothing. */
const maxPoints = 600;

type Point = readonly [step: number, loss: number];

/** The picture; undefined where there are not two points to draw. */
export function curveSvg(lines: readonly MetricsLine[]): string | undefined {
  const curves = [
    { name: 'batch', colour: '#8a94a0', points: pointsOf(lines, 'loss') },
    { name: 'train', colour: '#1d5fd1', points: pointsOf(lines, 'train_loss') },
    { name: 'validation', colour: '#c8401f', points: pointsOf(lines, 'val_loss') },
  ].filter(({ points }) => points.length > 1);
  if (curves.length === 0) return undefined;
  const all = curves.flatMap(({ points }) => points);
  const x = scaleOf(
    all.map(([step]) => step),
    margin.left,
    width - margin.right,
  );
  const y = scaleOf(
    all.map(([, loss]) => loss),
    height - margin.bottom,
    margin.top,
  );
  const parts = [
    ...y.ticks.map((tick) => gridLine(tick, y.at(tick))),
    ...x.ticks.map((tick) => text(x.at(tick), height - margin.bottom + 18, 'middle', label(tick))),
    text((margin.left + width - margin.right) / 2, height - 6, 'middle', 'step'),
    ...curves.map(({ colour, points }) =>
      polyline(
        points.map(([step, loss]) => [x.at(step), y.at(loss)]),
        colour,
      ),
    ),
    ...curves.map(({ name, colour }, i) => text(margin.left + 12 + 90 * i, 16, 'start', name, colour)),
  ];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="Loss over training steps" ` +
    `font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="#ffffff"/>\n${parts.join('\n')}\n</svg>\n`
  );
}

function pointsOf(lines: readonly MetricsLine[], field: 'loss' | 'train_loss' | 'val_loss'): Point[] {
  const points = lines.flatMap((line): Point[] => {
    const value = line[field];
    return typeof value === 'number' && Number.isFinite(value) ? [[line.step, value]] : [];
  });
  const every = Math.ceil(points.length / maxPoints);
  return points.filter((_, i) => i % every === 0 || i === points.length - 1);
}

interface Scale {
  at(value: number): number;
  ticks: number[];
}

/** From values to pixels, with about five round numbers to label. */
function scaleOf(values: readonly number[], from: number, to: number): Scale {
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const range = high > low ? high - low : 1;
  const rough = range / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((one) => one >= rough)!;
  const first = Math.ceil(low / step);
  const ticks = Array.from({ length: Math.floor((low + range) / step) - first + 1 }, (_, i) => (first + i) * step);
  return { at: (value) => from + ((value - low) / range) * (to - from), ticks };
}

function gridLine(tick: number, y: number): string {
  const line = `<path d="M${margin.left} ${round(y)}H${width - margin.right}" stroke="#e4e7eb"/>`;
  return line + text(margin.left - 8, y + 4, 'end', label(tick));
}

function polyline(points: readonly (readonly [number, number])[], colour: string): string {
  const list = points.map(([x, y]) => `${round(x)},${round(y)}`).join(' ');
  return `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${list}"/>`;
}

function text(x: number, y: number, anchor: string, content: string, fill = '#59636e'): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" fill="${fill}">${content}</text>`;
}

function round(value: number): number {
  return Number(value.toFixed(1));
}

function label(value: number): string {
  return String(Number(value.toPrecision(6)));
}
