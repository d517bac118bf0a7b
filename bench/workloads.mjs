// What is measured, and Node's side of it; partner.py holds Python's.
const SEED = 1337; // as in partner.py
const CALLS = 2000; // in a round's timing; 100 of them in a scope
const REPEAT = 20; // timings a round

/** One round: times in nanoseconds, and what the sides must agree on. @typedef {{ times: number[], check: unknown }} Round */

const SMALL = { vocab_size: 65, block_size: 64, batch_size: 12, n_layer: 4, n_head: 4, n_embd: 128, dropout: 0 };
const LARGE = { vocab_size: 65, block_size: 256, batch_size: 4, n_layer: 6, n_head: 6, n_embd: 384, dropout: 0 };

/** GPT-2's vocabulary: the loss and the head are most of a step. */
const LARGE_VOCABULARY = { ...LARGE, vocab_size: 50257 };
const GPT2 = { ...LARGE_VOCABULARY, block_size: 64, n_layer: 12, n_head: 12, n_embd: 768 };

/** What `--growth` varies, one thing at a time, around the model of `LARGE`. */
const GROWTH = {
  centre: {},
  'layers-2': { n_layer: 2 },
  'layers-12': { n_layer: 12 },
  'width-128': { n_embd: 128, n_head: 2 },
  'width-768': { n_embd: 768, n_head: 12 },
  'batch-1': { batch_size: 1 },
  'batch-16': { batch_size: 16 },
  'context-64': { block_size: 64 },
  'context-1024': { block_size: 1024 },
};

export const workloads = [
  call('add', '`a.add(b)`, 8 floats', (torch) => {
    const [a, b] = [torch.ones(8), torch.ones(8)];
    return () => a.add(b);
  }),
  call('view', '`a.view(2, 4)`, 8 floats', (torch) => {
    const a = torch.ones(8);
    return () => a.view(2, 4);
  }),
  call('matmul', '`a.matmul(b)`, 16 x 16', (torch) => {
    const [a, b] = [torch.ones(16, 16), torch.ones(16, 16)];
    return () => a.matmul(b);
  }),
  call('sum', '`a.sum()`, 8 floats', (torch) => {
    const a = torch.ones(8);
    return () => a.sum();
  }),
  trainingStep('step-small', SMALL, 5),
  trainingStep('step-large', LARGE, 2),
  trainingStep('step-vocabulary', LARGE_VOCABULARY, 1),
  trainingStep('step-gpt2', GPT2, 1),
  generation('generate-small', SMALL, 63, 5),
  generation('generate-large', LARGE, 200, 2),
];

/** Steps and generation of models that differ from the centre in one thing. Python's fused model alone: the other is slower. */
export const growth = Object.entries(GROWTH).flatMap(([name, change]) => {
  const config = { ...LARGE, ...change };
  const tokens = Math.min(100, config.block_size - 1);
  const cells = [trainingStep(`step ${name}`, config, 1)];
  // The size of a batch says nothing of one sequence.
  if (change.batch_size === undefined) cells.push(generation(`generate ${name}`, config, tokens, 5));
  return cells.map((cell) => ({ ...cell, python: cell.python.slice(1) }));
});

/** What one call of a small operator costs. `prepare` makes its arguments and gives the call. */
function call(name, description, prepare) {
  return {
    name,
    description,
    unit: 'ns',
    quantile: 0.1,
    node: [
      { label: 'Node', run: () => calls(prepare, (torch, run) => torch.tidy(run)) },
      { label: 'Node, no scope', run: () => calls(prepare, (torch, run) => run()) },
    ],
    python: [{ label: 'Python eager', request: { workload: 'call', call: name, repeat: REPEAT, inner: CALLS } }],
    measure: (ns) => ns,
    agree: (a, b) => a === b,
  };
}

function size({ n_layer, n_embd, n_head }) {
  return `${n_layer} layers / ${n_embd} / ${n_head} heads`;
}

function trainingStep(name, config, repeat) {
  return {
    name,
    description: `training step, ${size(config)}, batch ${config.batch_size} x ${config.block_size}`,
    unit: 'ms',
    node: [{ label: 'Node', run: () => steps(name, config, repeat) }],
    python: ['eager', 'fused'].map((variant) => ({
      label: `Python ${variant}`,
      request: { workload: 'step', variant, config, repeat },
    })),
    measure: (ns) => ns / 1e6,
    agree: (a, b) => Math.abs(a - b) < 1e-5,
  };
}

function generation(name, config, count, repeat) {
  return {
    name,
    description: `generation, ${size(config)}, ${count} tokens`,
    unit: 'tokens/s',
    higherIsBetter: true,
    node: [{ label: 'Node', run: () => generations(name, config, count, repeat) }],
    python: ['eager', 'fused'].map((variant) => ({
      label: `Python ${variant}`,
      request: { workload: 'generate', variant, config, count, repeat },
    })),
    measure: (ns) => (count * 1e9) / ns,
    agree: (a, b) => JSON.stringify(a) === JSON.stringify(b),
  };
}

/** libtorch reads the number of threads when it is loaded, which must be after the options were read. */
const torchbind = () => import('../dist/index.mjs');

const prepared = new Map();

/** What `make` gives, made at the first call for a name. */
async function once(name, make) {
  if (!prepared.has(name)) prepared.set(name, await make());
  return prepared.get(name);
}

/** @returns {Promise<Round>} */
async function calls(prepare, scope) {
  const torch = await torchbind();
  const once = prepare(torch);
  const hundred = () => {
    for (let i = 0; i < 100; i++) once();
  };
  const run = () => {
    for (let i = 0; i < CALLS / 100; i++) scope(torch, hundred);
  };
  const times = [];
  for (let i = 0; i < REPEAT; i++) times.push(timed(run) / CALLS);
  return { times, check: torch.tidy(() => once().sum().item()) };
}

/** @returns {Promise<Round>} */
async function steps(name, config, repeat) {
  const { step, firstLoss } = await once(name, () => trainer(config));
  return { times: Array.from({ length: repeat }, () => timed(step)), check: firstLoss };
}

async function trainer(config) {
  const torch = await torchbind();
  torch.manualSeed(SEED);
  const model = new torch.GPT(camelCase(config));
  const drawn = torch.randint(config.vocab_size, [2, config.batch_size, config.block_size]);
  const [x, y] = [drawn.select(0, 0), drawn.select(0, 1)]; // (B, T) each
  const optimizer = new torch.optim.AdamW(model.parameters(), { lr: 1e-3 });
  const step = () =>
    torch.tidy(() => {
      const { loss } = model.forward(x, y);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss.item();
    });
  return { step, firstLoss: step() };
}

/** @returns {Promise<Round>} */
async function generations(name, config, count, repeat) {
  const model = await once(name, () => generator(config));
  const generate = () => model.generate(model.tokenizer.decode([0]), { maxNewTokens: count, greedy: true });
  const times = [];
  let text = '';
  for (let i = 0; i < repeat; i++) {
    const began = process.hrtime.bigint();
    text = await generate();
    times.push(Number(process.hrtime.bigint() - began));
  }
  return { times, check: Array.from(model.tokenizer.encode(text)) };
}

async function generator(config) {
  const torch = await torchbind();
  torch.manualSeed(SEED);
  // Any characters will do, as long as token i is the i-th.
  const chars = Array.from({ length: config.vocab_size }, (_, i) => String.fromCharCode(0x30 + i));
  return new torch.GPT(camelCase(config), { tokenizer: new torch.CharTokenizer(chars) });
}

function camelCase(config) {
  return Object.fromEntries(
    Object.entries(config).map(([key, value]) => [key.replace(/_(.)/g, (_, letter) => letter.toUpperCase()), value]),
  );
}

function timed(run) {
  const began = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - began);
}
