// Calls everything that the package exports with one thing wrong at a time. Each call must succeed, or fail with a
// TorchBindError and leave no file behind. Findings and a closing summary are lines of JSON on standard output.
//
//   node --expose-gc test/fuzz/sweep/sweep.cjs RECORD [--full] [NAME]
//
// Everything is tried everywhere with --full, also for one NAME; else a few things in each place, always the same ones.
const { createHash } = require('node:crypto');
const { existsSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { OnPurpose } = require('../junk.cjs');
/** In memory if there is such a place: every save waits for the disk. */
const directory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'torchbind-sweep-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
process.chdir(directory);
// Nothing is asked of the hub: what is not in an empty cache is refused.
Object.assign(process.env, { HF_HUB_OFFLINE: '1', HF_HUB_CACHE: join(directory, 'hub') });
const torch = require('../../../dist/index.js');
const { native } = require('../../../dist/native/native.js');
const { calls, endAll, prepare } = require('./calls.cjs');
const { FEW, junkOf, places, put } = require('./mutate.cjs');
const { isClass, publicNames } = require('./public.cjs');

/** The file that names the call under way, for when it hangs or ends the process; and one call to make alone. */
const [record, ...rest] = process.argv.slice(2);
const only = rest.find((word) => word !== '--full');
const isFull = rest.includes('--full') || only !== undefined;
const recordFile = openSync(record, 'w');
const junk = junkOf(torch);
const counts = { calls: 0, refused: 0, findings: 0 };
const reported = new Set();

function report(name, change, detail) {
  counts.findings++;
  const text = `${name}: ${detail.replace(/\d+/g, '0').split('\n').slice(0, 2).join(' ')}`;
  if (reported.has(text)) return; // one line for each place in the code
  reported.add(text);
  writeSync(1, JSON.stringify({ name, change, detail: detail.slice(0, 600) }) + '\n');
}

/** So many of the kinds of junk for a place, by the name of the place; all of them in a full run. */
function some(kinds, place, count) {
  if (isFull) return kinds;
  const start = createHash('sha1').update(place).digest().readUInt16LE();
  return kinds.filter((_, i) => (i + start) % kinds.length < count);
}

/** The function of a name as it is called: a class with `new`, a method on the first argument. */
function callerOf(name) {
  if (name.includes('#')) {
    const method = /\w+$/.exec(name)[0];
    return ([self, ...args]) => {
      if (!(method in self)) throw new Error(`${name} is missing`);
      return typeof self[method] === 'function' ? self[method](...args) : self[method];
    };
  }
  const path = name.split('.');
  const owner = path.slice(0, -1).reduce((space, key) => space[key], torch);
  const value = owner[path.at(-1)];
  if (typeof owner === 'function') return ([self, ...args]) => value.apply(self, args);
  return (args) => (isClass(value) ? new value(...args) : value(...args));
}

/** These are computed term by term, however long that takes. */
const POLYNOMIAL = /polynomial/i;

const hasSelf = (name, args) =>
  name.includes('#') || (name.includes('.') && typeof args[0] === 'function' && isClass(args[0]));

async function settle(value) {
  if (value instanceof Promise) return void (await value);
  if (typeof value?.[Symbol.asyncIterator] !== 'function') return;
  let count = 0;
  for await (const piece of value) if (piece !== null && ++count === 3) break;
}

const files = () => readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort().join('\n');

/** What a call may leave switched. */
function reset() {
  while (native().inferenceModeEnabled()) native().exitInferenceMode();
  native().setGradMode(true);
  native().setDefaultDtype(6);
  native().setNumThreads(1);
}

let present;

/** Makes one call; gives its error, and reports what must not be. */
async function attempt(name, change, make, run, note) {
  counts.calls++;
  writeSync(recordFile, `${name}, ${change}`.padEnd(159).slice(0, 159) + '\n', 0);
  let error;
  let started = false;
  try {
    await torch.tidy(async () => {
      const args = await make();
      started = true;
      await settle(run(args));
    });
  } catch (thrown) {
    error = thrown;
  }
  endAll();
  reset();
  if (error === undefined) return undefined;
  counts.refused++;
  if (!started) report(name, change, `the call could not be made: ${error?.stack ?? String(error)}`);
  else if (!isFine(error, note)) report(name, change, String(error?.stack ?? error));
  return error;
}

function isFine(error, note) {
  if (note === 'collection' && (error instanceof TypeError || error instanceof RangeError)) return true;
  if (error instanceof OnPurpose) return true;
  return error instanceof torch.TorchBindError && /^ERR_TORCHBIND_\w+$/.test(error.code) && error.message !== '';
}

/** Nothing that a refused call wrote may be left; what one that was not refused wrote goes. */
function checkFiles(name, change, error) {
  const now = files();
  if (now === present) return;
  if (error !== undefined) report(name, change, 'was refused, but left files');
  const kept = new Set(present.split('\n'));
  for (const file of now.split('\n')) if (!kept.has(file)) rmSync(file, { recursive: true, force: true });
}

/** A valid call, and all that it becomes with one thing wrong. */
async function sweepCall([name, make, note, run = callerOf(name)]) {
  const sample = await torch
    .tidy(async () => make())
    .catch((error) => {
      if (note !== 'needs a device') throw error;
    });
  if (sample === undefined) return; // its arguments are a device's too
  const self = hasSelf(name, sample) ? 1 : 0;
  endAll();
  const step = async (change, changed) => checkFiles(name, change, await attempt(name, change, changed, run, note));
  const error = await attempt(name, 'as it should be', make, run, note);
  if (
    (error !== undefined) !== (note !== undefined && note !== 'in forward') &&
    note !== 'collection' &&
    note !== 'internal'
  )
    report(name, 'as it should be', error === undefined ? `was not refused, but: ${note}` : String(error.stack));
  checkFiles(name, 'as it should be', undefined);
  for (let count = self; count < sample.length; count++)
    await step(`the first ${count} arguments`, async () => (await make()).slice(0, count));
  const spots = places(sample).filter(([first]) => Number(first) >= self);
  for (const path of [...spots, [String(sample.length)]])
    for (const kind of some(path.length > 1 ? FEW : Object.keys(junk), `${name} ${path.join('.')}`, 2)) {
      if (kind === 'sparse array' && note === 'collection') continue;
      await step(`${kind} at ${path.join('.')}`, async () => put(await make(), path, junk[kind]()));
    }
}

/** A function or method made from schemas: all of them go through the same code. */
async function sweepOperator(name, call) {
  await attempt(name, 'no arguments', () => [], call);
  for (const position of [0, 1, 2])
    for (const kind of some(FEW, `${name} ${position}`, 1)) {
      if (kind === 'huge' && POLYNOMIAL.test(name)) continue;
      await attempt(
        name,
        `${kind} at ${position}`,
        () => [...Array.from({ length: position }, () => torch.ones(2, 3)), junk[kind]()],
        call,
      );
    }
}

/** What is in no scope must be the collector's: modules, optimizers, mapped files. */
async function checkTensors(before) {
  let left;
  for (let i = 0; i < 10; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    global.gc();
    left = torch.memory().numTensors - before;
    if (left <= 0) return;
  }
  report('all calls', 'together', `left ${left} tensors`);
}

async function main() {
  const before = torch.memory().numTensors;
  await prepare();
  present = files();
  const { byHand, operators } = publicNames();
  const known = new Set(calls.map(([name]) => name));
  for (const name of byHand) if (!known.has(name)) report(name, 'none', 'calls.cjs has no call of it');
  const isWanted = (name) => only === undefined || name === only;
  for (const call of calls) if (isWanted(call[0])) await sweepCall(call);
  for (const [name, fn] of operators) if (isWanted(name)) await sweepOperator(name, (args) => fn(...args));
  const tensor = torch.ones(2, 3);
  for (const key of Reflect.ownKeys(torch.Tensor.prototype)) {
    const value = Object.getOwnPropertyDescriptor(torch.Tensor.prototype, key).value;
    const name = `Tensor#${String(key)}`;
    if (typeof value !== 'function' || key === 'constructor' || !isWanted(name)) continue;
    await sweepOperator(name, (args) => value.apply(tensor.clone(), args));
  }
  checkFiles('operators', 'any', new Error('any'));
  tensor.dispose();
  await checkTensors(before);
  writeSync(1, JSON.stringify({ summary: counts }) + '\n');
}

process.on('unhandledRejection', (error) => report('?', 'unhandled rejection', String(error?.stack ?? error)));
void main();
