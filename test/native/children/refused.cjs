// What the addon does where Node-API refuses to take what it is given: nothing is freed twice or kept for ever.
const { closeSync, openSync } = require('node:fs');
const { devNull } = require('node:os');
const torch = require('../../../dist/index.js');
const { native } = require('../../../dist/native/native.js');

const binding = native();
const { ones, zeros } = torch;

function refusing(what, call) {
  process.env.TORCHBIND_TEST_REFUSE = what;
  try {
    call();
    return 'done';
  } catch (error) {
    return error.code ?? error.name;
  } finally {
    delete process.env.TORCHBIND_TEST_REFUSE;
  }
}

/** Memory that was freed early would be taken by these. */
function overwrite() {
  global.gc();
  for (let i = 0; i < 50; i++) zeros([1000]).add_(7).dispose();
}

async function buffer(what) {
  const x = ones([1000]);
  const code = refusing(what, () => x.toTypedArray({ copy: false }));
  await new Promise((resolve) => setImmediate(resolve));
  overwrite();
  return [code, x.sum().item(), x.toTypedArray({ copy: false })[999]];
}

/** A write that never began must not leave its storage fixed. */
function work() {
  const x = ones([3]);
  const file = openSync(devNull, 'w');
  const code = refusing('work', () => binding.writeStorage(file, 0, x.handle, 0, 12));
  closeSync(file);
  return [code, x.resize_([1000]).shape];
}

function external() {
  const x = ones([3], { requiresGrad: true });
  const calls = [
    () => ones([1000]),
    () => binding.newToken(),
    () => new torch.Generator(),
    () => binding.registerHook(x.handle, (gradient) => gradient),
  ];
  const codes = calls.map((call) => refusing('external', call));
  overwrite();
  x.mul(2).sum().backward();
  return [...codes, x.grad.tolist()];
}

async function main() {
  const results = {
    buffer: await buffer('buffer'),
    finalizedBuffer: await buffer('finalized buffer'),
    work: work(),
    external: external(),
  };
  console.log(JSON.stringify(results));
}

void main();
