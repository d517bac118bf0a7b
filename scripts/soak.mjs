#!/usr/bin/env node
// Runs examples/server.mjs for a long time: clients connect, stream and leave at random while the model is trained. Prints a line
// every tenth of the time. The status is 1 if a stream failed or changed its weights, a model stayed in memory, or memory grew.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { inRoot, main } from './steps.mjs';

const SAMPLES = 200;
const MOST_GROWTH = 1.05;

const HELP = `npm run soak -- [--minutes 30] [--clients 16]

Streams from examples/server.mjs with clients that come and go, while it trains. Memory is measured 200 times; its median in the last
quarter of the time may be ${Math.round((MOST_GROWTH - 1) * 100)} % above that in the second. In the first quarter caches and the
allocator reach their size: use at least 10 minutes, on a machine that does nothing else.
`;

main(async (args) => {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: 'string', default: '30' },
      clients: { type: 'string', default: '16' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const root = mkdtempSync(path.join(tmpdir(), 'torchbind-soak-'));
  const server = spawn(process.execPath, ['examples/server.mjs', '--port', '0', '--root', root], {
    cwd: inRoot('.'),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [line] = await once(server.stdout.setEncoding('utf8'), 'data');
    return await soak(/http\S+/.exec(line)[0], Number(values.minutes), Number(values.clients));
  } finally {
    server.kill('SIGKILL');
    rmSync(root, { recursive: true, force: true });
  }
});

async function soak(address, minutes, clients) {
  const counts = { streams: 0, left: 0, pieces: 0, errors: 0, delay: 0 };
  const end = performance.now() + minutes * 60_000;
  const isOver = () => performance.now() > end;
  const running = Promise.all(Array.from({ length: clients }, () => client(address, counts, isOver)));
  const samples = [];
  for (let tenth = 1; !isOver();) {
    await sleep((minutes * 60_000) / SAMPLES);
    samples.push(await measure(address, counts));
    if (performance.now() < end - minutes * 6000 * (10 - tenth)) continue;
    tenth++;
    print(samples.at(-1), counts);
  }
  await running;
  return judge(samples, counts) ? 0 : 1;
}

/** Whether nothing failed and nothing grew. */
function judge(samples, { errors }) {
  const quarters = [0, 1, 2, 3].map((i) => samples.slice((i * samples.length) / 4, ((i + 1) * samples.length) / 4));
  const sizes = quarters.map((quarter) => median(quarter.map(({ rss }) => rss)));
  // In between, new weights are loaded and old ones are still in use.
  const [, before, , after] = quarters.map((quarter) => Math.min(...quarter.map(({ tensors }) => tensors)));
  const growth = sizes[3] / sizes[1];
  const isGood = errors === 0 && after <= before && growth <= MOST_GROWTH;
  process.stdout.write(
    `memory, median of each quarter: ${sizes.map(megabytes).join(', ')} MB, the last ${growth.toFixed(3)} of the second; ` +
      `tensors at least: ${before}, then ${after}; ${isGood ? 'good' : 'FAILED'}\n`,
  );
  return isGood;
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
const megabytes = (bytes) => (bytes / 1e6).toFixed(0);

/** Streams again and again, each time until its end or to a random place. Each stream has one step's weights, never older ones. */
async function client(address, counts, isOver) {
  let newest = 0;
  while (!isOver()) {
    const tokens = 1 + Math.floor(Math.random() * 300);
    const leaveAfter = Math.random() < 0.4 ? Math.floor(Math.random() * tokens) : Infinity;
    const prompt = 'The quick brown '.slice(0, Math.floor(Math.random() * 16));
    const controller = new AbortController();
    try {
      const response = await fetch(`${address}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ prompt, max_tokens: tokens, stream: true }),
        signal: controller.signal,
      });
      if (!response.ok) throw new Error(await response.text());
      let events = 0;
      let text = '';
      const steps = new Set();
      for await (const chunk of response.body) {
        const piece = Buffer.from(chunk).toString();
        text = (text + piece).slice(-400);
        events += piece.split('\n\n').length - 1;
        for (const [, step] of piece.matchAll(/torchbind-step-(\d+)"/g)) steps.add(Number(step));
        if (events > leaveAfter) break;
      }
      controller.abort();
      const [step = newest, ...others] = steps;
      if (others.length > 0 || step < newest) throw new Error(`weights of the steps ${[...steps]} after ${newest}`);
      newest = step;
      counts.pieces += events;
      counts.streams++;
      if (events > leaveAfter) counts.left++;
      else if (!text.includes('[DONE]')) throw new Error(`the stream ended with ${JSON.stringify(text)}`);
    } catch (error) {
      counts.errors++;
      process.stdout.write(`error: ${error.message}\n`);
    }
  }
}

async function measure(address, counts) {
  const began = performance.now();
  const { steps } = await (await fetch(`${address}/health`)).json();
  counts.delay = Math.max(counts.delay, performance.now() - began);
  const values = await (await fetch(`${address}/metrics`)).text();
  const valueOf = (name) => Number(new RegExp(`^${name} (.*)$`, 'm').exec(values)[1]);
  return {
    step: steps.shrew,
    tensors: valueOf('torchbind_tensors'),
    rss: valueOf('process_resident_memory_bytes'),
  };
}

function print({ step, tensors, rss }, counts) {
  const { streams, left, pieces, errors, delay } = counts;
  process.stdout.write(
    `step ${step}, ${streams} streams (${left} left early), ${pieces} pieces, ${errors} errors, ${tensors} tensors, ` +
      `${megabytes(rss)} MB, /health in ${delay.toFixed(1)} ms at most\n`,
  );
  counts.delay = 0;
}
