/** Colours as properties, from which the script takes those of the canvases. */
export const pageStyle = `
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1f2328; --faint: #59636e; --grid: #e4e7eb;
  --batch: #a3adb8; --train: #1d5fd1; --validation: #c8401f;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #14171c; --ink: #e6e9ed; --faint: #9aa4af; --grid: #2b3138;
    --batch: #626d79; --train: #6ea8fe; --validation: #ff8a65;
  }
}
body {
  background: var(--page); color: var(--ink);
  font: 14px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif;
  margin: 2rem auto; max-width: 1200px; padding: 0 1rem;
}
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
p { color: var(--faint); margin: 0.3rem 0 1.5rem; }
main { display: grid; gap: 1.5rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }
figure { break-inside: avoid; margin: 0; min-width: 0; position: relative; }
figure:first-child { grid-column: 1 / -1; }
figcaption { font-weight: 600; }
.uplot { display: flex; flex-direction: column-reverse; font: inherit; width: auto; }
.u-legend.u-inline { color: var(--faint); font-size: 13px; margin: 0; text-align: left; }
.single .u-legend { position: absolute; right: 0; top: 0; }
.u-legend.u-inline.u-live th::after { content: ''; }
.u-legend.u-inline .u-series { margin-right: 1em; }
.u-legend.u-inline tbody { display: flex; flex-wrap: wrap; }
.u-legend .u-series > * { padding: 0; }
/* The step comes last, and only while the pointer is over a chart; so does the value of a chart's only curve. */
.u-legend .u-series:first-child { order: 1; }
.u-series:first-child:has(.u-value:empty), .single .u-series:has(.u-value:empty) { visibility: hidden; }
.u-series:first-child .u-marker, .single .u-marker { display: none; }
.u-legend .u-series th { color: var(--ink); font-weight: normal; }
.u-legend .u-value { font-variant-numeric: tabular-nums; margin-left: 0.4em; width: auto; }
.u-legend .u-marker { border-radius: 2px; height: 3px; width: 1.2em; }
.u-select { background: color-mix(in srgb, var(--ink) 10%, transparent); }
.u-cursor-x, .u-cursor-y { border-color: var(--faint) !important; }
`;

/**
 * \`drawCharts(charts, main)\`: a figure for each of the charts, { title, fromZero, labels, data }; \`colours\` may name a property for
 * each curve. Ticks are labelled here, as uPlot's own labels have three decimals at most; axes are as wide as their labels.
 */
export const chartScript = `
const property = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const names = { batch: '--batch', validation: '--validation' };
const font = '12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

/** As few digits as tell the ticks apart: 3e-4, 0.05, 2,500, 200k, 1.5M. */
function tickLabels(ticks) {
  const values = ticks.filter((tick) => tick != null);
  const largest = Math.max(...values.map(Math.abs));
  const gap = values.length > 1 ? values[1] - values[0] : largest || 1;
  // Rounded, as ticks carry the error of sums of gaps.
  if (largest > 0 && largest < 0.01) return ticks.map((tick) => exponential(Number((tick ?? 0).toPrecision(9))));
  const [, unit, suffix] = units.find(([from]) => largest >= from);
  const decimals = decimalsOf(gap / unit);
  const format = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  const label = (tick) => (tick / unit).toLocaleString('en', format) + suffix;
  return ticks.map((tick) => (tick == null ? '' : tick === 0 ? '0' : label(tick)));
}

/** From which number on, in what unit. */
const units = [[1e9, 1e9, 'B'], [1e6, 1e6, 'M'], [1e5, 1e3, 'k'], [0, 1, '']];

function decimalsOf(gap) {
  let decimals = 0;
  while (decimals < 9 && Math.abs(gap * 10 ** decimals - Math.round(gap * 10 ** decimals)) > 1e-6) decimals++;
  return decimals;
}

function exponential(value) {
  return value === 0 ? '0' : value.toExponential();
}

/** Four digits of the value under the pointer. */
function pointLabel(value) {
  if (value == null) return '';
  const isPlain = value === 0 || (Math.abs(value) >= 0.001 && Math.abs(value) < 1e15);
  return isPlain
    ? value.toLocaleString('en', Math.abs(value) < 1000 ? { maximumSignificantDigits: 4 } : { maximumFractionDigits: 0 })
    : value.toExponential(2);
}

function axisWidth(plot, labels, index, cycle) {
  const axis = plot.axes[index];
  if (cycle > 1) return axis._size;
  plot.ctx.font = axis.font[0];
  const widths = (labels ?? []).map((label) => plot.ctx.measureText(label).width / devicePixelRatio);
  return Math.ceil(Math.max(52, axis.ticks.size + axis.gap + 4 + Math.max(0, ...widths)));
}

function sizeOf(figure, isMain) {
  const width = figure.clientWidth;
  return { width, height: isMain ? Math.min(400, Math.max(260, Math.round(width * 0.4))) : 240 };
}

/** Draws the charts. \`update\` takes newer ones with the same titles and labels; \`remove\` takes them away. */
function drawCharts(charts, main) {
  let current = charts;
  const plots = charts.map((chart, place) => drawChart(chart, place, main, () => current));
  const resize = () => plots.forEach(({ figure, plot }, place) => plot.setSize(sizeOf(figure, place === 0)));
  const scheme = matchMedia('(prefers-color-scheme: dark)');
  const redraw = () => plots.forEach(({ plot }) => plot.redraw());
  addEventListener('resize', resize);
  scheme.addEventListener('change', redraw);
  return {
    update(newer) {
      current = newer;
      plots.forEach(({ plot }, place) => {
        // A part that is zoomed into stays as it is.
        const steps = plot.data[0];
        const { min, max } = plot.scales.x;
        const isWhole = min <= steps[0] && max >= steps.at(-1);
        plot.setData(newer[place].data, isWhole);
        if (!isWhole) plot.redraw();
      });
    },
    remove() {
      removeEventListener('resize', resize);
      scheme.removeEventListener('change', redraw);
      plots.forEach(({ figure, plot }) => (plot.destroy(), figure.remove()));
    },
  };
}

function drawChart({ title, fromZero, labels, colours, data }, place, main, allCharts) {
  const figure = main.appendChild(document.createElement('figure'));
  if (labels.length === 1) figure.classList.add('single');
  figure.appendChild(document.createElement('figcaption')).textContent = title;
  const colour = (index) => colours?.[index] ?? names[labels[index]] ?? '--train';
  const series = labels.map((label, index) => ({
    label,
    stroke: () => property(colour(index)),
    width: label === 'batch' ? 1 : 1.5,
    points: { fill: () => property('--page'), size: 5 },
    spanGaps: true,
    value: (plot, value, index, at) => (at == null ? '' : pointLabel(plot.data[index].slice(0, at + 1).findLast((one) => one != null))),
  }));
  const axis = { font, stroke: () => property('--faint'), grid: { stroke: () => property('--grid'), width: 1 } };
  axis.ticks = { ...axis.grid, size: 6 };
  const options = {
    ...sizeOf(figure, place === 0),
    scales: {
      // All charts have the same steps side by side; a part that is zoomed into stays as it is.
      x: { time: false, range: (plot, low, high) => stepRange(plot.data[0], low, high, allCharts()) },
      ...(fromZero ? { y: { range: (plot, low, high) => [Math.min(0, low), high > 0 ? 1.05 * high : 1] } } : {}),
    },
    axes: [
      { ...axis, label: 'step', labelFont: font, labelSize: 20, size: 30, space: 80, incrs: wholeSteps(), values: (plot, ticks) => tickLabels(ticks) },
      { ...axis, size: axisWidth, values: (plot, ticks) => tickLabels(ticks) },
    ],
    series: [{ label: 'step', value: (plot, step) => (step == null ? '' : step.toLocaleString('en')) }, ...series],
    cursor: { y: false, sync: { key: 'step' }, points: { fill: (plot, index) => property(colour(index - 1)) } },
    legend: { markers: { width: 0, fill: (plot, index) => 'var(' + colour(index - 1) + ')' } },
  };
  return { figure, plot: new uPlot(options, data, figure) };
}

function stepRange(steps, low, high, charts) {
  const all = charts.flatMap(({ data }) => [data[0][0], data[0].at(-1)]);
  const isWhole = low <= steps[0] && high >= steps.at(-1);
  const [from, to] = isWhole ? [Math.min(...all), Math.max(...all)] : [low, high];
  return from < to ? [from, to] : [from - 1, to + 1];
}

function wholeSteps() {
  return Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();
}
`;
