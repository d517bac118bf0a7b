const { mkdtempSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const { load, randn, save } = require('../../../dist/index.js');

async function main() {
  const dir = mkdtempSync(join(tmpdir(), 'torchbind-terminate-'));
  const file = join(dir, 'big.pt');
  await save(new Map([['w', randn(2000, 1000)]]), file);
  let terminated = 0;
  for (let i = 0; i < 12; i++) {
    const worker = new Worker(__filename, { workerData: { file, reads: i % 2 === 0 } });
    await new Promise((resolve) => worker.once('message', resolve));
    await new Promise((resolve) => setTimeout(resolve, 10 * i));
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
  for (;;) {
    if (workerData.reads) await Promise.all([load(workerData.file), load(workerData.file)]);
    else a.matmul(a).sum().item();
  }
}

void (isMainThread ? main() : work());
