// Hooks and custom functions where they could leak, hang or crash. argv: what to do, whether the engine runs next to.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { autograd, memory, ones, tensor } = require('../../../dist/index.js');
const { native } = require('../../../dist/native/native.js');

const [how, beside] = isMainThread ? process.argv.slice(2) : workerData;
native().setEngineAlwaysBeside(beside === 'true');

class Doubled extends autograd.Function {
  static forward(ctx, a) {
    const b = a.mul(2);
    ctx.saveForBackward(a, b);
    return b;
  }
  static backward(ctx, grad) {
    ctx.savedTensors[1].mul(1);
    return grad.mul(2);
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function settle() {
  for (let i = 0; i < 6; i++) {
    await turn();
    global.gc();
  }
  return memory().numTensors;
}

// Each hook is made in a function of its own: V8's closures keep all variables that closures next to them use.
const multiplyBy = (other) => (grad) => grad.mul(other);

function graphs() {
  for (let i = 0; i < 50; i++) {
    const x = tensor([1, 2], { dtype: 'float64', requiresGrad: true });
    const y = Doubled.apply(x.mul(2));
    y.registerHook(multiplyBy(ones(2)));
    x.registerPostAccumulateGradHook(multiplyBy(ones(2)));
    if (i % 2 === 0) y.sum().backward();
    // A hook that refers to its own tensor keeps it, until it is removed.
    const own = x.mul(3);
    const handle = own.registerHook(multiplyBy(own));
    own.sum().backward();
    handle.remove();
  }
}

const programs = {
  async collected() {
    const before = await settle();
    graphs();
    const during = memory().numTensors;
    const after = await settle();
    console.log(during > before && after === before ? 'freed' : `${before}, ${during}, ${after}`);
  },

  async workers() {
    const results = Array.from(
      { length: 4 },
      () =>
        new Promise((resolve, reject) => {
          new Worker(__filename, { workerData: ['work', beside] }).on('message', resolve).on('error', reject);
        }),
    );
    console.log((await Promise.all(results)).join(' '));
  },

  work() {
    let result;
    for (let i = 0; i < 200; i++) {
      const x = tensor([1.0, 2], { dtype: 'float32', requiresGrad: true });
      const y = Doubled.apply(x);
      y.registerHook((grad) => grad.mul(3));
      y.mul(2).sum().backward();
      result = x.grad.sum().item();
    }
    parentPort.postMessage(result);
  },

  async terminate() {
    let terminated = 0;
    for (let i = 0; i < 12; i++) {
      const worker = new Worker(__filename, { workerData: [i % 2 === 0 ? 'endless' : 'endlessHook', beside] });
      await new Promise((resolve) => worker.once('message', resolve));
      await new Promise((resolve) => setTimeout(resolve, 5 * i));
      await worker.terminate();
      terminated++;
    }
    console.log(`terminated ${terminated}`);
  },

  endless() {
    parentPort.postMessage('ready');
    while (true) graphs();
  },

  endlessHook() {
    const x = tensor([1.0], { dtype: 'float32', requiresGrad: true });
    x.registerHook(() => {
      parentPort.postMessage('ready');
      while (true) x.mul(2);
    });
    Doubled.apply(x).backward();
  },

  'exit-in-hook'() {
    const x = tensor([1.0], { dtype: 'float32', requiresGrad: true });
    const y = Doubled.apply(x);
    y.registerHook(() => {
      const inner = autograd.enableGrad(() => Doubled.apply(x));
      inner.registerHook(() => {
        console.log('exiting');
        process.exit(3);
      });
      inner.backward();
    });
    y.backward();
  },

  'exit-in-worker'() {
    new Worker(__filename, { workerData: ['exit', beside] }).on('exit', (code) =>
      console.log(`worker ended with ${code}`),
    );
  },

  exit() {
    const x = tensor([1.0], { dtype: 'float32', requiresGrad: true });
    x.registerHook(() => process.exit(0));
    Doubled.apply(x).backward();
  },
};

void programs[how]();
