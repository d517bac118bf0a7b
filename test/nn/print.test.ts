/** `console.log(module)` against Python's `repr`, character by character. */
import path from 'node:path';
import { format, inspect } from 'node:util';
import { expect, test } from 'vitest';
import { GPTModel } from '../../lib/models/gpt-model';
import * as nn from '../../lib/nn';
import { pythonJson, pythonTimeout } from '../helpers/python';

class Block extends nn.Module {
  norm = new nn.LayerNorm(4);
  mlp = new nn.Sequential(
    new nn.Linear(4, 8),
    new nn.GELU({ approximate: 'tanh' }),
    new nn.Linear(8, 4, { bias: false }),
  );
}

class Net extends nn.Module {
  embedding = new nn.Embedding(10, 4);
  blocks = new nn.ModuleList([new Block(), new Block(), new Block()]);
  mixed = new nn.ModuleList([new nn.ReLU(), new nn.ReLU(), new nn.Dropout(0.1), new nn.ReLU()]);
  head = new nn.Linear(4, 10);
}

class Noted extends nn.Module {
  override extraRepr(): string {
    return 'first=1\nsecond=2';
  }
}

class Parent extends nn.Module {
  child = new Noted();

  override extraRepr(): string {
    return 'size=3';
  }
}

/** In the order of print.py. */
const modules = (): nn.Module[] => [
  new nn.Module(),
  new nn.Linear(7, 5),
  new nn.Linear(7, 5, { bias: false }),
  new nn.Embedding(10, 3),
  new nn.Embedding(10, 3, { paddingIdx: -1 }),
  new nn.LayerNorm(6),
  new nn.LayerNorm([3, 6], { eps: 1e-3, elementwiseAffine: false }),
  new nn.LayerNorm(6, { bias: false, eps: 1.25e-12 }),
  new nn.RMSNorm(6),
  new nn.RMSNorm([3, 6], { eps: 1e-6, elementwiseAffine: false }),
  new nn.Dropout(),
  new nn.Dropout(0),
  new nn.Dropout(1),
  new nn.Dropout(1e-7),
  new nn.GELU(),
  new nn.GELU({ approximate: 'tanh' }),
  new nn.ReLU(),
  new nn.Sequential(),
  new nn.Sequential(new nn.ReLU(), new nn.ReLU(), new nn.Sequential(new nn.Linear(2, 2), new nn.Dropout(0.25))),
  new nn.ModuleList(),
  new nn.ModuleList([new nn.Linear(2, 2)]),
  new nn.ModuleList([new nn.Linear(2, 2), new nn.Linear(2, 2), new nn.Linear(2, 3)]),
  new nn.ModuleList([new nn.ModuleList([new nn.ReLU()]), new nn.ModuleList([new nn.ReLU()])]),
  new Noted(),
  new Parent(),
  new Net(),
];

test(
  'modules print as in Python',
  async () => {
    const expected = await pythonJson<string[]>(path.join(__dirname, 'print.py'));
    expect(modules().map((module) => format(module))).toEqual(expected);
    expect(modules().map(String)).toEqual(expected);
  },
  pythonTimeout,
);

test('a GPT prints its network, with equal blocks in one line', () => {
  const text = inspect(new GPTModel({ vocabSize: 9, blockSize: 8, nLayer: 3, nHead: 2, nEmbd: 4 }));
  expect(text).toMatch(/^GPTModel\(\n/);
  expect(text).toContain('(0-2): 3 x Block(\n');
  expect(text).toContain('Linear(in_features=4, out_features=12, bias=');
});

test('a quantized layer says how it is rounded', () => {
  const layer = new nn.QuantizedLinear(64, 8, { bits: 4, groupSize: 32 });
  expect(String(layer)).toBe('QuantizedLinear(in_features=64, out_features=8, bias=True, bits=4, group_size=32)');
});

test('a module below itself, and a prototype, print without an error', () => {
  const loop = new Noted();
  loop.registerModule('self', loop);
  expect(String(loop)).toBe('Noted(\n  first=1\n  second=2\n  (self): Noted(...)\n)');
  expect(() => [inspect(nn.Module.prototype), inspect(nn.ModuleList.prototype)]).not.toThrow();
});
