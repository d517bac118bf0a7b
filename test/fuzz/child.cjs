// Makes the calls of a seed from one number to another, in a process of its own so that a crash is a finding.
//
// Before each call its number, how many were done and refused so far, and its name are written to the record file.
// Findings and the closing summary are lines of JSON on standard output.
const { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { inspect, types } = require('node:util');
const torch = require('../../dist/index.js');
const { native } = require('../../dist/native/native.js');
const { OnPurpose } = require('./junk.cjs');
const { freeHandles, makeContext, reset } = require('./context.cjs');
const { byOps, routes } = require('./routes.cjs');
const { Fuzz } = require('./values.cjs');

const { seed, from, to, only, record, verbose, watched } = JSON.parse(process.argv[2]);
const binding = native();
const scratchDirectory = mkdtempSync(join(tmpdir(), 'torchbind-fuzz-'));
process.on('exit', () => rmSync(scratchDirectory, { recursive: true, force: true }));
writeFileSync(join(scratchDirectory, 'bytes'), Buffer.alloc(4096, 7));
const file = openSync(join(scratchDirectory, 'bytes'), 'r');
const scratch = openSync(join(scratchDirectory, 'scratch'), 'w+');
process.chdir(scratchDirectory); // a name made of junk must not land anywhere else

const context = makeContext(torch, binding);

const counts = { done: 0, refused: 0, wrong: 0, unmade: 0 };
const recordFile = openSync(record, 'w');
function note(index, name) {
  writeSync(recordFile, `${index} ${counts.done} ${counts.refused} ${name}`.padEnd(159).slice(0, 159) + '\n', 0);
}

function report(finding) {
  writeSync(1, JSON.stringify(finding) + '\n');
}

function check(error, index, name) {
  if (error instanceof torch.TorchBindError || error instanceof OnPurpose) return 'refused';
  report({ kind: 'error', index, name, detail: String(error?.stack ?? error).slice(0, 1500) });
  return 'wrong';
}

/** Arguments in one line each, tensors by what they are and not by their values. */
function shown(value, depth = 0) {
  if (value instanceof torch.Tensor && value.token !== null) {
    try {
      const grad = value.requiresGrad ? ' requiresGrad' : '';
      return `${value.dtype}[${value.shape}] strides [${strides(value)}] ${value.layout} ${value.device}${grad}`;
    } catch {
      return 'no tensor any more';
    }
  }
  if (depth > 3 || types.isProxy(value) || !Array.isArray(value) || value.length > 50) return inspect(value);
  return `[${Array.from({ length: value.length }, (_, i) => item(value, i, depth)).join(', ')}]`;
}

function item(list, i, depth) {
  const { value, get } = Object.getOwnPropertyDescriptor(list, i) ?? {};
  return (depth === 0 ? '\n  ' : '') + (get ? 'a getter' : shown(value, depth + 1));
}

function strides(tensor) {
  return tensor.layout === 'strided' ? tensor.strides() : '';
}

async function one(index) {
  const scope = { made: undefined };
  let outcome;
  let name = '?';
  try {
    await torch.tidy(async () => {
      const fuzz = new Fuzz(torch, binding, seed, index);
      Object.assign(fuzz, { file, scratch, only });
      const route = only === undefined ? fuzz.rng.pick(routes) : byOps;
      scope.made = route(fuzz, context);
      name = scope.made.name;
      note(index, name);
      if (verbose) process.stderr.write(`${index} ${name}(${shown(scope.made.args)})\n`);
      const result = scope.made.run();
      const settled = result instanceof Promise ? await result : result;
      if (name.startsWith('binding.')) freeHandles(binding, settled);
      outcome = 'done';
    });
  } catch (error) {
    outcome = scope.made === undefined ? 'unmade' : check(error, index, name);
    if (outcome === 'unmade') report({ kind: 'unmade', index, name, detail: String(error?.stack ?? error) });
  }
  return outcome;
}

function resetTo(index) {
  reset(torch, binding);
  torch.manualSeed(index);
}

async function main() {
  resetTo(from);
  const before = torch.memory().numTensors;
  for (let index = from; index < to; index++) {
    note(index, 'making the arguments');
    counts[await one(index)]++;
    resetTo(index + 1);
    if (index % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  for (let i = 0; i < 5; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    global.gc?.();
  }
  const tensors = torch.memory().numTensors - before;
  report({ kind: 'summary', ...counts, tensors, peakMegabytes: process.resourceUsage().maxRSS / 1024 });
  closeSync(recordFile);
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
