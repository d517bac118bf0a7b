// Makes the steps of one seed, in a process of its own so that a crash is a finding. See ../child.cjs, whose lines of
// output and record file these are too.
const { openSync, writeSync } = require('node:fs');
const torch = require('../../../dist/index.js');
const { native } = require('../../../dist/native/native.js');
const { OnPurpose } = require('../junk.cjs');
const { makeContext, reset } = require('../context.cjs');
const { routes } = require('../routes.cjs');
const { STEPS } = require('./steps.cjs');
const { Step, World } = require('./world.cjs');

const { seed, from, to, record, verbose, watched, skip = [] } = JSON.parse(process.argv[2]);
const binding = native();
const world = new World(torch, binding, seed);
process.chdir(world.directory);
const recordFile = openSync(record, 'w');
const counts = { done: 0, refused: 0, wrong: 0 };
const skipped = new Set(skip);

const context = makeContext(torch, binding);

function note(index, name) {
  writeSync(recordFile, `${index} ${counts.done} ${counts.refused} ${name}`.padEnd(159).slice(0, 159) + '\n', 0);
  if (verbose) process.stderr.write(`${index} ${name}\n`);
}

function report(finding) {
  writeSync(1, JSON.stringify(finding) + '\n');
}

/** Where an error is none that the library should give, it is a finding. */
function check(error, index, name) {
  if (error instanceof torch.TorchBindError || error instanceof OnPurpose) return 'refused';
  report({ kind: 'error', index, name, detail: String(error?.stack ?? error).slice(0, 1500) });
  return 'wrong';
}

async function one(index) {
  const step = new Step(world, index);
  const run = step.rng.pick(STEPS);
  context.route = step.rng.pick(routes);
  context.note = (name) => note(index, name);
  note(index, run.name);
  if (String(index) === process.env.TORCHBIND_FUZZ_CRASH) process.kill(process.pid, 'SIGKILL'); // for the test of run.mjs
  try {
    const result = run(step, context);
    step.put(result instanceof Promise ? await result : result);
    counts.done++;
  } catch (error) {
    counts[check(error, index, run.name)]++;
  }
}

async function main() {
  torch.manualSeed(seed);
  const before = torch.memory().numTensors;
  for (let index = from; index < to; index++) {
    if (skipped.has(index)) continue;
    await one(index);
    reset(torch, binding);
  }
  note(to, 'the end');
  await world.end();
  for (let i = 0; i < 5; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    global.gc();
  }
  const tensors = torch.memory().numTensors - before;
  report({ kind: 'summary', ...counts, tensors, peakMegabytes: process.resourceUsage().maxRSS / 1024 });
}

if (watched)
  process.stdin
    .on('end', () => process.exit(1))
    .resume()
    .unref();
process.on('unhandledRejection', (error) => check(error, -1, 'unhandled rejection'));
process.on('uncaughtException', (error) => check(error, -1, 'uncaught exception'));
main().catch((error) =>
  report({ kind: 'error', index: -1, name: 'the run itself', detail: String(error?.stack ?? error) }),
);
