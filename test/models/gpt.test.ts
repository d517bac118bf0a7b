/**
 * The model against PyTorch: the example program's own and its relatives. Python runs twice: for the reference, and to
 * judge what Node saved.
 */
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { load, save } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt/gpt';
import { configFromJson, detectLayout } from '../../lib/models';
import { layoutParameters, partOf } from '../../lib/models/layouts/layout';
import { AdamW } from '../../lib/optim';
import { noGrad } from '../../lib/tensor/autograd';
import { empty, tensor } from '../../lib/tensor/creation';
import { cat } from '../../lib/tensor/generated/functions';
import { manualSeed } from '../../lib/tensor/random';
import { memory, tidy } from '../../lib/tensor/scope';
import { Tensor } from '../../lib/tensor/tensor';
import { pythonJson, pythonTimeout, runPython } from '../helpers/python';
import { expectClose, expectSameBits } from '../helpers/tensors';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const SEED = 42;

const CASES = [
  'seed',
  'bias',
  'one head, one layer',
  'gelu',
  'gelu tanh',
  'scale by channels',
  'no biases',
  'tied',
  'post-norm',
  'lecture',
] as const;

/** Cases whose Python model is built by its constructor alone, so that equal seeds must give equal weights. */
const SEEDED = ['seed', 'bias', 'one head, one layer', 'tied', 'lecture'];

/** Float32: the sides sum in other orders (fused projections, SDPA). Updates carry that on. */
const TOLERANCE = 1e-5;

interface Case {
  config: Map<string, unknown>;
  layout: string;
  initial: Map<string, Tensor>;
  /** (updates, 2, B, T): inputs and targets. */
  batches: Tensor;
  logits: Tensor;
  grads: Map<string, Tensor>;
  losses: Tensor[];
  final: Map<string, Tensor> & { attributes: Map<string, unknown> };
  optimizer: Map<string, unknown>;
  greedy: Tensor;
}

const script = path.join(__dirname, 'reference.py');
const directory = sharedTemporaryDirectory();
let cases: Map<string, Map<string, unknown>>;

beforeAll(async () => {
  const file = path.join(directory, 'reference.pt');
  await runPython(script, [file]);
  cases = (await load(file, { exact: true })) as Map<string, Map<string, unknown>>;
}, pythonTimeout);

function caseOf(name: string): Case {
  return Object.fromEntries(cases.get(name)!) as unknown as Case;
}

function makeModel({ config, layout }: Case, init = false): GPT {
  const plain = Object.fromEntries(
    [...config].map(([key, value]) => [key, typeof value === 'object' ? Number(value) : value]),
  );
  return new GPT(configFromJson(plain), { layout, init });
}

function modelWith(reference: Case, weights: Map<string, Tensor>): GPT {
  const model = makeModel(reference);
  model.loadStateDict(weights);
  return model;
}

function batch({ batches }: Case, update: number): [Tensor, Tensor] {
  return batches.select(0, update).unbind(0) as [Tensor, Tensor];
}

/** One update, as the Python program makes it. Returns the loss. */
function update(model: GPT, optimizer: AdamW, idx: Tensor, targets: Tensor): number {
  return tidy(() => {
    const { loss } = model.forward(idx, targets);
    optimizer.zeroGrad();
    loss!.backward();
    optimizer.step();
    return Number(loss!.item());
  });
}

function expectSameTree(actual: unknown, expected: unknown, where: string): void {
  if (expected instanceof Tensor) expectSameBits(actual as Tensor, expected, where);
  else if (expected instanceof Map) {
    expect([...(actual as Map<unknown, unknown>).keys()], `keys of ${where}`).toEqual([...expected.keys()]);
    for (const [key, value] of expected)
      expectSameTree((actual as Map<unknown, unknown>).get(key), value, `${where}.${String(key)}`);
  } else if (Array.isArray(expected)) {
    expect((actual as unknown[]).length, `length of ${where}`).toBe(expected.length);
    expected.forEach((value, i) => expectSameTree((actual as unknown[])[i], value, `${where}[${i}]`));
  } else expect(actual, where).toEqual(expected);
}

describe.each(CASES)('%s', (name) => {
  test('gives the logits and gradients that PyTorch gives', () => {
    const reference = caseOf(name);
    const model = modelWith(reference, reference.initial);
    const { logits, loss } = model.forward(...batch(reference, 0));
    expectClose(logits, reference.logits, TOLERANCE, 'logits');
    loss!.backward();
    const parameters = new Map(model.namedParameters());
    const lines = layoutParameters(model.layout, model.config);
    expect(lines.map(({ key }) => key)).toEqual([...reference.grads.keys()]);
    for (const line of lines) {
      const gradient = partOf(parameters.get(line.parameter)!.grad!, line);
      expectClose(gradient, reference.grads.get(line.key)!, TOLERANCE, line.key);
    }
  });

  test('gives back weights and optimizer state as they came, to the bit', () => {
    const reference = caseOf(name);
    const model = modelWith(reference, reference.final);
    const state = model.stateDict();
    expectSameTree(state, reference.final, 'weights');
    expectSameTree(state.attributes, reference.final.attributes, 'attributes');
    const optimizer = new AdamW(model.parameters());
    model.loadOptimizerStateDict(optimizer, reference.optimizer);
    expectSameTree(model.optimizerStateDict(optimizer), reference.optimizer, 'optimizer');
  });

  test('trains as PyTorch does', () => {
    const reference = caseOf(name);
    const model = modelWith(reference, reference.initial);
    const optimizer = new AdamW(model.parameters(), { lr: 1e-2 });
    const losses = reference.losses.map((_, i) => update(model, optimizer, ...batch(reference, i)));
    losses.forEach((loss, i) => expect(Math.abs(loss - Number(reference.losses[i]!.item()))).toBeLessThan(TOLERANCE));
  });

  test('takes the same tokens greedily, with and without a cache, past the end of the context', () => {
    const reference = caseOf(name);
    const model = modelWith(reference, reference.final);
    expect(greedy(model, reference.greedy).tolist()).toEqual(reference.greedy.tolist());
    expect(greedyCached(model, reference.greedy).tolist()).toEqual(reference.greedy.tolist());
  });
});

const PROMPT = 3;

function greedy(model: GPT, expected: Tensor): Tensor {
  let idx = expected.narrow(1, 0, PROMPT);
  while (idx.size(1) < expected.size(1)) {
    const context = idx.slice(1, -model.config.blockSize);
    const { logits } = noGrad(() => model.forward(context));
    idx = cat([idx, logits.select(1, -1).argmax(-1, true)], 1);
  }
  return idx;
}

function greedyCached(model: GPT, expected: Tensor): Tensor {
  let idx = expected.narrow(1, 0, PROMPT);
  const cache = model.makeCache();
  let fresh = idx;
  while (idx.size(1) < expected.size(1)) {
    if (cache.free < fresh.size(1)) {
      cache.reset();
      fresh = idx.slice(1, -model.config.blockSize);
    }
    fresh = model.forwardCached(fresh, cache).argmax(-1, true);
    idx = cat([idx, fresh], 1);
  }
  cache.dispose();
  return idx;
}

test.each(SEEDED)('%s: the seed gives the initial weights that it gives in Python, bit for bit', (name) => {
  const reference = caseOf(name);
  manualSeed(SEED);
  const model = makeModel(reference, true);
  expectSameTree(model.stateDict(), reference.initial, 'weights');
});

describe('what Node trained and saved', () => {
  test(
    'loads strictly in Python and continues to the same weights',
    async () => {
      const names = ['seed', 'bias', 'tied', 'lecture'];
      const runs = new Map<string, { model: GPT; loss: number }>();
      for (const name of names) {
        const reference = caseOf(name);
        const model = modelWith(reference, reference.initial);
        const optimizer = new AdamW(model.parameters(), { lr: 1e-2 });
        for (let i = 0; i < 3; i++) update(model, optimizer, ...batch(reference, i));
        await save(model.stateDict(), path.join(directory, `${name}.model.pt`));
        await save(model.optimizerStateDict(optimizer), path.join(directory, `${name}.optimizer.pt`));
        await save(batch(reference, 3), path.join(directory, `${name}.batch.pt`));
        runs.set(name, { model, loss: update(model, optimizer, ...batch(reference, 3)) });
      }
      const verdicts = await pythonJson<Record<string, { loss: number }>>(script, ['--judge', directory, ...names]);
      for (const [name, { model, loss }] of runs) {
        const { loss: pythonLoss, ...checks } = verdicts[name]!;
        expect(checks, name).toEqual({ keys: true, metadata: true, groups: true, steps: true });
        expect(Math.abs(pythonLoss - loss), name).toBeLessThan(TOLERANCE);
        const next = (await load(path.join(directory, `${name}.next.pt`))) as Map<string, Tensor>;
        // Softmax does not feel a bias of the keys: its gradient is rounding noise, which AdamW scales up to a full step.
        const felt = [...model.stateDict()].filter(([key]) => !key.endsWith('key.bias'));
        for (const [key, value] of felt) expectClose(value, next.get(key)!, 1e-4, `${name}: ${key}`);
      }
    },
    pythonTimeout,
  );
});

describe('a state dict that does not fit', () => {
  const config = { vocabSize: 5, blockSize: 4, nEmbd: 4, nHead: 2, nLayer: 1 };

  test("is refused in the file's own names, and nothing is loaded", () => {
    const model = new GPT(config);
    const before = model.tokenEmbedding.weight.clone();
    const state = model.stateDict();
    state.set('token_embedding_table.weight', empty(5, 4).fill_(1));
    state.delete('blocks.0.sa.heads.1.tril');
    state.set('blocks.0.sa.heads.0.key.weight', empty(3, 4));
    state.set('blocks.0.sa.qkv.weight', empty(12, 4));
    expect(() => model.loadStateDict(state)).toThrow(
      [
        'Missing key(s) in state_dict: "blocks.0.sa.heads.1.tril".',
        'Unexpected key(s) in state_dict: "blocks.0.sa.qkv.weight".',
        'size mismatch for blocks.0.sa.heads.0.key.weight: copying a param with shape torch.Size([3, 4]) from checkpoint, ' +
          'the shape in current model is torch.Size([2, 4]).',
      ].join('\n\t'),
    );
    expect(model.tokenEmbedding.weight.equal(before)).toBe(true);
  });

  test('is refused when its mask is not the causal one', () => {
    const model = new GPT(config);
    const state = model.stateDict();
    state.set('blocks.0.sa.heads.0.tril', empty(4, 4).fill_(1));
    expect(() => model.loadStateDict(state)).toThrow(
      /"blocks.0.sa.heads.0.tril" are not those that this model computes with/,
    );
  });

  test('is refused when tied weights differ', () => {
    const model = new GPT({ ...config, tieWeights: true });
    const state = model.stateDict();
    state.set('lm_head.weight', empty(5, 4).fill_(1));
    expect(() => model.loadStateDict(state)).toThrow(/"lm_head.weight" and "token_embedding_table.weight" differ/);
  });
});

describe('layouts', () => {
  test('are told apart by their keys', () => {
    for (const name of CASES) {
      const { final, layout } = caseOf(name);
      expect(detectLayout(final.keys()).name).toBe(layout);
    }
  });

  test.each([
    [
      ['transformer.wte.weight', 'transformer.h.0.attn.c_attn.weight'],
      /only the shapes of the weights tell them apart/,
    ],
    [
      ['conv1.weight'],
      /no layout that can be read. Its 1 key\(s\) begin with conv1.weight. Layouts that can be read: 'mypt'/,
    ],
  ])('that cannot be read are named: %s', (keys, message) => {
    expect(() => detectLayout(keys)).toThrow(message);
  });

  test('without a place for a parameter are refused', () => {
    const config = { vocabSize: 5, blockSize: 4, nEmbd: 4, nHead: 2, nLayer: 1 };
    expect(() => new GPT({ ...config, positionEncoding: 'rope' })).toThrow(
      /cannot hold a model of this config. .* Keys without a parameter: positionEmbedding.weight/,
    );
    expect(() => new GPT({ ...config, activation: 'swiglu' })).toThrow(/without a key: blocks.0.mlp.gate.weight/);
  });

  test('go by their names', () => {
    expect(() => new GPT({ vocabSize: 2 }, { layout: 'mypt2' })).toThrow(
      /Unknown checkpoint layout 'mypt2'. Did you mean 'mypt'\?/,
    );
  });
});

describe('tokens', () => {
  const model = new GPT({ vocabSize: 5, blockSize: 4, nEmbd: 4, nHead: 2, nLayer: 1 }).eval();

  test('beyond the context are refused', () => {
    expect(() => model.forward(tensor([[0, 1, 2, 3, 4]]))).toThrow(
      /at most 4 tokens, the model's context \(blockSize\), got 5/,
    );
    expect(() => model.forward(tensor([0, 1]))).toThrow(
      /should have shape \(batch, time\) with 1 or more tokens, but have \[2\]/,
    );
  });

  test('beyond the room in a cache, or of other batches, are refused and change nothing', () => {
    const cache = model.makeCache(1);
    model.forwardCached(tensor([[0, 1, 2]]), cache);
    expect(() => model.forwardCached(tensor([[3, 4]]), cache)).toThrow(/room for 1 of 4 positions, got 2 tokens/);
    expect(() => model.forwardCached(tensor([[3], [4]]), cache)).toThrow(/for 1 sequence\(s\), got 2/);
    expect([cache.length, cache.free]).toEqual([3, 1]);
    cache.dispose();
  });

  test('in one go, in pieces and one at a time give the same logits', () => {
    const idx = tensor([
      [0, 1, 2, 3],
      [4, 3, 2, 1],
    ]);
    const whole = noGrad(() => model.forward(idx)).logits.select(1, -1);
    for (const pieces of [[4], [1, 3], [2, 2], [1, 1, 1, 1]]) {
      const cache = model.makeCache(2);
      const logits = idx.split(pieces, 1).map((piece) => model.forwardCached(piece, cache));
      expectClose(logits.at(-1)!, whole, 1e-6, pieces.join(' + '));
      cache.dispose();
    }
  });

  test('leave nothing behind', () => {
    const cache = model.makeCache(1);
    const idx = tensor([[0]]);
    const count = (): number => memory().numTensors;
    tidy(() => {
      const before = count();
      model.forwardCached(idx, cache).dispose();
      expect(count()).toBe(before);
    });
    cache.dispose();
  });
});

test('dropout makes training differ and leaves evaluation alone', () => {
  const model = new GPT({ vocabSize: 5, blockSize: 4, nEmbd: 4, nHead: 2, nLayer: 1, dropout: 0.5 });
  const idx = tensor([[0, 1, 2, 3]]);
  expect(model.forward(idx).logits.equal(model.forward(idx).logits)).toBe(false);
  model.eval();
  expect(model.forward(idx).logits.equal(model.forward(idx).logits)).toBe(true);
});

test('a model is made with init: false without drawing numbers', () => {
  manualSeed(1);
  const expected = empty(3).uniform_();
  manualSeed(1);
  new GPT({ vocabSize: 5, blockSize: 4, nEmbd: 4, nHead: 2, nLayer: 1 }, { init: false });
  expectSameBits(empty(3).uniform_(), expected, 'next draw');
});
