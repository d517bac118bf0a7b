import { readFileSync } from 'node:fs';
import path from 'node:path';
import { replaceContent } from '../../formats/files/write-sync';
import { drawnCharts, pointsOf } from './charts';
import type { MetricsLine } from './line';
import { chartScript, pageStyle } from './page-script';

/** Writes one page with the curves; it needs no network and no other file. */
export function writePage(file: string, name: string, lines: readonly MetricsLine[]): true {
  const drawn = drawnCharts((key) => pointsOf(key, lines));
  replaceContent(file, page(name, summary(lines), JSON.stringify(drawn)));
  return true;
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
  const { script, style } = uplot();
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
${chartScript}drawCharts(charts, document.querySelector('main'));
</script>
</html>
`;
}

/** The texts of the library that draws. */
export function uplot(): { script: string; style: string } {
  const directory = path.dirname(require.resolve('uplot'));
  return {
    script: readFileSync(path.join(directory, 'uPlot.iife.min.js'), 'utf8'),
    style: readFileSync(path.join(directory, 'uPlot.min.css'), 'utf8'),
  };
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
