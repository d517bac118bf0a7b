/** Layers, initialisers and functional forms against PyTorch: same seed, same bits; same weights, same results. */
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { load } from '../../lib/formats/pt';
import * as nn from '../../lib/nn';
import { empty, randn } from '../../lib/tensor/creation';
import { manualSeed } from '../../lib/tensor/random';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonTimeout, runPython } from '../helpers/python';
import { expectSameBits } from '../helpers/tensors';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const SEED = 1234;
const { functional: F, init } = nn;

/** Same names and calls as in oracle.py. */
const LAYERS: Record<string, [() => nn.Layer, number[]]> = {
  linear: [() => new nn.Linear(7, 5), [4, 7]],
  'linear without bias': [() => new nn.Linear(7, 5, { bias: false }), [2, 3, 7]],
  'layer norm': [() => new nn.LayerNorm(6), [4, 6]],
  'layer norm without bias': [() => new nn.LayerNorm(6, { bias: false }), [4, 6]],
  'layer norm plain, two dimensions, eps': [
    () => new nn.LayerNorm([3, 6], { eps: 1e-3, elementwiseAffine: false }),
    [4, 3, 6],
  ],
  gelu: [() => new nn.GELU(), [4, 6]],
  'gelu tanh': [() => new nn.GELU({ approximate: 'tanh' }), [4, 6]],
  relu: [() => new nn.ReLU(), [4, 6]],
  dropout: [() => new nn.Dropout(0.3), [40, 6]],
  sequential: [
    () =>
      new nn.Sequential(
        new nn.Linear(3, 8),
        new nn.ReLU(),
        new nn.Sequential(new nn.LayerNorm(8), new nn.Linear(8, 2)),
      ),
    [5, 3],
  ],
};

const INITS: Record<string, (weight: Tensor) => Tensor> = {
  'kaiming uniform': (w) => init.kaimingUniform_(w, { a: Math.sqrt(5) }),
  'kaiming uniform relu fan_out': (w) => init.kaimingUniform_(w, { mode: 'fan_out', nonlinearity: 'relu' }),
  'kaiming normal': (w) => init.kaimingNormal_(w, { a: 0.1 }),
  'xavier uniform': (w) => init.xavierUniform_(w, { gain: init.calculateGain('tanh') }),
  'xavier normal': (w) => init.xavierNormal_(w),
  uniform: (w) => init.uniform_(w, -2, 3),
  normal: (w) => init.normal_(w, 0.5, 0.02),
  constant: (w) => init.constant_(w, 0.1),
  ones: (w) => init.ones_(w),
  zeros: (w) => init.zeros_(w),
};

interface Oracle {
  layers: Map<string, Map<string, unknown>>;
  inits: Map<string, Tensor>;
  functions: Map<string, Tensor>;
}

const directory = sharedTemporaryDirectory();
let oracle: Oracle;

beforeAll(async () => {
  const file = path.join(directory, 'layers.pt');
  await runPython(path.join(__dirname, 'oracle.py'), [file]);
  oracle = Object.fromEntries((await load(file)) as Map<string, unknown>) as unknown as Oracle;
}, pythonTimeout);

describe.each(Object.keys(LAYERS))('%s', (name) => {
  test('starts from the same weights, gives the same outputs and gradients', () => {
    const expected = oracle.layers.get(name)!;
    const [make, shape] = LAYERS[name]!;
    manualSeed(SEED);
    const module = make();
    const x = randn(shape, { requiresGrad: true });
    const y = module.forward(x);
    y.square().sum().backward();

    const state = expected.get('state') as Map<string, Tensor>;
    expect([...module.stateDict().keys()]).toEqual([...state.keys()]);
    for (const [key, value] of module.stateDict()) expectSameBits(value, state.get(key)!, key);
    expectSameBits(x, expected.get('x') as Tensor, 'input');
    expectSameBits(y, expected.get('y') as Tensor, 'output');
    expectSameBits(x.grad!, expected.get('x_grad') as Tensor, 'gradient of the input');
    const gradients = expected.get('grads') as Map<string, Tensor>;
    expect(module.namedParameters().map(([key]) => key)).toEqual([...gradients.keys()]);
    for (const [key, parameter] of module.namedParameters()) expectSameBits(parameter.grad!, gradients.get(key)!, key);
  });
});

test.each(Object.keys(INITS))('init %s fills in the same values', (name) => {
  manualSeed(SEED);
  const weight = empty(24, 10, 3);
  expect(INITS[name]!(weight)).toBe(weight);
  expectSameBits(weight, oracle.inits.get(name)!, name);
});

test('initialisers work on parameters without recording', () => {
  const parameter = new nn.Parameter(empty(3, 2));
  init.kaimingUniform_(parameter);
  expect(parameter.isLeaf).toBe(true);
});

test('fans need two dimensions', () => {
  expect(() => init.kaimingUniform_(empty(3))).toThrow(/2 or more dimensions, but the shape is \[3\]/);
});

test('functional forms give the same results', () => {
  const f = oracle.functions;
  const get = (name: string): Tensor => f.get(name)!;
  const [logits, target, weight, table] = [get('logits'), get('target'), get('weight'), get('table')];
  const results: Record<string, Tensor> = {
    mean: F.crossEntropy(logits, target),
    sum: F.crossEntropy(logits, target, { reduction: 'sum' }),
    none: F.crossEntropy(logits, target, { reduction: 'none' }),
    weighted: F.crossEntropy(logits, target, { weight, labelSmoothing: 0.1 }),
    ignore: F.crossEntropy(logits, target.clamp({ min: 0 }), { ignoreIndex: 0 }),
    embedding: F.embedding(target.clamp({ min: 0 }), table),
    layer_norm: F.layerNorm(logits, [9], weight, null, 1e-3),
    log_softmax: F.logSoftmax(logits, -1),
    mse: F.mseLoss(logits, logits.mul(0.5)),
    mse_sum: F.mseLoss(logits, logits.mul(0.5), { reduction: 'sum' }),
  };
  for (const [name, result] of Object.entries(results)) expectSameBits(result, get(name), name);
});

test('misspelled options are refused with a suggestion', () => {
  expect(() => new nn.Linear(2, 2, { bais: false } as object)).toThrow(/unknown option 'bais'. Did you mean 'bias'\?/);
  expect(() => F.crossEntropy(empty(1, 2), empty(1), { reduction: 'avg' as 'mean' })).toThrow(
    /'none', 'mean' or 'sum'/,
  );
});

test('dropout acts only while training', () => {
  const dropout = new nn.Dropout(0.5);
  const x = randn(10);
  expect(dropout.eval().forward(x)).toBe(x);
  expect(() => new nn.Dropout(1.5)).toThrow(/between 0 and 1, but is number 1\.5/);
});
