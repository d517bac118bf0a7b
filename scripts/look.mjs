#!/usr/bin/env node
// npm run look: metrics.html and the server's pages in a real Chromium. Draws pages of made-up runs in light and dark, wide and
// narrow, checks that no label is cut off or covers another, uses the server's pages as a person would, and leaves pictures.
// `npm test` checks the labels and the server without a browser.
import { existsSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { judge, recordTexts } from './look/judge.mjs';
import { lookAtServer } from './look/server.mjs';
import { inRoot, main, SetupError } from './steps.mjs';

const HELP = `Usage: npm run look -- [--chromium PATH] [--out DIRECTORY]

Checks metrics.html and the pages of torchbind serve in Chromium and leaves pictures in DIRECTORY (build/look). Chromium is looked for as chromium,
chromium-browser and google-chrome in PATH; on Debian, 'apt-get install chromium' installs it. The status is 1 if a check
fails, or Chromium is missing.
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
    problems.push(...(await lookAtServer(browser, values.out, runs().slice(0, 2).map(linesOf))));
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
