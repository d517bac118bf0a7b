// Tokens per second of one sequence, greedy, next to the memory's bandwidth, a fused Python loop, transformers and node-llama-cpp.
//
//   node bench/decoding.mjs [--models g124,m6,s6,s4] [--tokens 60] [--rounds 3] [--threads N] [--prompt 16]
//                           [--sides 'auto,stock,bf16,int8,int4,python,transformers,transformers bf16'] [--llama directory]
//
// Each side of torchbind is a process of its own, since kernels cannot change within one. Rounds alternate between the sides;
// medians count, after 2 seconds of warming up. Weights are random. The floor is the bytes of the weights that a token reads over the bandwidth measured in the
// same run. `--llama` names a directory where node-llama-cpp is installed; it gets g124 as GGUF, in float32 and in q8_0.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { Partner } from './partner.mjs';

const GPT2 = 50257;
const MODELS = {
  g124: { vocabSize: GPT2, blockSize: 1024, nLayer: 12, nHead: 12, nEmbd: 768 },
  m6: { vocabSize: GPT2, blockSize: 256, nLayer: 6, nHead: 6, nEmbd: 384 },
  s6: { vocabSize: 65, blockSize: 256, nLayer: 6, nHead: 6, nEmbd: 384 },
  s4: { vocabSize: 65, blockSize: 256, nLayer: 4, nHead: 4, nEmbd: 128 },
};
const { values: options } = parseArgs({
  options: {
    models: { type: 'string', default: 'g124,m6,s6,s4' },
    tokens: { type: 'string', default: '60' },
    rounds: { type: 'string', default: '3' },
    prompt: { type: 'string', default: '16' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    sides: { type: 'string', default: 'auto,stock,bf16,int8,int4,python,transformers,transformers bf16' },
    llama: { type: 'string' },
  },
});

/** The weights of the sides that are llama.cpp's. */
const LLAMA = { 'llama.cpp f32': 'float32', 'llama.cpp q8_0': 'q8_0' };

if (process.send) await serve();
else await main();

async function main() {
  const [tokens, rounds, promptLength] = [options.tokens, options.rounds, options.prompt].map(Number);
  process.env.OMP_NUM_THREADS = options.threads; // read by libtorch when it starts its threads, here and in Python
  const partner = await Partner.start('decoding.py');
  const { transformers, torch, capability } = await partner.ask({ work: 'describe', threads: Number(options.threads) });
  console.log(
    `${os.cpus()[0]?.model} (${capability}), ${options.threads} thread(s), Node ${process.version}, torch ${torch}, ` +
      `transformers ${transformers ?? 'none'}; ${tokens} tokens after ${promptLength}, medians of ${rounds} rounds\n`,
  );
  const names = options.sides.split(',').filter((side) => !side.startsWith('transformers') || transformers !== null);
  if (options.llama !== undefined) names.push(...Object.keys(LLAMA));
  console.log('| model | side | tokens/s | of the floor | against Python | first token, ms |');
  console.log('|---|---|---|---|---|---|');
  try {
    for (const model of options.models.split(','))
      await compare(partner, model, names, { tokens, rounds, promptLength });
  } finally {
    await partner.stop();
  }
}

async function compare(partner, model, names, { tokens, rounds, promptLength }) {
  const shape = MODELS[model];
  const prompt = Array.from(
    { length: Math.min(promptLength, shape.blockSize - tokens) },
    (_, i) => (7 * i + i * i) % shape.vocabSize,
  );
  const bandwidth = [];
  const results = new Map();
  for (const name of names) {
    if (name in LLAMA && model !== 'g124') continue;
    const side = await open(partner, name, shape);
    // Until V8 has compiled what runs often, which for small models takes thousands of tokens.
    for (const began = performance.now(); performance.now() - began < 2000;) await side.generate(prompt, tokens);
    const runs = [];
    for (let round = 0; round < rounds; round++) runs.push(await side.generate(prompt, tokens));
    await side.close();
    bandwidth.push((await partner.ask({ work: 'bandwidth' })).gigabytes);
    results.set(name, {
      speed: median(runs.map(({ first, all }) => (tokens - 1) / (all - first))),
      first: 1e3 * median(runs.map(({ first }) => first)),
    });
  }
  const read = median(bandwidth);
  const python = results.get('python');
  for (const [name, { speed, first }] of results) {
    const floor = (1e9 * read) / bytesOf(shape, name);
    const ratio = python === undefined ? '' : (speed / python.speed).toFixed(2);
    console.log(
      `| ${model} | ${name} | ${speed.toFixed(1)} | ${(speed / floor).toFixed(2)} | ${ratio} | ${first.toFixed(1)} |`,
    );
  }
  console.log(
    `| ${model} | read bandwidth ${read.toFixed(1)} GB/s | ${((1e9 * read) / bytesOf(shape, 'auto')).toFixed(1)} in float32 | 1 | | |`,
  );
}

/** Bytes of the weights that a token reads. */
function bytesOf({ vocabSize, nLayer, nEmbd }, name) {
  const weights = nLayer * 12 * nEmbd ** 2 + vocabSize * nEmbd;
  const each = { bf16: 2, 'transformers bf16': 2, int8: 1, int4: 0.5 + 4 / 32, 'llama.cpp q8_0': 1 + 2 / 32 };
  return weights * (each[name] ?? 4);
}

async function open(partner, name, shape) {
  if (name === 'python' || name.startsWith('transformers')) {
    const dtype = name.endsWith('bf16') ? 'bfloat16' : 'float32';
    await partner.ask({ work: 'make', side: name.split(' ')[0], shape, dtype });
    return {
      generate: (prompt, tokens) => partner.ask({ work: 'generate', prompt, tokens }),
      close: () => Promise.resolve(),
    };
  }
  const TORCHBIND_CPU_KERNELS = name === 'stock' ? 'stock' : 'auto';
  const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), {
    env: { ...process.env, TORCHBIND_CPU_KERNELS },
  });
  const ask = async (message) => {
    child.send(message);
    const [answer] = await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => Promise.reject(new Error(`${name} ended with status ${code}`))),
    ]);
    return answer;
  };
  await ask({ name, shape });
  return {
    generate: (prompt, tokens) => ask({ prompt, tokens }),
    close: async () => {
      child.send({ end: true });
      await once(child, 'exit');
    },
  };
}

/** A child: makes its model, and generates when it is asked. */
async function serve() {
  let generate;
  process.on('message', (message) => {
    if (message.end) process.exit(0);
    answer(message).then(
      (value) => process.send(value),
      (error) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
  async function answer({ name, shape, prompt, tokens }) {
    if (name !== undefined) {
      generate = name in LLAMA ? await llama(LLAMA[name], shape) : await torchbind(name, shape);
      return {};
    }
    const first = await timed(() => generate(prompt, 1));
    const all = await timed(() => generate(prompt, tokens));
    return { first, all };
  }
}

async function torchbind(name, shape) {
  const { GPT, manualSeed } = await import('../dist/index.js');
  manualSeed(1);
  const gpt = new GPT({ ...shape, bias: true });
  if (name === 'bf16') gpt.to('bfloat16');
  if (name === 'int8') gpt.quantize({ bits: 8 });
  if (name === 'int4') gpt.quantize({ bits: 4, groupSize: 32 });
  return async (prompt, maxNewTokens) => {
    let count = 0;
    for await (const token of gpt.generateTokens(prompt, { greedy: true, maxNewTokens })) count += token >= 0;
    if (count !== maxNewTokens) throw new Error(`${count} tokens came, not ${maxNewTokens}`);
  };
}

async function llama(dtype, shape) {
  const { GPT, Gpt2Tokenizer, manualSeed } = await import('../dist/index.js');
  const directory = mkdtempSync(path.join(os.tmpdir(), 'torchbind-decoding-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  manualSeed(1);
  const gpt = new GPT({ ...shape, bias: true }, { layout: 'hf-gpt2', tokenizer: new Gpt2Tokenizer() });
  const file = path.join(directory, 'model.gguf');
  await gpt.save(file, { dtype });
  gpt.dispose();
  const require = createRequire(path.join(path.resolve(options.llama), 'index.js'));
  const { getLlama } = await import(pathToFileURL(require.resolve('node-llama-cpp')).href);
  const engine = await getLlama({ gpu: false });
  const model = await engine.loadModel({ modelPath: file, gpuLayers: 0 });
  const context = await model.createContext({ contextSize: 1024, threads: Number(options.threads) });
  return async (prompt, count) => {
    const sequence = context.getSequence();
    let made = 0;
    for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      if (token >= 0 && ++made === count) break;
    }
    sequence.dispose();
  };
}

async function timed(run) {
  const began = performance.now();
  await run();
  return (performance.now() - began) / 1e3;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
