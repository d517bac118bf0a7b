/** The same seed gives the same bits in Node as in Python: draws, initial weights of layers, saved generator states. */
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  Generator,
  dropout,
  empty,
  getRngState,
  load,
  manualSeed,
  multinomial,
  nn,
  rand,
  randint,
  randn,
  randperm,
  setRngState,
  tensor,
} from '../../lib/index';
import type { Tensor } from '../../lib/index';
import { pythonTimeout, runPython } from '../helpers/python';
import { expectSameBits } from '../helpers/tensors';
import { sharedTemporaryDirectory } from '../helpers/tmp';

/** Same names, same calls, same order as in random_oracle.py. */
const DRAWS: Record<string, () => Tensor> = {
  randn: () => randn(5),
  'randn 2-D': () => randn(37, 53),
  'randn float64': () => randn(100, { dtype: 'float64' }),
  'randn bfloat16': () => randn(100, { dtype: 'bfloat16' }),
  rand: () => rand(3, 17),
  'rand float64': () => rand(19, { dtype: 'float64' }),
  randint: () => randint(1000, [64]),
  'randint low': () => randint(-5, 2 ** 40, [33]),
  'randint int32': () => randint(7, [9], { dtype: 'int32' }),
  randperm: () => randperm(10),
  'randperm long': () => randperm(70_000),
  normal_: () => empty(20, 3).normal_(0.5, 0.02),
  uniform_: () => empty(11, 3).uniform_(-0.25, 0.75),
  bernoulli_: () => empty(50).bernoulli_(0.3),
  exponential_: () => empty(50).exponential_(1.5),
  multinomial: () => multinomial(tensor([0.1, 0.2, 0.3, 0.4]), 100, true),
  dropout: () => dropout(tensor(new Array(200).fill(1), { dtype: 'float32' }), 0.2, true),
};

const LAYERS: Record<string, () => nn.Module> = {
  Linear: () => new nn.Linear(7, 5),
  'Linear without bias': () => new nn.Linear(33, 65, { bias: false }),
  Embedding: () => new nn.Embedding(11, 6),
  LayerNorm: () => new nn.LayerNorm(6),
  Sequential: () => new nn.Sequential(new nn.Linear(4, 16), new nn.ReLU(), new nn.Linear(16, 4), new nn.Dropout(0.1)),
};

type Tensors = Map<string, Tensor>;
type Oracle = Map<string, Map<string, unknown>>;

const SEEDS = ['0', '1337', '-1', '9223372036854775807'];
const directory = sharedTemporaryDirectory();
let oracle: Oracle;

beforeAll(async () => {
  const file = path.join(directory, 'random.pt');
  await runPython(path.join(__dirname, '../fixtures/random_oracle.py'), [file, ...SEEDS]);
  oracle = (await load(file)) as Oracle;
}, pythonTimeout);

describe.each(SEEDS)('seed %s', (seed) => {
  test('draws the same numbers', () => {
    const expected = oracle.get(seed)!.get('draws') as Tensors;
    expect([...expected.keys()]).toEqual(Object.keys(DRAWS));
    manualSeed(BigInt(seed));
    for (const [name, draw] of Object.entries(DRAWS)) expectSameBits(draw(), expected.get(name)!, name);
  });

  test('gives every layer the same initial weights', () => {
    const expected = oracle.get(seed)!.get('layers') as Map<string, Tensors>;
    expect([...expected.keys()]).toEqual(Object.keys(LAYERS));
    manualSeed(BigInt(seed));
    for (const [name, make] of Object.entries(LAYERS)) {
      const weights = make().stateDict();
      expect([...weights.keys()], `keys of ${name}`).toEqual([...expected.get(name)!.keys()]);
      for (const [key, weight] of weights) expectSameBits(weight, expected.get(name)!.get(key)!, `${name} ${key}`);
    }
  });

  test("continues from a state that Python's generator saved", () => {
    const expected = oracle.get(seed)!.get('resumed') as Tensors;
    const generator = new Generator();
    generator.setState(expected.get('state')!);
    expectSameBits(randn(21, { generator }), expected.get('next')!, 'generator');
    expectSameBits(generator.getState(), expected.get('after')!, 'state of the generator');

    setRngState(expected.get('state')!);
    expectSameBits(randn(21), expected.get('next')!, 'default generator');
    expectSameBits(getRngState(), expected.get('after')!, 'state of the default generator');
  });
});
