// Node against Python PyTorch, side by side in one run: `npm run bench`, or `node bench/run.mjs --help`.
//
// Rounds alternate between the sides, so that a machine that slows down or speeds up does so for both. Medians count; for
// calls of less than a microsecond or two the tenth percentile, because whatever interrupts them only adds.
// Both sides start from the same seed and must agree on the first loss and on every generated token.
import os from 'node:os';
import { parseArgs } from 'node:util';
import { Partner } from './partner.mjs';
import { printTable } from './table.mjs';
import { growth, workloads } from './workloads.mjs';

const HELP = `Usage: npm run bench -- [options]

Compares torchbind with Python PyTorch on this machine.

  --only NAMES     comma-separated workloads: ${workloads.map((workload) => workload.name).join(', ')}
  --growth         instead: steps and generation around a model of 6 layers and 384 channels, of which one thing varies at a
                   time; --threads 1 for one thread
  --rounds N       rounds of every side (default 7)
  --threads N      CPU threads of both sides (default: the number of CPUs)
  --json           print one JSON document and no table
  --help           this text

Python runs each training and generation workload twice: "eager" is the model of examples/pytorch with its loop over
heads, "fused" the same function with one qkv projection, scaled_dot_product_attention, fused AdamW and a
key-value cache. The ratio is against the faster of the two; below 1 means that Node is faster.
`;

/** Milliseconds for each side before anything is timed: V8 compiles what it runs often. */
const WARM_UP = 2000;

const options = parseOptions();
if (options.help) {
  process.stdout.write(HELP);
} else {
  await main();
}

async function main() {
  // Read by libtorch when it starts its thread pool, in this process and in Python.
  process.env.OMP_NUM_THREADS = String(options.threads);
  const partner = await Partner.start();
  try {
    const python = await partner.ask({ workload: 'describe', threads: options.threads });
    const results = [];
    for (const workload of options.selected) {
      progress(`${workload.name} ...`);
      results.push(await compare(workload, partner));
    }
    progress('');
    report(describeMachine(python), results);
  } finally {
    await partner.stop();
  }
}

/** Runs one workload on every side, round by round. */
async function compare(workload, partner) {
  const sides = [...workload.node, ...workload.python].map((side) => ({ ...side, times: [], check: undefined }));
  const run = (side) => (side.run ? side.run() : partner.ask(side.request));
  for (const side of sides) {
    const began = performance.now();
    do ({ check: side.check } = await run(side));
    while (performance.now() - began < WARM_UP);
  }
  for (let round = 0; round < options.rounds; round++)
    for (const side of sides) side.times.push(...(await run(side)).times);
  requireAgreement(workload, sides);
  return {
    name: workload.name,
    description: workload.description,
    unit: workload.unit,
    higherIsBetter: workload.higherIsBetter ?? false,
    sides: Object.fromEntries(
      sides.map((side) => [side.label, workload.measure(quantile(side.times, workload.quantile ?? 0.5))]),
    ),
  };
}

function requireAgreement(workload, sides) {
  for (const side of sides.slice(1)) {
    if (!workload.agree(sides[0].check, side.check)) {
      throw new Error(
        `${workload.name}: ${sides[0].label} and ${side.label} computed different things ` +
          `(${JSON.stringify(sides[0].check)} and ${JSON.stringify(side.check)}), so their times cannot be compared.`,
      );
    }
  }
}

function quantile(values, part) {
  const sorted = [...values].sort((a, b) => a - b);
  const position = part * (sorted.length - 1);
  const below = Math.floor(position);
  return sorted[below] + (position - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

function describeMachine(python) {
  return {
    cpu: os.cpus()[0]?.model ?? 'unknown CPU',
    cpus: os.availableParallelism(),
    threads: options.threads,
    platform: `${os.platform()} ${os.arch()}`,
    node: process.version,
    python: python.python,
    torch: python.torch,
    rounds: options.rounds,
  };
}

function report(machine, results) {
  if (options.json) process.stdout.write(`${JSON.stringify({ machine, results }, null, 2)}\n`);
  else printTable(machine, results);
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function parseOptions() {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: 'string' },
        growth: { type: 'boolean', default: false },
        rounds: { type: 'string', default: '7' },
        threads: { type: 'string', default: String(os.availableParallelism()) },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    return {
      ...values,
      rounds: positiveInteger(values.rounds, '--rounds'),
      threads: positiveInteger(values.threads, '--threads'),
      selected: select(values.growth ? growth : workloads, values.only),
    };
  } catch (error) {
    process.stderr.write(`${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

function positiveInteger(text, name) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} takes a positive integer, not '${text}'.`);
  return value;
}

function select(from, names) {
  if (names === undefined) return from;
  return names.split(',').map((name) => {
    const found = from.find((workload) => workload.name === name.trim());
    if (found === undefined) throw new Error(`No workload '${name}'.`);
    return found;
  });
}
