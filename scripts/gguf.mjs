// Writes tiny random models of each family as GGUF, runs them in llama.cpp (node-llama-cpp, which is installed into a temporary
// directory), and compares the tokens of a prompt and 20 greedy tokens in float32 with those of torchbind.
//
//   node scripts/gguf.mjs [directory with node_modules of node-llama-cpp]
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { GPT, Gpt2Tokenizer, manualSeed, noGrad, randn } from 'torchbind';

const VERSION = '3.21.1';
const COUNT = 20;
const PROMPT = 'The quick brown fox';

const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-gguf-'));

const gemma = { normPlusOne: true, activation: 'geglu_tanh', embeddingScale: 8, tieWeights: true, nKvHead: 2 };
const windows = { normPosition: 'sandwich', slidingWindow: 8, attentionMultiplier: 0.25 };
const llama3 = { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalBlockSize: 32 };
const stableLm = { normType: 'layernorm', ropeSize: 4 };
const models = {
  gpt2: [{}, 'hf-gpt2'],
  nanogpt: [{ activation: 'gelu_tanh' }, 'nanogpt'],
  llama: [{ nKvHead: 2 }],
  'llama 3.1': [{ nKvHead: 2, ropeScaling: llama3 }],
  qwen2: [{ nKvHead: 2, bias: true }],
  qwen3: [{ nKvHead: 2, qkNorm: 'head', headSize: 32 }],
  smollm3: [{ nLayer: 5, noRopeLayers: [3], nKvHead: 2, ropeTheta: 2e6, tieWeights: true }],
  granite: [{ nKvHead: 2, embeddingScale: 3, residualScale: 0.5, logitScale: 2, attentionMultiplier: 0.1 }],
  olmo2: [{ qkNorm: 'all', normPosition: 'output', tieWeights: true }],
  gemma: [gemma],
  gemma2: [{ ...gemma, ...windows, slidingLayers: [0], attentionSoftcap: 50, logitSoftcap: 30 }],
  gemma3: [
    {
      ...{ ...gemma, ...windows, nLayer: 7, slidingLayers: [0, 1, 2, 3, 4, 6], qkNorm: 'head' },
      ...{ ropeTheta: 1e6, ropeLocalTheta: 10_000 },
    },
  ],
  olmo: [{ nKvHead: 2, normType: 'layernorm', normScale: false }],
  stablelm: [{ ...stableLm, nKvHead: 2 }],
  'stablelm, parallel': [{ ...stableLm, bias: true, parallelResidual: 'one-norm' }],
  phi: [{ ropeSize: 8, activation: 'gelu_tanh' }, 'hf-phi'],
  phi3: [{ nKvHead: 2, ropeSize: 12 }, 'hf-phi3'],
  'gpt_neox, serial': [{ activation: 'gelu_tanh', ropeSize: 4, parallelResidual: 'none' }, 'hf-gpt-neox'],
  gpt_neox: [{ activation: 'gelu_tanh', ropeSize: 4, parallelResidual: 'two-norms' }, 'hf-gpt-neox'],
  gpt_bigcode: [{}, 'hf-gpt-bigcode'],
};

/** A file, and what torchbind generates from its model. */
async function make(name, [facts, layout = 'hf-llama']) {
  manualSeed(1);
  const tokenizer = new Gpt2Tokenizer();
  const gpt = new GPT(
    { blockSize: 64, nLayer: 2, nHead: 4, nEmbd: 64, vocabSize: 50_257, ...facts },
    { layout, tokenizer },
  );
  noGrad(() => {
    for (const [key, parameter] of gpt.namedParameters()) {
      if (/ln|Norm/.test(key)) parameter.add_(randn(parameter.shape).mul(0.1));
      else parameter.normal_(0, 0.15);
    }
  });
  const file = path.join(directory, `${name}.gguf`);
  await gpt.save(file);
  const { tokens } = await gpt.generate(PROMPT, { maxNewTokens: COUNT, temperature: 0, details: true });
  gpt.dispose();
  return { name, file, ids: [...tokenizer.encode(PROMPT)], expected: [...tokens] };
}

async function loadNodeLlamaCpp() {
  const root = process.argv[2] ?? directory;
  if (process.argv[2] === undefined) {
    console.log(`installing node-llama-cpp ${VERSION} into ${root}`);
    writeFileSync(path.join(root, 'package.json'), '{"private":true}');
    execFileSync('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', `node-llama-cpp@${VERSION}`], {
      cwd: root,
    });
  }
  return import(pathToFileURL(path.join(root, 'node_modules/node-llama-cpp/dist/index.js')).href);
}

async function compare(llama, { name, file, ids, expected }) {
  const model = await llama.loadModel({ modelPath: file, gpuLayers: 0, useMmap: false });
  // The cache is float16 otherwise.
  const exact = { experimentalKvCacheKeyType: 'F32', experimentalKvCacheValueType: 'F32', flashAttention: false };
  const context = await model.createContext({ contextSize: 64, threads: 1, ...exact });
  const tokens = [];
  for await (const token of context.getSequence().evaluate(ids, { temperature: 0, repeatPenalty: false })) {
    if (tokens.push(token) === COUNT) break;
  }
  const prompt = model.tokenize(PROMPT);
  const isEqual = String(tokens) === String(expected) && String(prompt) === String(ids);
  console.log(
    `${name}: ${isEqual ? 'equal' : `DIFFERENT\n  llama.cpp ${prompt} | ${tokens}\n  torchbind ${ids} | ${expected}`}`,
  );
  await context.dispose();
  await model.dispose();
  return isEqual;
}

try {
  const { getLlama } = await loadNodeLlamaCpp();
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: 1, logLevel: 'error' });
  let isEqual = true;
  for (const [name, model] of Object.entries(models))
    isEqual = (await compare(llama, await make(name, model))) && isEqual;
  process.exitCode = isEqual ? 0 : 1;
} finally {
  rmSync(directory, { recursive: true, force: true });
}
// llama.cpp keeps threads that would hold the process.
process.exit();
