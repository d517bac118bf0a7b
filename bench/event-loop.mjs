// How long operations that return promises hold the event loop: node bench/event-loop.mjs path/to/text.txt [options]
//
// Each operation runs in a process of its own, so that what it sets up at its first call is measured too. There, before
// each round, an idle wait of about the same length is measured: the control.
//   p99, max   delays of the event loop while the operation runs (`monitorEventLoopDelay`, resolution 1 ms), the worst round's
//   goal       p99 at most 20 ms, or 5 ms above that of the control
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { operations } from './event-loop/operations.mjs';

const HELP = `Usage: node bench/event-loop.mjs TEXT [options]

TEXT is a file of about a megabyte of text, for the operations that encode one.

  --only NAMES   comma-separated operations: ${operations.map(({ name }) => name).join(', ')}
  --rounds N     rounds of each operation (default 3)
  --json         print one JSON document and no table
`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
    // For the process of one operation.
    measure: { type: 'string' },
    directory: { type: 'string' },
  },
});
const [text] = positionals;
if (options.help || text === undefined) {
  process.stdout.write(HELP);
} else if (options.measure !== undefined) {
  const operation = operations.find(({ name }) => name === options.measure);
  process.stdout.write(JSON.stringify(await measure(operation)));
} else {
  report(measureAll());
}

/** Every selected operation, each in a process of its own. */
function measureAll() {
  const selected = options.only?.split(',');
  const results = [];
  for (const { name } of operations) {
    if (selected !== undefined && !selected.includes(name)) continue;
    const directory = mkdtempSync(path.join(os.tmpdir(), 'torchbind-event-loop-'));
    const self = fileURLToPath(import.meta.url);
    const flags = ['--measure', name, '--directory', directory, '--rounds', options.rounds];
    const child = spawnSync(process.execPath, [self, text, ...flags], { stdio: ['ignore', 'pipe', 'inherit'] });
    rmSync(directory, { recursive: true, force: true });
    if (child.status !== 0) throw new Error(`${name} failed with status ${child.status ?? child.signal}`);
    results.push({ name, ...JSON.parse(child.stdout) });
  }
  return results;
}

async function measure({ prepare, run }) {
  const prepared = await prepare?.({ directory: options.directory, text });
  const rounds = [];
  let length = 500;
  for (let round = 0; round < Number(options.rounds); round++) {
    const control = await monitored(() => wait(length));
    const operation = await monitored(() => run(prepared));
    rounds.push({ control, operation });
    length = Math.min(5000, Math.max(500, operation.time));
    await operation.value?.();
  }
  const worst = (which, figure) => Math.max(...rounds.map((round) => round[which][figure]));
  const [operation, control] = ['operation', 'control'].map((which) => ({
    p99: worst(which, 'p99'),
    max: worst(which, 'max'),
  }));
  const times = rounds.map((round) => round.operation.time).sort((a, b) => a - b);
  return {
    time: times[times.length >> 1],
    operation,
    control,
    isFine: operation.p99 <= Math.max(20, control.p99 + 5),
  };
}

/** How long an action takes, what it gives, and the delays of the event loop meanwhile. */
async function monitored(action) {
  const monitor = monitorEventLoopDelay({ resolution: 1 });
  monitor.enable();
  await wait(5);
  monitor.reset();
  const began = performance.now();
  const value = await action();
  const time = performance.now() - began;
  await wait(5); // What held the loop last is recorded when the monitor's timer runs.
  monitor.disable();
  return { value, time, p99: monitor.percentile(99) / 1e6, max: monitor.max / 1e6 };
}

function report(results) {
  const machine = { cpu: os.cpus()[0]?.model, cpus: os.availableParallelism(), node: process.version };
  if (options.json) {
    console.log(JSON.stringify({ machine, rounds: Number(options.rounds), results }, null, 2));
    return;
  }
  console.log(`${machine.cpu}, ${machine.cpus} CPUs, Node ${machine.node}; ${options.rounds} rounds; milliseconds\n`);
  const rows = results.map(({ name, time, operation, control, isFine }) =>
    [name, ...[time, operation.p99, operation.max, control.p99, control.max].map(figure), isFine ? 'yes' : 'no'],
  ); // prettier-ignore
  const table = [['operation', 'takes', 'p99', 'max', 'control p99', 'control max', 'goal met'], ...rows];
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  const [header, ...body] = table.map(line);
  console.log([header, line(widths.map((width) => '-'.repeat(width))), ...body].join('\n'));
}

function figure(value) {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
