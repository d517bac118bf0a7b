// How large models open and fine-tune: node bench/large-models.mjs [open|lora|fused ...] [--length 512] [--batch 1] [--updates 4]
//
//   open   directories of 7 B and 0.5 B parameters (sparse files): time from the call to the model, and the memory that it takes
//   lora   a model of 0.5 B parameters (Qwen2.5's shape, random weights, float32) with LoRA adapters of rank 8 on all Linears of its
//          blocks: seconds an update and the most memory that the process had, here and in Python with transformers and peft
//   fused  two layers of 512 and of 1,024 channels with q, k, v and gate, up fused and apart: tokens generated and trained a second
//
// Each measurement of `open` and `lora` runs in a process of its own.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { pythonEnvironment } from '../scripts/python-env.mjs';
import { writeShapedModel } from './shaped-model.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    length: { type: 'string', default: '512' },
    batch: { type: 'string', default: '1' },
    updates: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '5' },
    child: { type: 'string' },
  },
});
const [length, batch, updates, rounds] = ['length', 'batch', 'updates', 'rounds'].map((name) => Number(options[name]));
const torchbind = () => import('../dist/index.mjs');
const children = { open: openChild, lora: loraChild };

if (options.child !== undefined) {
  const [name, ...args] = JSON.parse(options.child);
  console.log(JSON.stringify(await children[name](...args)));
} else {
  const directory = mkdtempSync(join(tmpdir(), 'torchbind-large-'));
  try {
    const parts = positionals.length === 0 ? ['open', 'lora', 'fused'] : positionals;
    if (parts.includes('open')) open(directory);
    if (parts.includes('lora')) lora(directory);
    if (parts.includes('fused')) await fused();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function inChild(...request) {
  const args = [fileURLToPath(import.meta.url), '--child', JSON.stringify(request)];
  for (const name of ['length', 'batch', 'updates']) args.push(`--${name}`, options[name]);
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }));
}

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

/** Bytes that /proc says of this process: VmRSS now, VmHWM at most. */
function memory(field) {
  return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
}

function open(directory) {
  const models = [
    ['7B', 'float32'],
    ['7B', 'bfloat16'],
    ['0.5B', 'float32'],
  ];
  for (const [name, dtype] of models) {
    const target = join(directory, `${name}-${dtype}`);
    writeShapedModel(target, name, { dtype });
    const found = Array.from({ length: rounds }, () => inChild('open', target));
    const [start, load, taken] = ['start', 'load', 'memory'].map((key) => median(found.map((each) => each[key])));
    console.log(
      `${name} in ${dtype}: open ${load.toFixed(0)} ms, after ${start.toFixed(0)} ms for libtorch; ` +
        `${(taken / 1e6).toFixed(0)} MB of memory (medians of ${rounds} processes)`,
    );
  }
}

async function openChild(target) {
  const began = performance.now();
  const { GPT, tensor } = await torchbind();
  tensor([1]).dispose();
  const start = performance.now() - began;
  const before = memory('VmRSS');
  const gpt = await GPT.load(target, { dtype: 'auto' });
  const load = performance.now() - began - start;
  return { start, load, memory: memory('VmRSS') - before, parameters: gpt.numParameters() };
}

function lora(directory) {
  const target = join(directory, 'lora');
  writeShapedModel(target, '0.5B', { length, isFilled: true });
  const { command, env } = pythonEnvironment();
  const script = fileURLToPath(new URL('large_models.py', import.meta.url));
  const request = JSON.stringify({ target, length, batch, updates });
  const python = () =>
    JSON.parse(spawnSync(command, [script, request], { env: { ...process.env, ...env }, encoding: 'utf8' }).stdout);
  console.log(`LoRA of rank 8 on 0.5 B parameters in float32, ${batch} x ${length} tokens, ${updates} updates`);
  const variants = {
    torchbind: {},
    'torchbind, chunkedLoss': { chunkedLoss: true },
    'torchbind, chunkedLoss and activationCheckpointing': { chunkedLoss: true, activationCheckpointing: true },
  };
  for (const [name, more] of Object.entries(variants)) report(name, inChild('lora', target, more));
  report('transformers and peft', python());
}

function report(name, { seconds, peak, losses }) {
  const shown = [losses[0], losses.at(-1)].map((loss) => loss.toFixed(4)).join(' to ');
  console.log(`  ${name}: ${seconds.toFixed(2)} s an update, at most ${(peak / 1e9).toFixed(2)} GB, loss ${shown}`);
}

async function loraChild(target, more) {
  const { GPT, TokenStream, applyLora } = await torchbind();
  const gpt = await GPT.load(target);
  applyLora(gpt, { rank: 8, alpha: 16, targets: targets(gpt) });
  // Every window is the same one, so that Python has the same batches.
  const tokens = Int32Array.from({ length: length + 1 }, (_, i) => (i * 7919) % 151_936);
  const [losses, times] = [[], [performance.now()]];
  await gpt.fit({
    data: new TokenStream(tokens, { validationFraction: 0 }),
    ...{ maxSteps: updates, batchSize: batch, learningRate: 1e-3, weightDecay: 0, evalInterval: 0, seed: 1, ...more },
    onStep: ({ loss }) => {
      losses.push(loss);
      times.push(performance.now());
    },
  });
  const seconds = times.slice(1).map((time, i) => (time - times[i]) / 1000);
  return { seconds: median(seconds.slice(1)), peak: memory('VmHWM'), losses };
}

/** All Linears of the blocks. */
function targets(gpt) {
  const linears = gpt.namedModules().filter(([key, module]) => 'inFeatures' in module && key !== 'lmHead');
  return linears.map(([key]) => key);
}

async function fused() {
  const { GPT, TokenStream, manualSeed } = await torchbind();
  for (const nEmbd of [512, 1024]) {
    const config = { vocabSize: 1024, blockSize: 256, nLayer: 2, nHead: 8, nKvHead: 2, nEmbd };
    const sides = ['hf-llama', 'hf-phi3'].map((layout) => {
      manualSeed(1);
      return new GPT(config, { layout });
    });
    const found = { generated: [[], []], trained: [[], []] };
    const data = new TokenStream(Int32Array.from({ length: 4096 }, (_, i) => (i * 31) % 1024));
    for (let round = -1; round < rounds; round++) {
      for (const [side, gpt] of sides.entries()) {
        let began = performance.now();
        let count = 0;
        for await (const token of gpt.generateTokens([1, 2, 3, 4], { maxNewTokens: 100, greedy: true }))
          count += token >= 0;
        const generated = (1000 * count) / (performance.now() - began);
        began = performance.now();
        await gpt.fit({ data, maxSteps: 2, batchSize: 2, evalInterval: 0, seed: 1 });
        const trained = (2 * 2 * config.blockSize * 1000) / (performance.now() - began);
        if (round < 0) continue;
        found.generated[side].push(generated);
        found.trained[side].push(trained);
      }
    }
    for (const [what, [apart, together]] of Object.entries(found)) {
      const ratio = median(together.map((value, i) => value / apart[i]));
      console.log(
        `${nEmbd} channels, tokens ${what} a second: apart ${median(apart).toFixed(0)}, fused ${median(together).toFixed(0)}; ` +
          `fused / apart ${ratio.toFixed(2)} (medians of ${rounds} rounds)`,
      );
    }
    for (const gpt of sides) gpt.dispose();
  }
}
