const { mkdtempSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { Worker, isMainThread } = require('node:worker_threads');
const { load, randn, save, tidy } = require('../../../dist/index.js');

async function withFile(use) {
  const dir = mkdtempSync(join(tmpdir(), 'torchbind-exit-'));
  const file = join(dir, 'f.pt');
  await save(new Map([['w', randn(1000, 1000)]]), file);
  await use(file);
  return dir;
}

const ways = {
  end: () => void randn(100, 100).matmul(randn(100, 100)),
  exit: () => {
    randn(10).requiresGrad_().mul(2);
    process.exit(3);
  },
  throw: () => {
    randn(10);
    throw new Error('on purpose');
  },
  'pending-read': async () => {
    const dir = await withFile((file) => void load(file));
    process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
  },
  'exit-pending': async () => {
    const dir = await withFile((file) => void load(file).catch(() => undefined));
    rmSync(dir, { recursive: true, force: true });
    process.exit(0);
  },
  'in-scope': () => tidy(() => process.exit(0)),
  'from-worker': () => void new Worker(__filename),
  rejection: () => {
    randn(10);
    void Promise.reject(new Error('on purpose'));
  },
  'pending-write': async () => {
    const dir = await withFile((file) => void save(new Map([['w', randn(1000, 1000)]]), file));
    process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
  },
  'pending-values': () => void randn(1000, 1000).tolistAsync(),
  'exit-pending-values': () => {
    for (let i = 0; i < 50; i++) void randn(300, 300).toTypedArrayAsync();
    process.exit(0);
  },
  'exit-handler': () => process.on('exit', () => void randn(100, 100).sum().item()),
  'busy-worker': () => new Worker(__filename, { argv: ['busy'] }).once('message', () => process.exit(0)),
  'kept-graph': () => {
    let x = randn(4).requiresGrad_();
    for (let i = 0; i < 50_000; i++) x = x.add(1);
    globalThis.kept = x;
  },
};

if (isMainThread) void ways[process.argv[2]]();
else if (process.argv.includes('busy')) {
  require('node:worker_threads').parentPort.postMessage('busy');
  for (;;) randn(300, 300).matmul(randn(300, 300));
} else {
  randn(1000).sum();
  setTimeout(() => process.exit(0), 5);
}
