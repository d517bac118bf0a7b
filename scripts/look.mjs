#!/usr/bin/env node
/* global document, innerWidth, CanvasRenderingContext2D -- of the page, in which two functions run */
// npm run look: metrics.html in a real Chromium. Draws pages of made-up runs in light and dark, wide and narrow, checks that
// no label is cut off or covers another, and leaves a picture of each. `npm test` checks the labels without a browser.
import { existsSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { inRoot, main, SetupError } from './steps.mjs';

const HELP = `Usage: npm run look -- [--chromium PATH] [--out DIRECTORY]

Checks metrics.html in Chromium and leaves pictures in DIRECTORY (build/look). Chromium is looked for as chromium,
chromium-browser and google-chrome in PATH; on Debian, 'apt-get install chromium' installs it. The status is 1 if a check
fails, or there is no Chromium.
`;

const browsers = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

main(async () => {
  const options = {
    chromium: { type: 'string' },
    out: { type: 'string', default: inRoot('build/look') },
    help: { type: 'boolean', short: 'h', default: false },
  };
  const { values } = parseArgs({ options });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const executablePath = values.chromium ?? find(browsers);
  if (executablePath === undefined) throw new SetupError(`No Chromium in PATH.\n\n${HELP}`);
  mkdirSync(values.out, { recursive: true });
  const { chromium } = await import('playwright-core');
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  try {
    const problems = [];
    for (const run of runs()) problems.push(...(await look(browser, run, values.out)));
    for (const problem of problems) process.stderr.write(`${problem}\n`);
    process.stdout.write(`${problems.length} problems; pictures are in ${values.out}\n`);
    return problems.length === 0 ? 0 : 1;
  } finally {
    await browser.close();
  }
});

function find(names) {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  return names.flatMap((name) => folders.map((folder) => path.join(folder, name))).find((file) => existsSync(file));
}

/** Runs of different length, rate, speed and size: they show all forms of labels. */
function runs() {
  return [
    {
      name: 'shakespeare-char',
      steps: 2000,
      evalInterval: 100,
      rate: 1e-3,
      warmup: 100,
      speed: 184_000,
      memory: 1.4e9,
    },
    { name: 'constant-rate', steps: 45, evalInterval: 15, rate: 3e-4, speed: 1155, memory: 240e6 },
    {
      name: 'long <run> & large',
      steps: 600_000,
      evalInterval: 5000,
      rate: 6e-5,
      warmup: 2000,
      speed: 12.4e6,
      memory: 81e9,
    },
    { name: 'one-update', steps: 1, evalInterval: 1, rate: 2.5e-5, speed: 7, memory: 90e6 },
  ];
}

function linesOf({ steps, evalInterval, rate, warmup = 0, speed, memory }) {
  let random = 1;
  const noise = () => (random = (random * 48271) % 2147483647) / 2147483647 - 0.5;
  const lines = [];
  const time = Date.UTC(2026, 10, 21) / 1000;
  const lossAt = (step) => 1.4 + 2.9 * Math.exp(-step / (0.12 * steps + 1));
  const every = Math.max(1, Math.floor(steps / 20_000));
  for (let step = 0; step <= steps; step++) {
    const line = { step, time: time + step };
    if (step > 0 && step % every === 0) {
      const decay = warmup === 0 ? 1 : step < warmup ? step / warmup : (1 + Math.cos((Math.PI * step) / steps)) / 2;
      lines.push({
        type: 'step',
        ...line,
        loss: lossAt(step) + 0.3 * noise(),
        learning_rate: rate * decay,
        grad_norm: 0.8 + 0.4 * noise() + (step === Math.floor(steps / 3) ? 9 : 0),
        tokens_per_second: Math.round(speed * (1 + 0.2 * noise())),
        tokens_seen: step * 2048,
        memory: memory * (1 + 0.02 * noise()),
      });
    }
    if (step % evalInterval === 0 || step === steps) {
      const loss = lossAt(step);
      lines.push({ type: 'eval', ...line, train_loss: loss, val_loss: loss + (0.25 * step) / steps });
    }
  }
  return lines;
}

/** Pictures of a run's page, and what is wrong with it. */
async function look(browser, run, out) {
  createRequire(import.meta.url)('./ts-require.cjs');
  const { writePage } = createRequire(import.meta.url)('../lib/train/metrics/page.ts');
  const file = path.join(out, `${run.name.replace(/\W+/g, '-')}.html`);
  writePage(file, run.name, linesOf(run));
  const problems = [];
  for (const colorScheme of ['light', 'dark'])
    for (const width of [1440, 900, 390]) {
      const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme, deviceScaleFactor: 2 });
      page.on('pageerror', (error) => problems.push(`${run.name}: ${error.message}`));
      await page.addInitScript(recordTexts);
      await page.goto(pathToFileURL(file).href);
      await page.waitForTimeout(100);
      const found = await page.evaluate(judge);
      problems.push(...found.map((problem) => `${run.name}, ${width} pixels, ${colorScheme}: ${problem}`));
      const picture = file.replace(/\.html$/, `-${width}-${colorScheme}.png`);
      await page.screenshot({ path: picture, fullPage: true });
      await page.close();
    }
  return problems;
}

/** In the page: notes the place of each text on a canvas. */
function recordTexts() {
  const { fillText, clearRect } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.clearRect = function (...args) {
    this.canvas.texts = [];
    return clearRect.apply(this, args);
  };
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    const {
      actualBoundingBoxLeft: left,
      actualBoundingBoxRight: right,
      actualBoundingBoxAscent: up,
      actualBoundingBoxDescent: down,
    } = this.measureText(text);
    const matrix = this.getTransform();
    const corners = [
      [x - left, y - up],
      [x + right, y + down],
    ].map(([a, b]) => matrix.transformPoint({ x: a, y: b }));
    const [a, b] = corners;
    this.canvas.texts ??= [];
    this.canvas.texts.push({
      text,
      x,
      y,
      left: Math.min(a.x, b.x),
      right: Math.max(a.x, b.x),
      top: Math.min(a.y, b.y),
      bottom: Math.max(a.y, b.y),
    });
    return fillText.call(this, text, x, y);
  };
}

/** In the page: labels that are cut off, cover one another or are equal; a page that is wider than the window. */
function judge() {
  const problems = [];
  const units = { k: 1e3, M: 1e6, B: 1e9 };
  const number = (label) => Number(label.replace(/[,kMB]/g, '')) * (units[label.at(-1)] ?? 1);
  const overflow = document.documentElement.scrollWidth - innerWidth;
  if (overflow > 0) problems.push(`the page is ${overflow} pixels wider than the window`);
  const canvases = [...document.querySelectorAll('canvas')];
  if (canvases.length !== document.querySelectorAll('figure').length) problems.push('a figure has no canvas');
  for (const canvas of canvases) {
    const title = canvas.closest('figure').querySelector('figcaption').textContent;
    const texts = (canvas.texts ?? []).filter(({ text }) => text.trim() !== '');
    if (!texts.some(({ text }) => text === 'step')) problems.push(`${title}: no label of the x axis`);
    if (texts.length < 4) problems.push(`${title}: only the labels ${texts.map(({ text }) => text).join(' ')}`);
    for (const [axis, along] of [
      ['x', 'y'],
      ['y', 'x'],
    ]) {
      const places = new Map();
      for (const { text, [axis]: at, [along]: line } of texts.filter(({ text }) => text !== 'step'))
        places.set(line, [...(places.get(line) ?? []), [at, number(text)]]);
      for (const ticks of [...places.values()].filter(({ length }) => length > 2)) {
        const slopes = ticks.slice(1).map(([at, value], i) => (value - ticks[i][1]) / (at - ticks[i][0]));
        const [least, most] = [Math.min(...slopes.map(Math.abs)), Math.max(...slopes.map(Math.abs))];
        // Places are rounded to pixels.
        if (!(least > 0.9 * most))
          problems.push(`${title}: the labels ${ticks.map(([, value]) => value)} are not evenly apart`);
      }
    }
    for (const [i, one] of texts.entries()) {
      const isCut = one.left < 0 || one.top < 0 || one.right > canvas.width || one.bottom > canvas.height;
      if (isCut) problems.push(`${title}: "${one.text}" is cut off`);
      for (const other of texts.slice(i + 1)) {
        const isApart =
          one.right < other.left || other.right < one.left || one.bottom < other.top || other.bottom < one.top;
        if (!isApart) problems.push(`${title}: "${one.text}" and "${other.text}" cover one another`);
        const isSameAxis = Math.abs(one.right - other.right) < 1 || Math.abs(one.bottom - other.bottom) < 1;
        if (isSameAxis && one.text === other.text) problems.push(`${title}: two ticks are labelled "${one.text}"`);
      }
    }
  }
  return problems;
}
