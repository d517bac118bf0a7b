// Eight streams of one model at the same time against one stream, and against a batch of eight in Hugging Face's transformers
// where the Python of the tests has it: a model of GPT-2's shape (124 M parameters, random weights), greedy.
//
//   node bench/batching.mjs [--rounds 5] [--tokens 32] [--streams 8] [--threads N] [--dtypes float32,bfloat16]
//
// Rounds alternate between the sides; medians of the rounds, and of the ratios within a round, count. Each is given by the
// clock and by the processor's time: on a machine with other work, take the latter, with --threads 1.
import os from 'node:os';
import { parseArgs } from 'node:util';
import { Partner } from './partner.mjs';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '32' },
    streams: { type: 'string', default: '8' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    dtypes: { type: 'string', default: 'float32,bfloat16' },
  },
});
const [rounds, tokens, streams] = [options.rounds, options.tokens, options.streams].map(Number);
process.env.OMP_NUM_THREADS = options.threads; // Read by libtorch when it starts its thread pool, here and in Python.
const { GPT, manualSeed } = await import('../dist/index.js');

const PROMPT = 16;
const shape = { vocabSize: 50257, blockSize: 1024, nLayer: 12, nHead: 12, nEmbd: 768 };

const partner = await Partner.start('batching.py');
try {
  const { transformers } = await partner.ask({ work: 'describe', threads: Number(options.threads) });
  const other = transformers === null ? 'no transformers here' : `transformers ${transformers}`;
  console.log(
    `${os.cpus()[0]?.model}, ${options.threads} thread(s), Node ${process.version}, ${other}; ` +
      `${tokens} tokens after ${PROMPT}, medians of ${rounds} rounds, tokens per second\n`,
  );
  console.log(`| | one stream | ${streams} streams | ratio | transformers, batch of ${streams} | ratio |`);
  console.log('|---|---|---|---|---|---|');
  for (const dtype of options.dtypes.split(',')) await compare(dtype, transformers !== null);
} finally {
  await partner.stop();
}

async function compare(dtype, hasPython) {
  manualSeed(1);
  const gpt = new GPT(shape).to(dtype);
  if (hasPython) await partner.ask({ work: 'make', dtype, ...shape });
  const speeds = { one: [], many: [], python: [] };
  for (let round = -1; round < rounds; round++) {
    const one = await generate(gpt, 1);
    const many = await generate(gpt, streams);
    const python = hasPython ? await partner.ask({ work: 'generate', prompts: prompts(streams), tokens }) : undefined;
    if (round < 0) continue;
    speeds.one.push(speed(one, 1));
    speeds.many.push(speed(many, streams));
    if (python !== undefined) speeds.python.push(speed(python, streams));
  }
  gpt.dispose();
  for (const [key, text] of Object.entries({ clock: 'clock', cpu: 'processor' })) {
    const [one, many, python] = [speeds.one, speeds.many, speeds.python].map((list) => list.map((each) => each[key]));
    const figures = [figure(one), figure(many), ratio(many, one), figure(python), ratio(many, python)];
    console.log(`| ${dtype}, ${text} | ${figures.join(' | ')} |`);
  }
}

/** Seconds that `count` streams take together. */
async function generate(gpt, count) {
  const [began, used] = [performance.now(), process.cpuUsage()];
  await Promise.all(
    prompts(count).map(async (prompt) => {
      let length = 0;
      for await (const token of gpt.generateTokens(prompt, { greedy: true, maxNewTokens: tokens }))
        length += token >= 0;
      if (length !== tokens) throw new Error(`${length} tokens came, not ${tokens}`);
    }),
  );
  const { user, system } = process.cpuUsage(used);
  return { clock: (performance.now() - began) / 1e3, cpu: (user + system) / 1e6 };
}

function prompts(count) {
  return Array.from({ length: count }, (_, i) => Array.from({ length: PROMPT }, (_, j) => (i * 1009 + j * 31) % 50257));
}

function speed({ clock, cpu }, count) {
  return { clock: (count * tokens) / clock, cpu: (count * tokens) / cpu };
}

function figure(values) {
  return values.length === 0 ? '' : median(values).toFixed(1);
}

function ratio(values, others) {
  return others.length === 0 ? '' : median(values.map((value, i) => value / others[i])).toFixed(2);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
