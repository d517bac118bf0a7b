// Lets every system call of a save fail in turn, and sees to it that no bundle is lost. Runs with faults.c preloaded.
const assert = require('node:assert/strict');
const { openSync, readdirSync } = require('node:fs');
const { constants } = require('node:os');
const path = require('node:path');
const { CharTokenizer, dispose, GPT, optim, setNumThreads, TorchBindError } = require('../../../dist/index.js');

const root = process.env.TORCHBIND_FAULTS_ROOT;
const directory = path.join(root, 'run');
const { ENOSPC, EIO, EDQUOT, EINTR, EACCES } = constants.errno;
const SHORT = 0;

/** Kinds of calls, and the ways in which each fails: one of each kind, or all of them. */
const faults = process.argv.includes('--all')
  ? [
      ['open', [ENOSPC, EIO, EDQUOT, EACCES, EINTR]],
      ['write', [ENOSPC, EIO, EDQUOT, EINTR, SHORT]],
      ['fsync', [ENOSPC, EIO, EDQUOT, EINTR]],
      ['close', [ENOSPC, EIO, EDQUOT, EINTR]], // NFS tells of a full disk here
      ['mkdir', [ENOSPC, EIO, EDQUOT, EACCES]],
      ['rename', [ENOSPC, EIO, EDQUOT, EACCES]],
      ['link', [ENOSPC, EIO, EDQUOT, EACCES]],
      ['unlink', [EIO, EDQUOT, EACCES]],
      ['copy', [ENOSPC, EIO, EDQUOT, EINTR, SHORT]],
      ['clone', [EIO, EINTR]],
      ['chmod', [EIO, EACCES]],
    ]
  : [
      ['open', [ENOSPC]],
      ['write', [EIO, EINTR, SHORT]],
      ['fsync', [EIO]],
      ['close', [EIO]],
      ['mkdir', [ENOSPC]],
      ['rename', [EDQUOT]],
      ['link', [EIO]],
      ['unlink', [EACCES]],
      ['copy', [ENOSPC, EINTR, SHORT]],
      ['clone', [EIO]],
      ['chmod', [EIO]],
    ];

function control(command) {
  try {
    openSync(`/torchbind-faults/${command}`);
  } catch (error) {
    return error.code;
  }
  throw new Error('faults.c is not preloaded');
}

setNumThreads(1);
const tokenizer = new CharTokenizer(['a', 'b', 'c']);
const model = new GPT({ vocabSize: 3, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4, device: 'cpu' }, { tokenizer });
const optimizer = new optim.AdamW(model.parameters());
const marks = model.parameters();
let step = 0;
/** Files of bundles that are not kept are put in place by links, the others by copies. */
let keep = {};

/** Saves weights that tell the step. */
async function save() {
  step++;
  const mark = marks[0].detach();
  mark.fill_(step);
  mark.dispose();
  await model.saveCheckpointBundle(directory, { step, optimizer, keep });
  return step;
}

/** Step of the bundle that is found, whose weights must be that step's. */
async function found() {
  const opened = await GPT.load(directory);
  const mark = opened.parameters()[0].detach();
  const value = mark.max();
  assert.equal(value.item(), opened.step, 'weights of another step');
  dispose([mark, value]);
  opened.dispose();
  return opened.step;
}

const leftovers = () => readdirSync(directory).filter((name) => name.startsWith('.') && name !== '.lock');

/** One save with a fault in it; whether the fault came at all. */
async function attempt(arm, what) {
  const before = step;
  control(arm);
  const outcome = await save().then(
    () => 'saved',
    (error) => error,
  );
  const struck = control('struck') === 'EEXIST';
  control('off');
  const now = await found();
  if (outcome === 'saved') assert.equal(now, step, `${what}: reported as saved, and not there`);
  else {
    assert(outcome instanceof TorchBindError, `${what}: ${outcome.stack}`);
    assert.equal(outcome.code, 'ERR_TORCHBIND_SAVE', what);
    assert(outcome.message.includes(directory), `${what}: the message does not name the place: ${outcome.message}`);
    assert([before, step].includes(now), `${what}: step ${now} is there, neither ${before} nor ${step}`);
  }
  assert.equal(await save(), await found(), `${what}: the next save`);
  assert.deepEqual(leftovers(), [], `${what}: left over after the next save`);
  return { struck, failed: outcome !== 'saved' };
}

async function main() {
  await save();
  const points = {};
  for (const [kind, errors] of faults) {
    keep = kind === 'link' ? null : {};
    for (const error of errors) {
      const name =
        error === SHORT ? 'short' : Object.keys(constants.errno).find((key) => constants.errno[key] === error);
      let [n, failed] = [0, 0];
      for (;;) {
        const result = await attempt(`arm/${kind}/${n + 1}/${error}`, `${kind} ${n + 1} ${name}`);
        if (!result.struck) break;
        n++;
        if (result.failed) failed++;
      }
      points[`${kind} ${name}`] = [n, failed];
    }
  }
  let sizes = 0;
  for (let room = 0; ; room += 2048, sizes++) {
    if (!(await attempt(`budget/${room}`, `disk with room for ${room} bytes`)).failed) break;
  }
  points['full disk'] = [sizes, sizes];
  console.log(JSON.stringify(points));
}

main().catch((error) => {
  control('off');
  console.error(error);
  process.exitCode = 1;
});
