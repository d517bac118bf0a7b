// Training steps of torchbind and Python side by side: time, peak memory, the floor of the matrix products, and losses.
//
//   node bench/training.mjs [--models m6,g124,s6,s4] [--rounds 3] [--steps 5] [--threads N]
//                           [--sides auto,stock,chunked,autocast,python,python-autocast,compile]
//   node bench/training.mjs --losses 200 [--models s6]
//
// Each side is a process of its own, because kernels cannot change within one and its peak memory is its own. A round starts each
// side once, which takes two steps to warm up and then those that are timed; medians count. The floor is the time of a step's matrix
// products alone, by the kernels of `auto`.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Partner } from './partner.mjs';

const GPT2 = 50257;
const MODELS = {
  m6: { vocab_size: GPT2, block_size: 256, batch_size: 4, n_layer: 6, n_head: 6, n_embd: 384 },
  g124: { vocab_size: GPT2, block_size: 64, batch_size: 4, n_layer: 12, n_head: 12, n_embd: 768 },
  s6: { vocab_size: 65, block_size: 256, batch_size: 4, n_layer: 6, n_head: 6, n_embd: 384 },
  s4: { vocab_size: 65, block_size: 64, batch_size: 12, n_layer: 4, n_head: 4, n_embd: 128 },
};
const SEED = 1337;
const textFile = fileURLToPath(new URL('../examples/data/shrew.txt', import.meta.url));
const { values: options } = parseArgs({
  options: {
    models: { type: 'string', default: 'm6,g124,s6,s4' },
    sides: { type: 'string', default: 'auto,stock,chunked,autocast,python,python-autocast,compile' },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    losses: { type: 'string' },
  },
});

if (process.send) await serve();
else if (options.losses === undefined) await times();
else await losses(Number(options.losses));

async function times() {
  process.env.OMP_NUM_THREADS = options.threads; // read by libtorch when it starts its threads, here and in Python
  const [rounds, steps] = [options.rounds, options.steps].map(Number);
  console.log(
    `${os.cpus()[0]?.model}, ${options.threads} thread(s), Node ${process.version}; ${rounds} rounds of ${steps} steps\n`,
  );
  console.log('| model | side | ms a step | against Python | against the floor | peak memory, MB | against Python |');
  console.log('|---|---|---|---|---|---|---|');
  for (const model of options.models.split(',')) {
    const sides = new Map(options.sides.split(',').map((name) => [name, { ms: [], peak: [] }]));
    const floor = [];
    for (let round = 0; round < rounds; round++) {
      for (const [name, side] of sides) {
        const result = await run(name, { config: MODELS[model], steps });
        side.ms.push(...result.ms);
        side.peak.push(result.peak);
      }
      floor.push((await run('floor', { config: MODELS[model], steps })).ms);
    }
    const least = median(floor.flat());
    const python = sides.get('python');
    const against = (values, others) => (others === undefined ? '' : (median(values) / median(others)).toFixed(2));
    for (const [name, { ms, peak }] of sides) {
      const columns = [
        median(ms).toFixed(1),
        against(ms, name === 'autocast' ? sides.get('python-autocast')?.ms : python?.ms),
        (median(ms) / least).toFixed(2),
        median(peak).toFixed(0),
        against(peak, python?.peak),
      ];
      console.log(`| ${model} | ${name} | ${columns.join(' | ')} |`);
    }
    console.log(`| ${model} | products alone | ${least.toFixed(1)} | | 1 | | |`);
  }
  console.log('\n`autocast` is compared with `python-autocast`, the others with `python`.');
}

/** The largest relative difference of losses on the same batches of text, by both kernels. */
async function losses(count) {
  process.env.OMP_NUM_THREADS = options.threads;
  for (const model of options.models.split(',')) {
    const request = { config: MODELS[model], losses: count };
    const python = await run('python', request);
    for (const name of ['stock', 'auto', 'chunked']) {
      const own = await run(name, request);
      const differences = own.losses.map((loss, i) => Math.abs(loss / python.losses[i] - 1));
      console.log(
        `${model}, ${name}: loss ${own.losses[0].toFixed(4)} to ${own.losses.at(-1).toFixed(4)} in ${count} steps; ` +
          `largest relative difference from Python ${Math.max(...differences).toExponential(1)}`,
      );
    }
  }
}

/** Starts a side, and returns what it measured. */
async function run(name, request) {
  if (name === 'compile' || name.startsWith('python')) {
    const partner = await Partner.start('training.py');
    try {
      return await partner.ask({ ...request, side: name, threads: Number(options.threads), text: textFile });
    } finally {
      await partner.stop();
    }
  }
  const env = { ...process.env, TORCHBIND_CPU_KERNELS: name === 'stock' ? 'stock' : 'auto' };
  const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), { env });
  child.send({ ...request, side: name });
  const [answer] = await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(([code]) => Promise.reject(new Error(`${name} ended with status ${code}`))),
  ]);
  return answer;
}

/** A child: measures what it is asked for, and ends. */
async function serve() {
  const [request] = await once(process, 'message');
  const measure = request.side === 'floor' ? products : training;
  process.send(await measure(request), () => process.exit(0));
}

async function training({ side, config, steps, losses }) {
  const torch = await import('../dist/index.mjs');
  torch.manualSeed(SEED);
  const { vocab_size: vocabSize, block_size: blockSize, n_layer: nLayer, n_head: nHead, n_embd: nEmbd } = config;
  const model = new torch.GPT({ vocabSize, blockSize, nLayer, nHead, nEmbd, dropout: 0 });
  model.chunkedLoss = side === 'chunked';
  const optimizer = new torch.optim.AdamW(model.parameters(), { lr: 1e-3 });
  const lossOf = (x, y) =>
    side === 'autocast'
      ? torch.autocast({ device: 'cpu', dtype: 'bfloat16' }, () => model.loss(x, y))
      : model.loss(x, y);
  const step = (x, y) =>
    torch.tidy(() => {
      optimizer.zeroGrad();
      const loss = lossOf(x, y);
      loss.backward();
      optimizer.step();
      return loss.item();
    });
  if (losses !== undefined) {
    const tokens = torch.tensor(
      [...readFileSync(textFile)].map((byte) => byte % vocabSize),
      { dtype: 'int64' },
    );
    return { losses: Array.from({ length: losses }, (_, i) => step(...batch(tokens, config, i))) };
  }
  const drawn = torch.randint(vocabSize, [2, config.batch_size, blockSize]);
  const [x, y] = [drawn.select(0, 0), drawn.select(0, 1)]; // (B, T) each
  for (let i = 0; i < 2; i++) step(x, y);
  const ms = Array.from({ length: steps }, () => timed(() => step(x, y)));
  return { ms, peak: peakMemory() };
}

/** Inputs and targets (B, T) of a step: the text from one place after the other. */
function batch(tokens, { batch_size: B, block_size: T }, step) {
  const start = (step * B * T) % (tokens.numel() - B * T - 1);
  return [0, 1].map((shift) => tokens.narrow(0, start + shift, B * T).view([B, T]));
}

/** The products of a step: those of Linears, forward and backward for input and weight, and those of attention. */
async function products({ config, steps }) {
  const torch = await import('../dist/index.mjs');
  const { vocab_size: V, n_layer: layers, n_embd: C, n_head, batch_size: B, block_size: T } = config;
  const N = B * T;
  const [heads, size] = [B * n_head, C / n_head];
  const shapes = [
    ...Array(layers)
      .fill([
        [C, 3 * C],
        [C, C],
        [C, 4 * C],
        [4 * C, C],
      ])
      .flat(),
    [C, V],
  ]; // (in, out)
  const made = new Map();
  const of = (...shape) => {
    const key = shape.join();
    if (!made.has(key)) made.set(key, torch.keep(torch.randn(shape)));
    return made.get(key);
  };
  const step = () =>
    torch.tidy(() => {
      for (const [from, to] of shapes) {
        const [input, weight, grad] = [of(N, from), of(to, from), of(N, to)];
        torch.tidy(() => void input.matmul(weight.t()));
        torch.tidy(() => void grad.matmul(weight));
        torch.tidy(() => void grad.t().matmul(input));
      }
      for (let i = 0; i < layers; i++) {
        // Each position sees half of the positions on average. Backward computes the weights again.
        const [q, k, weights] = [of(heads, T / 2, size), of(heads, T, size), of(heads, T / 2, T)];
        for (let n = 0; n < 3; n++) torch.tidy(() => void q.bmm(k.transpose(1, 2))); // scores, twice; gradient of the weights
        for (let n = 0; n < 2; n++) torch.tidy(() => void weights.bmm(k)); // result; gradient of the queries
        for (let n = 0; n < 2; n++) torch.tidy(() => void weights.transpose(1, 2).bmm(q)); // gradients of keys and values
      }
    });
  for (let i = 0; i < 2; i++) step();
  return { ms: Array.from({ length: steps }, () => timed(step)) };
}

/** The most memory that this process has had, in MB. */
function peakMemory() {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1e3;
}

function timed(run) {
  const began = performance.now();
  run();
  return performance.now() - began;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
