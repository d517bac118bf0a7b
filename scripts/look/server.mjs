/* global document, innerWidth -- of the page, in which some functions run */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inRoot } from '../steps.mjs';
import { judge, recordTexts } from './judge.mjs';

const KEY = 'secret';
const names = ['shakespeare-char', 'constant-rate'];

/**
 * Uses the pages of a server as a person would: generates with two checkpoints, watches curves grow, compares runs, rolls back.
 *
 * @param logs lines of `metrics.jsonl`, of each run
 * @returns what is wrong
 */
export async function lookAtServer(browser, out, logs) {
  const { createServer } = createRequire(import.meta.url)(inRoot('dist/index.js'));
  const root = mkdtempSync(path.join(tmpdir(), 'torchbind-look-'));
  const problems = [];
  try {
    for (const [i, name] of names.entries()) await makeRun(root, name, logs[i]);
    const server = await createServer(path.join(root, names[0]), { root, apiKeys: KEY, limits: { maxTokens: 1e6 } });
    try {
      const address = await server.listen({ port: 0 });
      for (const colorScheme of ['light', 'dark']) {
        for (const width of [1280, 390]) {
          const at = { browser, address, out, colorScheme, width, problems };
          await withPage(at, 'playground', tryModels);
          await withPage(at, 'runs', (page) => watchRuns(page, address, path.join(root, names[0], 'metrics.jsonl')));
          await withPage(at, 'compared', compareRuns);
        }
      }
      await withPage({ browser, address, out, colorScheme: 'light', width: 1280, problems }, 'rolled-back', rollBack);
    } finally {
      await server.close({ timeout: 0 });
    }
  } finally {
    rmSync(root, { recursive: true });
  }
  return problems;
}

/** A model with three bundles, and a log. */
async function makeRun(root, name, lines) {
  const { CharTokenizer, CheckpointManager, GPT, noGrad } = createRequire(import.meta.url)(inRoot('dist/index.js'));
  const tokenizer = new CharTokenizer([...'\n ,.abcdefghijklmnopqrstuvwxyz']);
  const gpt = new GPT({ vocabSize: 30, blockSize: 64, nLayer: 2, nHead: 4, nEmbd: 64, dropout: 0 }, { tokenizer });
  const manager = new CheckpointManager(name, { root, keep: { last: 3 } });
  const optimizer = gpt.makeOptimizer();
  const losses = { 500: 1.9, 1000: 1.61, 2000: 1.65 };
  for (const [step, loss] of Object.entries(losses)) {
    await manager.saveState({ model: gpt, optimizer, step: Number(step), metrics: { val_loss: loss } });
    noGrad(() => gpt.lmHead.weight.mul_(3)); // so that each checkpoint writes another text
  }
  writeFileSync(manager.path('metrics.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  gpt.dispose();
}

/** Opens a page, runs `use` on it, takes a picture and notes errors and what was loaded from elsewhere. */
async function withPage({ browser, address, out, colorScheme, width, problems }, name, use) {
  const where = `${name}, ${width} pixels, ${colorScheme}`;
  const note = (text) => problems.push(`${where}: ${text}`);
  const context = { viewport: { width, height: 900 }, colorScheme, deviceScaleFactor: 2, hasTouch: width < 500 };
  const page = await browser.newPage(context);
  page.setDefaultTimeout(20_000);
  page.on('pageerror', (error) => note(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') note(message.text()); // what the content security policy refuses, too
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith('data:')) note(`loads ${request.url()}`);
  });
  page.on('dialog', (dialog) => void dialog.accept());
  await page.addInitScript(recordTexts);
  await page.addInitScript((key) => globalThis.sessionStorage.setItem('torchbind-key', key), KEY);
  try {
    for (const problem of await use(page, address)) note(problem);
    for (const problem of await page.evaluate(judgePage)) note(problem);
    await page.screenshot({ path: path.join(out, `server-${name}-${width}-${colorScheme}.png`), fullPage: true });
  } catch (error) {
    note(error.message);
    await page.screenshot({
      path: path.join(out, `server-${name}-${width}-${colorScheme}-failed.png`),
      fullPage: true,
    });
  } finally {
    await page.close();
  }
}

async function tryModels(page, address) {
  await page.goto(`${address}/?model=${names[0]}&model=${names[0]}@1000`);
  await page.locator('#b option[value="shakespeare-char@1000"]').waitFor({ state: 'attached' });
  await page.fill('#prompt', 'to be or not to be');
  await page.fill('#seed', '1');
  // Long ones, and the button that stops them.
  await page.fill('#max_tokens', '1000000');
  await page.click('button.main');
  await page.waitForFunction(
    () => [...document.querySelectorAll('.text')].filter((text) => text.textContent.length > 5).length === 2,
  );
  await page.click('#stop-button');
  await page.waitForFunction(() =>
    [...document.querySelectorAll('.outputs .message')].every((node) => node.textContent === 'stopped'),
  );
  await page.fill('#max_tokens', '150');
  await page.click('button.main');
  await page.waitForFunction(
    () =>
      [...document.querySelectorAll('.outputs .message')].filter((node) => node.textContent.includes('ended by length'))
        .length === 2,
  );
  const texts = await page.locator('.text').allTextContents();
  const facts = await page.locator('.outputs .message').allTextContents();
  // The same seed, up to a stop text.
  await page.fill('#stop', texts[0].slice(20, 22));
  await page.click('button.main');
  await page.waitForFunction(() => document.querySelector('.outputs .message')?.textContent.includes('ended by stop'));
  const stopped = await page.locator('.text').first().textContent();
  await page.waitForFunction(() => document.querySelector('#stop-button').disabled);
  return [
    ...(texts.some((text) => text.length < 100) ? [`expected 150 characters, got ${texts}`] : []),
    ...(texts[0] === texts[1] ? [`both checkpoints wrote ${texts[0]}`] : []),
    ...(stopped === texts[0].slice(0, texts[0].indexOf(texts[0].slice(20, 22))) ? [] : [`stopped with ${stopped}`]),
    ...(/^step 2000.*150 tokens/.test(facts[0]) && /^step 1000/.test(facts[1]) ? [] : [`unexpected ${facts}`]),
  ];
}

/** One run: its charts, and points that come while somebody looks. */
async function watchRuns(page, address, log) {
  await page.goto(`${address}/runs?run=${names[0]}`);
  await page.locator('figure canvas').first().waitFor();
  const problems = await page.evaluate(judge);
  const asked = page.waitForResponse(
    (response) => response.url().includes('/charts?version=') && response.status() === 200,
  );
  const last = JSON.parse(readFileSync(log, 'utf8').trimEnd().split('\n').at(-1)).step;
  appendFileSync(log, `${JSON.stringify({ type: 'step', step: last + 100, time: 0, loss: 1.4 })}\n`);
  const { charts } = await (await asked).json();
  const steps = charts[0].data[0];
  return [...problems, ...(steps.at(-1) === last + 100 ? [] : [`the last step is ${steps.at(-1)}`])];
}

/** Two runs in the same charts. */
async function compareRuns(page, address) {
  await page.goto(`${address}/runs?run=${names[0]}`);
  await page.getByLabel(names[1]).check();
  await page.waitForFunction(
    (labels) => labels.every((label) => document.querySelector('figure .u-legend')?.textContent.includes(label)),
    names,
  );
  return page.evaluate(judge);
}

async function rollBack(page, address) {
  await page.goto(`${address}/runs?run=${names[0]}`);
  const row = page.locator('tr', { hasText: '1,000' });
  await row.getByText('compare').click();
  await page.locator('#compared', { hasText: 'tensors equal' }).waitFor();
  await row.getByText('roll back').click();
  await page.locator('#message', { hasText: 'is at step 1000 again' }).waitFor();
  const steps = await page.locator('#steps tr').count();
  return steps === 2 ? [] : [`expected two bundles, got ${steps}`];
}

/** In the page: what is wider than the window, and what a finger cannot hit. */
function judgePage() {
  const problems = [];
  const overflow = document.documentElement.scrollWidth - innerWidth;
  if (overflow > 0) problems.push(`the page is ${overflow} pixels wider than the window`);
  for (const node of document.querySelectorAll('button, input, select, textarea, nav a')) {
    const { width, height } = (node.closest('label') ?? node).getBoundingClientRect();
    if (height > 0 && (height < 32 || width < 24))
      problems.push(`${node.id || node.textContent} is ${width} x ${height} pixels`);
  }
  return problems;
}
