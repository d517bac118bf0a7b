import path from 'node:path';
import { expect, test } from 'vitest';
import { arange, newAxis, ones, slice, Tensor, tensor, tidy, TorchBindError, zeros } from '../../lib/index';
import type { IndexArray, TensorIndex } from '../../lib/index';
import { pythonJson, pythonTimeout } from '../helpers/python';

type Item =
  | ['int', number]
  | ['bool', boolean]
  | ['slice', (number | null)[]]
  | ['none', null]
  | ['ellipsis', null]
  | ['mask', IndexArray]
  | ['ints', IndexArray];

interface Case {
  shape: number[];
  numel: number;
  index: Item[];
  value: number | 'rows' | 'last';
}

interface Answer {
  error?: string;
  shape: number[];
  values: unknown;
  view: boolean;
  written: number[];
}

/** Random numbers that are the same in every run. */
function generator(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

const random = generator(20250101);
const pick = <T>(items: readonly T[]): T => items[random(items.length)]!;

function nested(shape: number[], value: () => number | boolean): IndexArray {
  const [size, ...rest] = shape;
  return Array.from({ length: size! }, () => (rest.length === 0 ? value() : nested(rest, value)));
}

function randomSlice(size: number): Item {
  const bound = (): number | null => (random(3) === 0 ? null : random(2 * size + 4) - size - 2);
  const step = pick([null, null, 1, 2, 3]);
  return ['slice', [bound(), bound(), step]];
}

/** An index for the dimensions from `dim` on, and how many it takes. One in a hundred is outside the shape. */
function randomItem(shape: number[], dim: number, listShape: number[]): [Item, number] {
  const size = shape[dim]!;
  const within = (): number => random(2 * size) - size + (random(100) === 0 ? 2 * size : 0);
  switch (random(8)) {
    case 0:
    case 1:
      return size === 0 ? [randomSlice(size), 1] : [['int', within()], 1];
    case 2:
    case 3:
    case 4:
      return [randomSlice(size), 1];
    case 5:
      return [['mask', nested([size], () => random(2) === 0)], 1];
    case 6: {
      const deep = shape[dim + 1];
      if (deep === undefined || deep === 0 || size === 0) return [randomSlice(size), 1];
      return [['mask', nested([size, deep], () => random(2) === 0)], 2];
    }
    default:
      return size === 0 ? [randomSlice(size), 1] : [['ints', nested(listShape, within)], 1];
  }
}

function randomCase(): Case {
  const shape = Array.from({ length: 1 + random(4) }, () => (random(30) === 0 ? 0 : 1 + random(4)));
  const index: Item[] = [];
  const listShape = pick([[2], [3], [1], [2, 3], [2, 1]]);
  const ellipsisAt = random(3) === 0 ? random(shape.length + 1) : -1;
  let dim = 0;
  while (dim < shape.length) {
    if (dim === ellipsisAt) {
      index.push(['ellipsis', null]);
      dim += random(shape.length - dim + 1);
      if (dim >= shape.length) break;
    }
    if (random(6) === 0) index.push(['none', null]);
    if (random(25) === 0) index.push(['bool', random(3) > 0]);
    if (random(6) === 0 && ellipsisAt < 0) break;
    const [item, taken] = randomItem(shape, dim, listShape);
    index.push(item);
    dim += taken;
  }
  if (random(60) === 0) index.push(['int', 0]);
  return { shape, numel: shape.reduce((a, b) => a * b, 1), index, value: pick([-1, 0.5, 'rows', 'last'] as const) };
}

/** The index in one of the forms that TypeScript has for it. */
function toIndex([kind, value]: Item): TensorIndex {
  switch (kind) {
    case 'slice': {
      const [start, stop, step] = value;
      if (random(2) === 0) return slice(start!, stop!, step!);
      const text = [start, stop, ...(step === null ? [] : [step])].map((bound) => bound ?? '').join(':');
      return text as TensorIndex;
    }
    case 'none':
      return newAxis;
    case 'ellipsis':
      return '...';
    case 'mask':
    case 'ints':
      return random(2) === 0 ? value : tensor(value, { dtype: kind === 'mask' ? 'bool' : 'int64' });
    default:
      return value;
  }
}

function valueFor(kind: Case['value'], result: Tensor): Tensor | number {
  if (typeof kind === 'number') return kind;
  const count = kind === 'rows' ? result.numel() : (result.shape.at(-1) ?? 1);
  const numbers = arange(1, count + 1, { dtype: 'float64' }).neg();
  return kind === 'rows' ? numbers.view(result.shape) : numbers;
}

function run({ shape, numel, index, value }: Case): Answer {
  const x = arange(1, numel + 1, { dtype: 'float64' }).view(shape);
  const indices = index.map(toIndex);
  let result: Tensor;
  try {
    result = x.at(...indices);
  } catch (error) {
    expect(error).toBeInstanceOf(TorchBindError);
    return { error: (error as TorchBindError).code } as Answer;
  }
  const answer = { shape: result.shape, values: result.tolist(), view: false, written: [] as number[] };
  answer.view = numel > 0 && sharesMemory(result, x);
  expect(x.setAt(indices, valueFor(value, result))).toBe(x);
  answer.written = x.flatten().tolist() as number[];
  return answer;
}

/** Writing through one shows in the other. */
function sharesMemory(part: Tensor, whole: Tensor): boolean {
  if (part.numel() === 0) return false;
  const before = whole.clone();
  part.add_(1);
  const shared = !whole.equal(before);
  whole.copy_(before);
  return shared;
}

const classes: Record<string, string> = {
  IndexError: 'ERR_TORCHBIND_INDEX',
  RuntimeError: 'ERR_TORCHBIND_TORCH',
  ValueError: 'ERR_TORCHBIND_VALUE',
};

test(
  'thousands of random index expressions read and write what they do in Python',
  async () => {
    const cases = Array.from({ length: 4000 }, randomCase);
    const expected = await pythonJson<Answer[]>(path.join(__dirname, 'indexing.py'), [], JSON.stringify(cases));
    let failures = 0;
    let copies = 0;
    cases.forEach((item, i) => {
      const want = expected[i]!;
      const got = tidy(() => run(item));
      const what = JSON.stringify(item);
      if (want.error !== undefined) {
        expect(got.error, what).toBe(classes[want.error]);
        failures++;
        return;
      }
      expect(got.error, what).toBeUndefined();
      expect(got.shape, what).toEqual(want.shape);
      expect(got.values, what).toEqual(want.values);
      expect(got.written, what).toEqual(want.written);
      if (want.shape.includes(0)) return; // no element to tell by
      expect(got.view, what).toBe(want.view);
      if (!got.view) copies++;
    });
    // The generator makes enough of each kind to mean something.
    expect(failures).toBeGreaterThan(30);
    expect(copies).toBeGreaterThan(500);
  },
  pythonTimeout,
);

test('indices come in the forms that JavaScript has for them', () => {
  const x = arange(12).view(3, 4);
  expect(x.at(1).tolist()).toEqual([4, 5, 6, 7]);
  expect(x.at(-1, 2n).item()).toBe(10);
  expect(x.at(slice(2)).shape).toEqual([2, 4]);
  expect(x.at('1:', '::2').tolist()).toEqual([
    [4, 6],
    [8, 10],
  ]);
  expect(x.at('...', null).shape).toEqual([3, 4, 1]);
  expect(x.at([0, 2]).tolist()).toEqual([
    [0, 1, 2, 3],
    [8, 9, 10, 11],
  ]);
  expect(x.at(new Int32Array([2, 2]), [0, 3]).tolist()).toEqual([8, 11]);
  expect(x.at([]).shape).toEqual([0, 4]);
  expect(x.at([true, false, true], 0).tolist()).toEqual([0, 8]);
  expect(x.at(x.gt(9)).tolist()).toEqual([10, 11]);
  expect(x.at().shape).toEqual([3, 4]);
});

test('values to write may be numbers, arrays and tensors of other dtypes', () => {
  const x = zeros(2, 3);
  x.setAt(0, [1, 2.5, 3]).setAt([1, '1:'], tensor([7, 8]));
  expect(x.tolist()).toEqual([
    [1, 2.5, 3],
    [0, 7, 8],
  ]);
  x.setAt(x.gt(2), -1).setAt([[0, 1], 0], new Float32Array([9, 9]));
  expect(x.tolist()).toEqual([
    [9, -1, -1],
    [9, -1, -1],
  ]);
  expect(zeros(2, { dtype: 'complex64' }).setAt(0, { re: 1, im: 2 }).at(0).item()).toEqual({ re: 1, im: 2 });
});

test('gradients flow through an index', () => {
  const x = ones(3).requiresGrad_();
  x.at([0, 0, 2]).sum().backward();
  expect(x.grad!.tolist()).toEqual([2, 0, 1]);
});

test('a tensor is iterated row by row, as views', () => {
  const x = zeros(2, 3);
  for (const row of x) row.add_(1);
  expect(x.sum().item()).toBe(6);
  expect([...x].map((row) => row.shape)).toEqual([[3], [3]]);
  expect(x.length).toBe(2);
  const [first, second] = tensor([5, 6]);
  expect([first!.item(), second!.item()]).toEqual([5, 6]);
  expect(() => [...tensor(1)]).toThrow(/0-d tensor/);
  expect(() => tensor(1).length).toThrow(TorchBindError);
});

const wrong = (value: unknown): never => value as never;

test.each([
  ['out of range', () => ones(2, 3).at(0, 3), 'ERR_TORCHBIND_INDEX', /index 3 is out of bounds.*shape \[2, 3\]/],
  ['too many', () => ones(2, 3).at(0, 0, 0), 'ERR_TORCHBIND_INDEX', /too many indices.*shape \[2, 3\]/],
  [
    'in an index tensor',
    () => ones(2, 3).at([0, 2]),
    'ERR_TORCHBIND_INDEX',
    /index 2 is out of bounds.*shape \[2, 3\]/,
  ],
  ['a mask of another shape', () => ones(2, 3).at([true]), 'ERR_TORCHBIND_INDEX', /mask.*shape \[2, 3\]/],
  ['lists that do not broadcast', () => ones(4, 4).at([0, 1], [0, 1, 2]), 'ERR_TORCHBIND_INDEX', /broadcast/],
  ['NaN', () => ones(2).at(NaN), 'ERR_TORCHBIND_INVALID_ARGUMENT', /number NaN/],
  ['a fraction', () => ones(2).at(0.5), 'ERR_TORCHBIND_INVALID_ARGUMENT', /number 0.5/],
  ['a fraction in an array', () => ones(2).at([0.5]), 'ERR_TORCHBIND_INVALID_ARGUMENT', /number 0.5/],
  ['a fraction in a slice', () => slice(0.5), 'ERR_TORCHBIND_INVALID_ARGUMENT', /number 0.5/],
  ['a text that is no slice', () => ones(2).at(wrong('a:b')), 'ERR_TORCHBIND_INVALID_ARGUMENT', /'1:5:2'.*"a:b"/],
  ['undefined', () => ones(2).at(wrong(undefined)), 'ERR_TORCHBIND_INVALID_ARGUMENT', /null for a new dimension/],
  ['a float tensor', () => ones(2).at(tensor([0.5])), 'ERR_TORCHBIND_INDEX', /long, int, byte or bool/],
  ['a negative step', () => ones(2).at('::-1'), 'ERR_TORCHBIND_VALUE', /step must be greater than zero/],
  ['a value that does not fit', () => ones(2, 3).setAt(0, [1, 2]), 'ERR_TORCHBIND_TORCH', /shape \[2, 3\]/],
  ['ragged index arrays', () => ones(2).at([[0], [0, 1]]), 'ERR_TORCHBIND_INVALID_ARGUMENT', /differ in length/],
])('%s is an error that names the place', (_, call, code, message) => {
  let error: TorchBindError | undefined;
  try {
    call();
  } catch (caught) {
    error = caught as TorchBindError;
  }
  expect(error?.message).toMatch(message);
  expect(error?.code).toBe(code);
});
