// Checkpoint files, Node against Python PyTorch, side by side in one run: `node bench/formats.mjs [--rounds N]
// [--directory PATH] [--only NAMES] [--format safetensors]`.
//
// Rounds alternate between the sides; medians count. Files lie in the page cache, as after a download or a save. Both
// sides verify that they read the same. Python's load does not verify checksums; torchbind's does. torchbind's save
// syncs the file to the disk before it takes the place of the old one; Python's does not. So both are measured both ways: with
// { durable: false } against Python's own, and by default against Python's with a sync. Of safetensors files Python's "load" is load_file(backend='pread'), and "with mmap" its default.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, openSync, readSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import torch from '../dist/index.js';
import { Partner } from './partner.mjs';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    directory: { type: 'string', default: os.tmpdir() },
    only: { type: 'string' },
    format: { type: 'string', default: 'pt' },
  },
});
const rounds = Number(options.rounds);
const { format } = options;
const formats = {
  pt: { load: torch.load, save: torch.save },
  safetensors: { load: torch.loadSafetensors, save: torch.saveSafetensors },
};
const { load, save } = formats[format];
const place = path.join(options.directory, `torchbind-bench-${randomUUID()}`);

const workloads = [
  { name: 'load', text: 'load, 512 MB', kind: 'large', work: 'load' },
  { name: 'mmap', text: 'load with mmap, 512 MB', kind: 'large', work: 'load', mmap: true },
  { name: 'save', text: 'save, 512 MB', kind: 'large', work: 'save' },
  { name: 'tiny-load', text: 'load, 10,000 tensors', kind: 'tiny', work: 'load' },
  { name: 'tiny-mmap', text: 'load with mmap, 10,000 tensors', kind: 'tiny', work: 'load', mmap: true },
  { name: 'tiny-save', text: 'save, 10,000 tensors', kind: 'tiny', work: 'save' },
].filter(({ name }) => options.only === undefined || options.only.split(',').includes(name));

mkdirSync(place);
const partner = await Partner.start('formats.py');
try {
  const { check: version } = await partner.ask({ work: 'describe', threads: os.availableParallelism() });
  console.log(
    `${os.cpus()[0]?.model}, ${os.availableParallelism()} CPUs, Node ${process.version}, torch ${version}, ` +
      `${options.directory}, medians (and least) of ${rounds} rounds, milliseconds\n`,
  );
  console.log('| | Node | Python | Node / Python |');
  console.log('| --- | --- | --- | --- |');
  for (const workload of workloads) {
    const { node, python, nodeSynced, synced } = await compare(workload);
    console.log(row(workload.text, node, python));
    if (synced !== undefined) console.log(row(`${workload.text}, synced`, nodeSynced, synced));
  }
} finally {
  await partner.stop();
  rmSync(place, { recursive: true });
}

async function compare(workload) {
  const source = path.join(place, `${workload.kind}.${format}`);
  if (!existsSync(source)) await partner.ask({ work: 'make', kind: workload.kind, path: source, format });
  return workload.work === 'load' ? compareLoads(workload, source) : compareSaves(workload, source);
}

async function compareLoads({ mmap = false }, source) {
  const times = { node: [], python: [] };
  readAll(source);
  for (let round = -2; round < rounds; round++) {
    const mine = await loadHere(source, mmap);
    const theirs = await partner.ask({ work: 'load', path: source, mmap, format });
    if (Math.abs(mine.check - theirs.check) > 1e-9) throw new Error(`${mine.check} here, ${theirs.check} in Python`);
    if (round < 0) continue;
    times.node.push(mine.seconds);
    times.python.push(theirs.seconds);
  }
  return times;
}

async function loadHere(source, mmap) {
  const began = performance.now();
  const value = await load(source, { mmap });
  let check = 0;
  for (const tensor of value.values()) {
    const last = tensor.select(0, -1);
    check += last.item();
    last.dispose();
  }
  const seconds = (performance.now() - began) / 1000;
  for (const tensor of value.values()) tensor.dispose();
  return { seconds, check };
}

async function compareSaves({ kind }, source) {
  const times = { node: [], python: [], nodeSynced: [], synced: [] };
  const value = await load(source);
  for (let round = -1; round < rounds; round++) {
    const target = path.join(place, `written.${format}`);
    const seconds = await saveHere(value, target, false);
    const secondsSynced = await saveHere(value, target, true);
    const plain = await partner.ask({ work: 'save', kind, path: target, format });
    rmSync(target);
    const synced = await partner.ask({ work: 'save', kind, path: target, sync: true, format });
    rmSync(target);
    if (round < 0) continue;
    times.node.push(seconds);
    times.nodeSynced.push(secondsSynced);
    times.python.push(plain.seconds);
    times.synced.push(synced.seconds);
  }
  for (const tensor of value.values()) tensor.dispose();
  return times;
}

async function saveHere(value, target, durable) {
  const began = performance.now();
  await save(value, target, { durable });
  const seconds = (performance.now() - began) / 1000;
  rmSync(target);
  return seconds;
}

/** Brings a file into the page cache. */
function readAll(file) {
  const fd = openSync(file, 'r');
  const buffer = Buffer.alloc(1 << 22);
  while (readSync(fd, buffer) > 0);
}

function row(text, node, python) {
  return `| ${text} | ${figure(node)} | ${figure(python)} | ${(median(node) / median(python)).toFixed(2)} |`;
}

function figure(times) {
  const text = (seconds) => (seconds * 1000 >= 100 ? (seconds * 1000).toFixed(0) : (seconds * 1000).toFixed(1));
  return `${text(median(times))} (${text(Math.min(...times))})`;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
