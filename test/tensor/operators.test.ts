import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  arange,
  cat,
  empty,
  eye,
  full,
  grad,
  linspace,
  manualSeed,
  ones,
  ops,
  rand,
  randint,
  randn,
  randperm,
  stack,
  tensor,
  Tensor,
  where,
  zeros,
} from '../../lib/index';
import type { NestedValues } from '../../lib/index';
import { pythonJson, pythonTimeout } from '../helpers/python';

interface Described {
  dtype: string;
  shape: number[];
  values: unknown;
  text: string;
}

let oracle: Record<string, Described | Described[]>;

beforeAll(async () => {
  oracle = await pythonJson(path.join(__dirname, 'oracle.py'));
}, pythonTimeout);

/** NaN has no JSON form: the oracle gives null for it. Complex numbers are left to the printed text. */
function plain(values: NestedValues): unknown {
  if (Array.isArray(values)) return values.map(plain);
  return typeof values === 'number' && Number.isNaN(values) ? null : values;
}

function expectEqual(actual: Tensor, expected: Described): void {
  expect(actual.dtype).toBe(expected.dtype);
  expect(actual.shape).toEqual(expected.shape);
  expect(plain(actual.tolist())).toEqual(expected.values);
}

function check(name: string, actual: Tensor | Tensor[]): void {
  const expected = oracle[name]!;
  if (actual instanceof Tensor) expectEqual(actual, expected as Described);
  else actual.forEach((item, i) => expectEqual(item, (expected as Described[])[i]!));
}

const x = (): Tensor => arange(6, { dtype: 'float32' }).view(2, 3);
const ids = (): Tensor => tensor([3, 1, 2]);
const half = (): Tensor => tensor([1.5, -2.25, 1e-5], { dtype: 'float16' });

test('the same seed gives the same random numbers as in Python, bit for bit', () => {
  manualSeed(7);
  check('randn', randn(3, 2));
  check('rand', rand([5]));
  check('randint', randint(-4, 9, [6]));
  check('randperm', randperm(10));
  check('normal_', empty(20).normal_(1, 2));
});

const cases: Record<string, () => Tensor | Tensor[]> = {
  arange: () => arange(2, 11, 3),
  linspace: () => linspace(0, 1, 5),
  eye: () => eye(2, 3),
  int_tensor: () =>
    tensor([
      [1, 2],
      [3, 4],
    ]),
  float_tensor: () => tensor([1.5, 2, 3]),
  bool_tensor: () => tensor([true, false]),
  full_int: () => full([2], 3),
  int_plus_float: () => ids().add(0.5),
  int_div: () => ids().div(2),
  int_floor_div: () => ids().div(2, { roundingMode: 'floor' }),
  half_times_int: () => half().mul(2),
  half_plus_float: () => half().add(ones(3)),
  sum_dim: () => x().sum(-1, true),
  mean: () => x().mean(),
  max_dim: () => [...x().max(1)],
  topk: () => [...ids().topk(2)],
  sort: () => [...ids().sort({ descending: true })],
  where: () => where(x().gt(2), x(), 0),
  masked_fill: () => x().maskedFill(x().gt(3), -Infinity),
  softmax: () => x().softmax(-1),
  cat: () => cat([x(), x()], 1),
  stack: () => stack([ids(), ids()]),
  split: () => x().split([1, 2], 1),
  chunk: () => x().chunk(3, -1),
  std: () => x().std(),
  var_dim: () => x().var(1, { unbiased: false }),
  add_alpha: () => x().add(x(), { alpha: 3 }),
  clamp: () => x().clamp({ min: 1, max: 4 }),
  permute: () => x().permute(1, 0),
};

describe('operators give what PyTorch gives', () => {
  test.each(Object.keys(cases))('%s', (name) => check(name, cases[name]!()));
});

test('console.log prints tensors as Python does', () => {
  const prints: Record<string, Tensor> = {
    float_tensor: tensor([1.5, 2, 3]),
    int_tensor: cases['int_tensor']!() as Tensor,
    scientific: tensor([1e-7, 1]),
    special: tensor([NaN, Infinity, 1]),
    wide_range: tensor([1, 5000], { dtype: 'float32' }),
    zeros_and_inf: tensor([0, -Infinity]),
    negative: tensor([
      [-1, 0.25],
      [10.5, 3],
    ]),
    long: arange(3000),
    long_matrix: zeros(1200, 3),
    scalar: tensor(3),
    three_d: arange(8).view(2, 2, 2),
    softmax: x().softmax(-1),
  };
  for (const [name, value] of Object.entries(prints)) expect(value.toString()).toBe((oracle[name] as Described).text);
  expect(tensor([[1, 2.5]], { dtype: 'bfloat16' }).toString()).toBe('tensor([[1.0000, 2.5000]], dtype=bfloat16)');
  const complex = tensor([
    { re: 1.5, im: -2 },
    { re: 3, im: 4 },
  ]);
  expect(complex.toString()).toBe('tensor([1.5000-2.j, 3.0000+4.j])');
  expect(tensor([true, false]).toString()).toBe('tensor([ true, false])');
  expect(zeros(0, 3).toString()).toBe('tensor([], size=[0, 3])');
});

test('backward and higher derivatives', () => {
  const y = tensor([0.5, -1, 2], { requiresGrad: true });
  y.mul(y).sum().backward();
  check('grad', y.grad!);
  const z = tensor([2], { dtype: 'float32', requiresGrad: true });
  const [first] = grad(z.pow(3), z, { createGraph: true });
  const [second] = grad(first!, z);
  check('second_derivative', second!);
});

test('in-place operators return the tensor itself', () => {
  const t = zeros(3);
  expect(t.add_(1)).toBe(t);
  expect(t.tolist()).toEqual([1, 1, 1]);
  expect(ops.aten.mul_.Scalar(t, 2)).toBe(t);
});

test('out= operators write into the tensor given and return it', () => {
  const out = empty(2);
  expect(ops.aten.add.out(ones(2), ones(2), { out })).toBe(out);
  expect(out.tolist()).toEqual([2, 2]);
});

test('raw operators are reached by PyTorch names, with and without the overload', () => {
  expect((ops.aten.add.Tensor(ones(1), ones(1), { alpha: 4 }) as Tensor).item()).toBe(5);
  expect((ops.aten.relu.default(tensor([-1.5])) as Tensor).item()).toBe(0);
  expect((ops.aten.sum(ones(3)) as Tensor).item()).toBe(3);
});

describe('a list of numbers that may be null (Scalar?[])', () => {
  const multiply = (...args: unknown[]): Tensor => ops.mkldnn!._linear_pointwise!(...args);
  const float = (values: number[] | number[][]): Tensor => tensor(values, { dtype: 'float32' });
  const operands = (): [Tensor, Tensor, Tensor] => [float([[1, -2]]), float([[3, 4], [5, 1]]), float([0.5, -4])]; // prettier-ignore

  test('is taken empty, with numbers and with null', () => {
    const [x, weight, bias] = operands();
    expect(multiply(x, weight, bias, 'none', [], '').tolist()).toEqual([[-4.5, -1]]);
    expect(multiply(x, weight, null, 'none', [null, 1], '').tolist()).toEqual([[-5, 3]]);
    expect(multiply(x, weight, null, 'leaky_relu', [0.5], '').tolist()).toEqual([[-2.5, 3]]);
    expect(multiply(x, weight, null, 'hardtanh', [-1, 2], null).tolist()).toEqual([[-1, 2]]);
  });

  test('is refused where it is none, and the operator refuses what it would read beyond', () => {
    const [x, weight, bias] = operands();
    expect(() => multiply(x, weight, null, 'none', 1, '')).toThrow(/Scalar\?\[\]|arguments/);
    expect(() => multiply(x, weight, null, 'none', ['a'], '')).toThrow(/scalars|arguments/);
    for (const [input, matrix, vector] of [
      [float([[1, 2, 3]]), weight, null],
      [float([1, -2]), weight, null],
      [x, float([1, 2]), null],
      [x, weight, float([1])],
      [x, weight.to('float64'), null],
      [x, weight, bias.to('bfloat16')],
      [x.to('int64'), weight.to('int64'), null],
    ]) {
      expect(() => multiply(input, matrix, vector, 'none', [], '')).toThrow(/weight|bias/);
    }
  });
});

test('complex numbers come and go', () => {
  const c = tensor([
    { re: 1, im: 2 },
    { re: 3, im: -4 },
  ]);
  expect(c.dtype).toBe('complex64');
  expect(c.mul({ re: 0, im: 1 }).tolist()).toEqual([
    { re: -2, im: 1 },
    { re: 4, im: 3 },
  ]);
});
