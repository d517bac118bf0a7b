#!/usr/bin/env node
// npm run fuzz: random calls through every way into the library.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { endProcesses, endWorkers, EXITS } from '../test/fuzz/lifecycle.mjs';
import { fuzz } from '../test/fuzz/run.mjs';
import { sequences, shrink } from '../test/fuzz/sequences/run.mjs';
import { inRoot, main, say, SetupError } from './steps.mjs';

const HELP = `Usage: npm run fuzz -- [options]

Makes random calls through every way into the library, each from the seed and its number alone, in processes of their
own, and prints a line of JSON for every crash, hang, leak and error that is not a TorchBindError.

  --seed N --calls N     which calls (default: 100,000 of seed 1)
  --first N              begin at this call
  --minutes M            stop after so long
  --jobs N               number of processes
  --only N               make one call of the seed again, its arguments printed
  --operator NAME        calls of one operator only, such as aten::add.Tensor
  --guard                under an allocator that catches every access outside a tensor
  --workers N --exits N  end so many workers at work; take each of the ways to exit so many times
  --sequences            calls that depend on one another instead: views, resizes, out=, arrays over memory, hooks,
                         graphs, workers that end. --calls N in all (default: 300,000), over --seeds N (default: 100)
                         from --seed on, each in a process of its own
  --shrink               with --sequences and --seed: the steps that the crash of this seed needs
  --sweep                call every export with everything that is wrong in every place, some 130 s
  --help                 this text
`;

const options = {
  help: { type: 'boolean', default: false },
  seed: { type: 'string', default: '1' },
  calls: { type: 'string' },
  first: { type: 'string', default: '0' },
  minutes: { type: 'string' },
  jobs: { type: 'string', default: '1' },
  guard: { type: 'boolean', default: false },
  workers: { type: 'string' },
  exits: { type: 'string' },
  only: { type: 'string' },
  operator: { type: 'string' },
  sequences: { type: 'boolean', default: false },
  seeds: { type: 'string', default: '100' },
  shrink: { type: 'boolean', default: false },
  sweep: { type: 'boolean', default: false },
};

main(async (args) => {
  const { values } = parseArgs({ args, options });
  const number = (name) => (values[name] === undefined ? undefined : Number(values[name]));
  if (values.help) return void process.stdout.write(HELP);
  if (values.only !== undefined) return repeat(number('seed'), number('only'), values.operator);
  if (values.workers !== undefined || values.exits !== undefined) return ends(number('workers'), number('exits'));
  if (values.sweep) return sweep();
  const environment = values.guard ? { LD_PRELOAD: buildGuard(), TORCHBIND_ALLOCATOR: 'libtorch' } : {};
  const shared = { seed: number('seed'), environment, unlimited: values.guard };
  if (values.sequences) {
    const calls = Math.ceil((number('calls') ?? 300_000) / number('seeds'));
    if (values.shrink) return shrunk({ ...shared, calls });
    return inSequences({ ...shared, calls, seeds: number('seeds'), jobs: number('jobs') });
  }
  const jobs = number('jobs');
  const share = Math.ceil((number('calls') ?? 100_000) / jobs);
  const started = Date.now();
  const done = new Array(jobs).fill(0);
  const runs = done.map((_, job) =>
    fuzz({
      ...shared,
      calls: share,
      first: number('first') + job * share,
      minutes: number('minutes'),
      only: values.operator,
      onFinding: print,
      onProgress(total) {
        done[job] = total.calls;
        const calls = done.reduce((a, b) => a + b);
        say(`${calls} of ${share * jobs} calls, ${Math.round((Date.now() - started) / 1000)} s`);
      },
    }),
  );
  const totals = await Promise.all(runs);
  const findings = totals.flatMap((total) => total.findings);
  const sum = (key) => totals.reduce((a, total) => a + total[key], 0);
  const peak = Math.max(...totals.map((total) => total.peakMegabytes));
  say(
    `${sum('calls')} calls, ${sum('done')} done, ${sum('refused')} refused, ${findings.length} findings, ` +
      `peak ${Math.round(peak)} MB, ${Math.round((Date.now() - started) / 1000)} s`,
  );
  return findings.length > 0 ? 1 : 0;
});

function print(finding) {
  process.stdout.write(JSON.stringify(finding) + '\n');
}

/** Calls that depend on one another. */
async function inSequences(options) {
  const started = Date.now();
  const seconds = () => Math.round((Date.now() - started) / 1000);
  const onProgress = ({ seeds, calls }) => say(`${seeds} of ${options.seeds} seeds, ${calls} calls, ${seconds()} s`);
  const total = await sequences({ ...options, onFinding: print, onProgress });
  say(
    `${total.calls} calls of ${total.seeds} seeds, ${total.done} done, ${total.refused} refused, ` +
      `${total.findings.length} findings, peak ${Math.round(total.peakMegabytes)} MB, ${seconds()} s`,
  );
  return total.findings.length > 0 ? 1 : 0;
}

async function shrunk(options) {
  const found = await shrink({ ...options, onProgress: (steps) => say(`${steps} steps left`) });
  if (found === undefined) return void say(`seed ${options.seed} does not crash`);
  say(`the crash of seed ${options.seed} needs the steps ${found.steps.join(', ')}`);
  const job = { ...options, from: 0, to: options.calls, skip: found.skip, record: '/dev/null', verbose: true };
  const child = inRoot('test/fuzz/sequences/child.cjs');
  spawnSync(process.execPath, ['--expose-gc', child, JSON.stringify(job)], { stdio: 'inherit' });
  return 1;
}

/** Ends of workers and of processes. */
async function ends(workers = 0, exits = 0) {
  const started = Date.now();
  const wrong = [
    ...(workers > 0 ? await endWorkers(workers) : []),
    ...(await endProcesses(exits, (done) => say(`${done} of ${exits} rounds of exits`))),
  ];
  for (const run of wrong) process.stdout.write(JSON.stringify(run) + '\n');
  const runs = exits * Object.keys(EXITS).length;
  const seconds = Math.round((Date.now() - started) / 1000);
  say(
    `${workers} workers ended at work, ${runs} processes ended in ${Object.keys(EXITS).length} ways: ${wrong.length} wrong, ${seconds} s`,
  );
  return wrong.length > 0 ? 1 : 0;
}

function sweep() {
  const file = inRoot('test/fuzz/sweep/sweep.cjs');
  const run = spawnSync(process.execPath, ['--expose-gc', file, '/dev/null', '--full'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  process.stdout.write(run.stdout);
  if (run.signal !== null) say(`ended with ${run.signal}`);
  return run.stdout.trim().split('\n').length === 1 && run.status === 0 ? 0 : 1;
}

/** The allocator of test/fuzz/guard.c, compiled. */
function buildGuard() {
  const library = inRoot('build/fuzz-guard.so');
  mkdirSync(path.dirname(library), { recursive: true });
  const args = ['-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-o', library, inRoot('test/fuzz/guard.c')];
  if (spawnSync(process.env.CC ?? 'cc', args, { stdio: 'inherit' }).status !== 0)
    throw new SetupError('test/fuzz/guard.c does not compile: --guard needs a C compiler and glibc');
  return library;
}

/** One call on this terminal. */
function repeat(seed, index, only) {
  const job = { seed, from: index, to: index + 1, only, record: '/dev/null', verbose: true };
  const child = path.join('test/fuzz/child.cjs');
  const run = spawnSync(process.execPath, ['--expose-gc', inRoot(child), JSON.stringify(job)], { stdio: 'inherit' });
  if (run.signal !== null) say(`ended with ${run.signal}`);
  return run.status ?? 1;
}
