// What the compute thread costs and what it saves: the same calls with `thread: 'worker'`, the default, and `thread: 'main'`.
//
//   node bench/compute-thread.mjs [--rounds 7] [--only fit-example,fit-384,generate,stream,seeded,health]
//
//   fit-example, fit-384        milliseconds of an update: 4/128/4 with batch 12 x 64, and 6/384/6 with batch 4 x 256
//   generate, stream, seeded    tokens per second of the 4/128/4 model
//   health                      eight HTTP streams of the 6/384/6 model: their tokens per second, and how long `/health` takes
//
// Rounds alternate between the threads in one process, so that the main thread has a pool of OpenMP threads of its own.
// Medians of the rounds, and of the ratios within a round, count.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CharTokenizer, GPT, manualSeed } from '../dist/index.mjs';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    only: { type: 'string' },
    serve: { type: 'string' }, // For the process of the server.
  },
});

// 65 characters, as the works of Shakespeare have.
const CHARACTERS = Array.from({ length: 65 }, (_, i) => String.fromCharCode(48 + i)).join('');
const TEXT = Array.from({ length: 20_000 }, (_, i) => CHARACTERS[(i * i + (i >> 3)) % 65]).join('');
const EXAMPLE = { nLayer: 4, nEmbd: 128, nHead: 4, blockSize: 64 };
const MIDDLE = { nLayer: 6, nEmbd: 384, nHead: 6, blockSize: 256 };

function newModel(sizes) {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(CHARACTERS);
  return new GPT({ vocabSize: 65, dropout: 0, ...sizes }, { tokenizer });
}

/** Milliseconds of an update. */
function training(sizes, batchSize, steps) {
  const model = newModel(sizes);
  return async (thread) => {
    const began = performance.now();
    await model.fit({ text: TEXT, batchSize, maxSteps: steps, evalInterval: 0, thread });
    return (performance.now() - began) / steps;
  };
}

/** Tokens per second. */
function generation(read) {
  const model = newModel(EXAMPLE);
  const tokens = 60; // with the prompt, no more than the window
  return async (thread) => {
    const began = performance.now();
    for (let i = 0; i < 5; i++) await read(model, { maxNewTokens: tokens, thread });
    return (5000 * tokens) / (performance.now() - began);
  };
}

async function drain(stream) {
  let length = 0;
  for await (const piece of stream) length += piece.length;
  return length;
}

const measures = {
  'fit-example': { unit: 'ms', make: () => training(EXAMPLE, 12, 30) },
  'fit-384': { unit: 'ms', make: () => training(MIDDLE, 4, 4) },
  generate: { unit: 'tokens/s', make: () => generation((model, rest) => model.generate('012', { topK: 1, ...rest })) },
  stream: { unit: 'tokens/s', make: () => generation((model, rest) => drain(model.stream('012', rest))) },
  seeded: { unit: 'tokens/s', make: () => generation((model, rest) => drain(model.stream('012', { seed: 1, ...rest }))) },
}; // prettier-ignore

const rounds = Number(options.rounds);
if (options.serve === undefined) await measureAll();
else serve(options.serve);

async function measureAll() {
  const only = options.only?.split(',') ?? [...Object.keys(measures), 'health'];
  console.log(
    `${os.cpus()[0]?.model}, ${os.availableParallelism()} CPUs, Node ${process.version}; medians of ${rounds} rounds\n`,
  );
  console.log('| | unit | main thread | compute thread | ratio |\n|---|---|---|---|---|');
  for (const name of only.filter((each) => each !== 'health')) {
    const run = measures[name].make();
    for (const thread of ['main', 'worker']) await run(thread);
    row(name, measures[name].unit, await alternate(run));
  }
  if (only.includes('health')) await measureHealth();
}

/** Figures of the rounds on each thread. */
async function alternate(run) {
  const figures = { main: [], worker: [] };
  for (let round = 0; round < rounds; round++)
    for (const thread of round % 2 === 0 ? ['main', 'worker'] : ['worker', 'main'])
      figures[thread].push(await run(thread));
  return figures;
}

function row(name, unit, { main, worker }) {
  const ratio = median(worker.map((figure, round) => figure / main[round]));
  console.log(
    `| ${name} | ${unit} | ${median(main).toFixed(1)} | ${median(worker).toFixed(1)} | ${ratio.toFixed(2)} |`,
  );
}

function median(values) {
  return percentile(values, 0.5);
}

function percentile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

/** Streams over HTTP, and /health. */
function serve(thread) {
  const model = newModel(MIDDLE);
  const server = http.createServer(async (request, response) => {
    if (request.url === '/health') return void response.end('{}');
    for await (const piece of model.stream('012', { maxNewTokens: 60, thread })) response.write(piece);
    response.end();
  });
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
}

async function measureHealth() {
  const figures = {};
  for (const thread of ['main', 'worker']) {
    const self = fileURLToPath(import.meta.url);
    const server = spawn(process.execPath, [self, '--serve', thread], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [port] = await once(server.stdout.setEncoding('utf8'), 'data');
    try {
      figures[thread] = await loaded(Number(port));
    } finally {
      server.kill();
    }
  }
  for (const share of [0.5, 0.99]) {
    const [main, worker] = ['main', 'worker'].map((thread) => percentile(figures[thread].delays, share));
    row(`/health, ${share === 0.5 ? 'median' : 'p99'}`, 'ms', { main: [main], worker: [worker] });
  }
  row('eight HTTP streams', 'tokens/s', { main: figures.main.speeds, worker: figures.worker.speeds });
}

/** Eight streams at a time, one set after the other, and a look at /health every 5 ms meanwhile. */
async function loaded(port) {
  await get(port, '/stream'); // makes what the first request makes
  const delays = [];
  let isOver = false;
  const looking = (async () => {
    while (!isOver) {
      const began = performance.now();
      await get(port, '/health');
      delays.push(performance.now() - began);
      await sleep(5);
    }
  })();
  const speeds = [];
  for (let round = 0; round < rounds; round++) {
    const began = performance.now();
    await Promise.all(Array.from({ length: 8 }, () => get(port, '/stream')));
    speeds.push((8 * 60_000) / (performance.now() - began));
  }
  isOver = true;
  await looking;
  return { delays, speeds };
}

function get(port, path) {
  return new Promise((resolve, reject) => {
    http.get({ port, path }, (response) => response.resume().on('end', resolve)).on('error', reject);
  });
}
