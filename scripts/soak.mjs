#!/usr/bin/env node
// Runs examples/server.mjs for a long time: clients connect, stream and leave at random while the model is trained. Prints a line
// every tenth of the time, and ends with status 1 where a stream failed, tensors were left or memory grew.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { inRoot, main } from './steps.mjs';

const HELP = `npm run soak -- [--minutes 30] [--clients 16]

Streams from examples/server.mjs with clients that come and go, while it trains.
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
  const counts = { streams: 0, left: 0, pieces: 0, errors: 0 };
  const end = performance.now() + minutes * 60_000;
  const isOver = () => performance.now() > end;
  const running = Promise.all(Array.from({ length: clients }, () => client(address, counts, isOver)));
  const reports = [];
  while (!isOver()) {
    await sleep(minutes * 6000);
    reports.push(await report(address, counts));
  }
  await running;
  await sleep(1000); // until the server has noticed who left last
  const last = await report(address, counts);
  // Caches and the allocator reach their size in the first half.
  const half = reports.slice(0, Math.ceil(reports.length / 2));
  const grown = last.rss / Math.max(...half.map(({ rss }) => rss));
  const left = last.tensors - reports[0].tensors;
  const isGood = counts.errors === 0 && grown < 1.1;
  process.stdout.write(
    `memory at the end: ${grown.toFixed(3)} of the most in the first half; tensors: ${left} more than in the first report; ${isGood ? 'good' : 'FAILED'}\n`,
  );
  return isGood ? 0 : 1;
}

/** Streams again and again, each time until its end or to a random place. */
async function client(address, counts, isOver) {
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
      for await (const chunk of response.body) {
        text = (text + Buffer.from(chunk)).slice(-400);
        events += Buffer.from(chunk).toString().split('\n\n').length - 1;
        if (events > leaveAfter) break;
      }
      controller.abort();
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

async function report(address, counts) {
  const began = performance.now();
  const { steps } = await (await fetch(`${address}/health`)).json();
  const delay = performance.now() - began;
  const values = await (await fetch(`${address}/metrics`)).text();
  const valueOf = (name) => Number(new RegExp(`^${name} (.*)$`, 'm').exec(values)[1]);
  const [tensors, rss] = ['torchbind_tensors', 'process_resident_memory_bytes'].map(valueOf);
  const { streams, left, pieces, errors } = counts;
  process.stdout.write(
    `step ${steps.shrew}, ${streams} streams (${left} left early), ${pieces} pieces, ${errors} errors, ${tensors} tensors, ` +
      `${(rss / 1e6).toFixed(0)} MB, /health in ${delay.toFixed(1)} ms\n`,
  );
  return { tensors, rss };
}
