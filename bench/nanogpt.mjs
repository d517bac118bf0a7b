// nanoGPT's recipe for Shakespeare on a CPU, in torchbind and in a plain PyTorch program: the same weights to begin with, the
// same windows, the same schedule. Prints the validation loss of both and how far their losses are apart.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CharTokenizer, GPT, manualSeed, setNumThreads } from '../dist/index.mjs';
import { pythonEnvironment } from '../scripts/python-env.mjs';

const HELP = `Usage: node bench/nanogpt.mjs TEXT [options]

TEXT is the file to train on: tinyshakespeare (1,115,394 characters) for the published loss.

  --steps N      updates, by which the schedule is stretched too (default 2000)
  --eval-iters N batches that the validation loss is the mean of (default 200)
  --threads N    CPU threads of both sides (default: the number of CPUs)
  --no-python    torchbind alone
  --json         print one JSON document
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    steps: { type: 'string', default: '2000' },
    'eval-iters': { type: 'string', default: '200' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    python: { type: 'boolean', default: true },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

/** The values of nanoGPT's config/train_shakespeare_char.py as its README changes them for a CPU. */
const recipe = {
  n_layer: 4,
  n_head: 4,
  n_embd: 128,
  block_size: 64,
  batch_size: 12,
  max_iters: Number(values.steps),
  lr_decay_iters: Number(values.steps),
  learning_rate: 1e-3,
  min_lr: 1e-4,
  warmup_iters: Math.min(100, Number(values.steps) - 1),
  weight_decay: 0.1,
  beta2: 0.99,
  grad_clip: 1,
  eval_iters: Number(values['eval-iters']),
  seed: 1337,
  threads: Number(values.threads),
  text: positionals[0],
};

if (values.help || positionals.length !== 1) {
  process.stdout.write(HELP);
  process.exitCode = values.help ? 0 : 2;
} else {
  await main();
}

async function main() {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'torchbind-nanogpt-'));
  try {
    const weights = path.join(directory, 'ckpt.pt');
    const node = await trainHere(weights);
    const python = values.python ? await trainInPython({ ...recipe, weights }) : null;
    report(node, python);
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function trainHere(weights) {
  setNumThreads(recipe.threads);
  manualSeed(recipe.seed);
  const text = await readFile(recipe.text, 'utf8');
  const tokenizer = CharTokenizer.fromText(text);
  const config = {
    vocabSize: tokenizer.vocabSize,
    blockSize: recipe.block_size,
    nLayer: recipe.n_layer,
    nHead: recipe.n_head,
    nEmbd: recipe.n_embd,
    dropout: 0,
    bias: false,
    projBias: false,
    mlpBias: false,
    normBias: false,
    lmHeadBias: false,
    tieWeights: true,
    activation: 'gelu',
  };
  const gpt = new GPT(config, { tokenizer, layout: 'nanogpt' });
  await gpt.save(weights, { step: 0 });
  const losses = [];
  let seconds = 0;
  const result = await gpt.fit({
    text,
    maxSteps: recipe.max_iters,
    batchSize: recipe.batch_size,
    learningRate: recipe.learning_rate,
    schedule: 'cosine',
    warmupSteps: recipe.warmup_iters,
    decaySteps: recipe.lr_decay_iters,
    minLearningRate: recipe.min_lr,
    weightDecay: recipe.weight_decay,
    betas: [0.9, recipe.beta2],
    gradClip: recipe.grad_clip,
    evalInterval: recipe.max_iters,
    evalSteps: recipe.eval_iters,
    seed: recipe.seed,
    onStep: ({ step, loss, tokensPerSecond }) => {
      losses.push(loss);
      seconds += (recipe.batch_size * recipe.block_size) / tokensPerSecond;
      progress('torchbind', step);
    },
  });
  return { losses, validationLoss: result.valLoss, seconds };
}

async function trainInPython(request) {
  const { command, env } = await pythonEnvironment();
  const script = fileURLToPath(new URL('nanogpt.py', import.meta.url));
  const child = spawn(command, [script, JSON.stringify(request)], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const losses = [];
  for await (const line of readline.createInterface({ input: child.stdout })) {
    const answer = JSON.parse(line);
    if (answer.type === 'end') return { losses, validationLoss: answer.val_loss, seconds: answer.seconds };
    losses.push(answer.loss);
    progress('Python', answer.step);
  }
  throw new Error('the Python side ended; its message is above');
}

function report(node, python) {
  const apart = python && node.losses.map((loss, i) => Math.abs(loss - python.losses[i]));
  const first = apart && apart.slice(0, 200);
  const figures = {
    steps: recipe.max_iters,
    threads: recipe.threads,
    validationLoss: { node: node.validationLoss, python: python?.validationLoss ?? null },
    secondsOfUpdates: { node: node.seconds, python: python?.seconds ?? null },
    equalLosses: apart && apart.findIndex((difference) => difference > 0),
    largestDifferenceOfFirst200: first && Math.max(...first),
    largestDifference: apart && Math.max(...apart),
  };
  if (values.json) {
    console.log(JSON.stringify({ ...figures, recipe, losses: { node: node.losses, python: python?.losses } }));
    return;
  }
  progress();
  console.log(`validation loss after ${figures.steps} updates: torchbind ${node.validationLoss.toFixed(4)}`);
  if (python === null) return;
  console.log(`the same in Python: ${python.validationLoss.toFixed(4)}`);
  const same = figures.equalLosses < 0 ? 'all' : `the first ${figures.equalLosses}`;
  console.log(`losses of updates that are equal to the bit: ${same}`);
  console.log(`largest difference of the first 200: ${figures.largestDifferenceOfFirst200.toExponential(1)}`);
  console.log(`largest difference: ${figures.largestDifference.toExponential(1)}`);
  const { node: here, python: there } = figures.secondsOfUpdates;
  console.log(`seconds of updates: torchbind ${here.toFixed(1)}, Python ${there.toFixed(1)}`);
}

function progress(side, step) {
  if (!process.stderr.isTTY) return;
  process.stderr.write(side === undefined ? '\r\u001b[K' : `\r${side}: ${step} of ${recipe.max_iters}`);
}
