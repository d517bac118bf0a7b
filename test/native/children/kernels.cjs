// Prints which kernels compute in the main thread, and in a worker whose environment asks for others.
const { Worker, isMainThread, parentPort } = require('node:worker_threads');
const { backends, manualSeed, randn } = require('../../../dist');
const { loadedAddon } = require('../../../dist/native/native.js');

function facts() {
  manualSeed(1);
  const product = randn([64, 96]).matmul(randn([96, 48]));
  return {
    setting: backends.cpu.getKernels(),
    fastMkl: loadedAddon().kernels.fastMkl,
    processor: loadedAddon().kernels.processor,
    capability: backends.cpu.getCpuCapability(),
    product: [...product.toTypedArray()],
  };
}

if (isMainThread) {
  const main = facts();
  const other = main.setting === 'auto' ? 'stock' : 'auto';
  new Worker(__filename, { env: { ...process.env, TORCHBIND_CPU_KERNELS: other } }).once('message', (worker) => {
    console.log(JSON.stringify({ main, worker }));
  });
} else {
  parentPort.postMessage(facts());
}
