const { mkdtempSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const { load, randn, save, tidy } = require('../../../dist/index.js');

async function main() {
  const dir = mkdtempSync(join(tmpdir(), 'torchbind-terminate-'));
  const file = join(dir, 'big.pt');
  await save(new Map([['w', randn(2000, 1000)]]), file);
  let terminated = 0;
  const cycles = Number(process.argv[2] ?? 14);
  for (let i = 0; i < cycles; i++) {
    const worker = new Worker(__filename, { workerData: { file, dir, work: Object.keys(works)[i % 7] } });
    await new Promise((resolve) => worker.once('message', resolve));
    await new Promise((resolve) => setTimeout(resolve, (10 * i) % 120));
    await worker.terminate();
    terminated++;
  }
  rmSync(dir, { recursive: true });
  console.log(`terminated ${terminated}`);
}

async function work() {
  const { parentPort } = require('node:worker_threads');
  parentPort.postMessage('started');
  const a = randn(300, 300);
  for (;;) await works[workerData.work](a);
}

/** What a worker is at when it is ended. */
const works = {
  read: () => Promise.all([load(workerData.file), load(workerData.file)]),
  compute: (a) => a.matmul(a).sum().item(),
  write: (a) => save(new Map([['a', a]]), join(workerData.dir, 'written.pt')),
  backward: (a) => a.detach().requiresGrad_().matmul(a).sum().backward(),
  values: (a) => Promise.all([a.tolistAsync(), a.mul(2).toTypedArrayAsync(), a.sum().itemAsync()]),
  scope: (a) => tidy(() => a.add(1).tolist()),
  errors(a) {
    try {
      a.matmul(randn(2));
    } catch {
      // an error is made in an environment that is being ended
    }
  },
};

void (isMainThread ? main() : work());
