import { describe, expect, test } from 'vitest';
import {
  arange,
  full,
  Generator,
  manualSeed,
  ones,
  ops,
  randn,
  setRngState,
  tensor,
  Tensor,
  tidy,
  TorchBindError,
  zeros,
} from '../../lib/index';
import { native } from '../../lib/native/native';

function failure(fn: () => unknown): TorchBindError {
  try {
    fn();
  } catch (error) {
    expect(error).toBeInstanceOf(TorchBindError);
    return error as TorchBindError;
  }
  throw new Error('nothing was thrown');
}

/** Wrong values as TypeScript would not allow them. */
const wrong = (value: unknown): never => value as never;

const mistakes: [name: string, call: () => unknown, code: string, message: RegExp][] = [
  [
    'a wrong argument lists the candidates',
    () => ones(2).add(wrong('a')),
    'ERR_TORCHBIND_INVALID_ARGUMENT',
    /got \(Tensor, string "a"\).*expected one of[^]*aten::add\.Tensor/,
  ],
  [
    'a misspelled option suggests the right one',
    () => ones(2).add(ones(2), wrong({ alhpa: 2 })),
    'ERR_TORCHBIND_INVALID_ARGUMENT',
    /Did you mean 'alpha'/,
  ],
  [
    'a misspelled creation option',
    () => zeros([2], wrong({ dtpe: 'float32' })),
    'ERR_TORCHBIND_UNKNOWN_OPTION',
    /Did you mean 'dtype'/,
  ],
  [
    'a misspelled dtype',
    () => zeros([2], wrong({ dtype: 'flaot32' })),
    'ERR_TORCHBIND_INVALID_ARGUMENT',
    /Did you mean 'float32'/,
  ],
  [
    'shapes that do not fit',
    () => randn(2, 3).matmul(randn(4, 5)),
    'ERR_TORCHBIND_TORCH',
    /mat1 and mat2 shapes cannot be multiplied \(2x3 and 4x5\)/,
  ],
  ['too few arguments', () => (ones(2).add as () => Tensor)(), 'ERR_TORCHBIND_INVALID_ARGUMENT', /add\(\)/],
  [
    'too many arguments',
    () => (ones(2).relu as (...args: number[]) => Tensor)(1, 2, 3),
    'ERR_TORCHBIND_INVALID_ARGUMENT',
    /relu\(\)/,
  ],
  [
    'a number for a tensor',
    () => ones(2).matmul(wrong(16777217)),
    'ERR_TORCHBIND_INVALID_ARGUMENT',
    /got \(Tensor, number/,
  ],
  [
    'a foreign object for a tensor',
    () => ones(2).matmul(wrong({ handle: 1 })),
    'ERR_TORCHBIND_INVALID_ARGUMENT',
    /matmul/,
  ],
  [
    'a wrong this',
    () => (Tensor.prototype.add as (this: unknown, x: number) => Tensor).call({}, 1),
    'ERR_TORCHBIND_INVALID_ARGUMENT',
    /add\(\)/,
  ],
  [
    'a getter on the wrong this',
    () => Reflect.get(Tensor.prototype, 'shape', {}),
    'ERR_TORCHBIND_INVALID_ARGUMENT',
    /expected a Tensor/,
  ],
  ['an unknown operator', () => ops.aten!.sofmax, 'ERR_TORCHBIND_UNKNOWN_OPERATOR', /Did you mean aten::softmax/],
  ['ragged rows', () => tensor([[1], [2, 3]]), 'ERR_TORCHBIND_INVALID_ARGUMENT', /differ in length/],
  ['strings as values', () => tensor(wrong(['a'])), 'ERR_TORCHBIND_INVALID_ARGUMENT', /expected numbers/],
  ['a negative size', () => zeros(-1), 'ERR_TORCHBIND_TORCH', /negative/],
  ['a size that is no integer', () => zeros(1.5), 'ERR_TORCHBIND_INVALID_ARGUMENT', /integer/],
  ['NaN as an index', () => ones(3).select(0, NaN), 'ERR_TORCHBIND_INVALID_ARGUMENT', /number NaN/],
  ['an index out of range', () => ones(3).select(0, 5), 'ERR_TORCHBIND_INDEX', /out of range/],
  ['a device that does not exist', () => ones(1).to('cuda:99'), 'ERR_TORCHBIND_DEVICE', /cuda:99' is not available/],
  ['a gradient of no single value', () => ones(2).requiresGrad_().mul(2).backward(), 'ERR_TORCHBIND_TORCH', /scalar/],
  ['backward without a graph', () => ones(1).backward(), 'ERR_TORCHBIND_TORCH', /does not require grad/],
  ['an in-place change of a leaf', () => ones(2).requiresGrad_().add_(1), 'ERR_TORCHBIND_TORCH', /leaf Variable/],
  ['a seed that is no integer', () => manualSeed(1.5), 'ERR_TORCHBIND_INVALID_ARGUMENT', /integer seed/],
  ['a generator state of the wrong kind', () => setRngState(ones(3)), 'ERR_TORCHBIND_TYPE', /ByteTensor/],
  ['memory that nobody has', () => zeros([2 ** 40, 2 ** 10]), 'ERR_TORCHBIND_OUT_OF_MEMORY', /allocate/],
  ['an item of many', () => ones(3).item(), 'ERR_TORCHBIND_TORCH', /3 elements|single|scalar/i],
  ['a number as a tensor object', () => new Tensor(5).add(1), 'ERR_TORCHBIND_DISPOSED', /disposed/],
  ['a constructor call by hand', () => new Tensor(wrong('x')), 'ERR_TORCHBIND_INVALID_ARGUMENT', /tensor\(\)/],
];

describe('mistakes are errors that teach', () => {
  test.each(mistakes)('%s', (_, call, code, message) => {
    const error = failure(call);
    expect(error.message).toMatch(message);
    expect(error.code).toBe(code);
    expect(error.message).not.toMatch(/Exception raised from|frame #/);
  });
});

test('sparse arrays that claim billions of elements are refused at once', () => {
  const sparse = new Array(2 ** 32 - 1);
  for (const call of [
    () => tensor(wrong(sparse)),
    () => ops.aten!.cat!(sparse),
    () => ops.aten!.index!.Tensor!(ones(3), sparse),
    () => ones(2).view(wrong(sparse)),
    () => zeros(wrong(sparse)),
  ]) {
    expect(failure(call).code).toBe('ERR_TORCHBIND_INVALID_ARGUMENT');
  }
});

test('errors keep the JavaScript stack', () => {
  expect(failure(() => ones(2).matmul(ones(3))).stack).toContain('arguments.test');
});

test('a disposed tensor is refused everywhere', () => {
  const t = ones(2);
  t.dispose();
  t.dispose();
  for (const use of [
    () => t.add(1),
    () => ones(2).add(t),
    () => t.shape,
    () => t.item(),
    () => t.backward(),
    () => t.toTypedArray(),
  ]) {
    expect(failure(use).code).toBe('ERR_TORCHBIND_DISPOSED');
  }
  expect(String(t)).toBe('Tensor(disposed)');
});

test('a tensor whose scope ended is refused, even when its slot is used again', () => {
  let escaped: Tensor | undefined;
  tidy(() => void (escaped = ones(2)));
  const others = Array.from({ length: 100 }, () => zeros(2));
  expect(failure(() => escaped!.add(1)).code).toBe('ERR_TORCHBIND_DISPOSED');
  expect(others.every((t) => t.isDisposed)).toBe(false);
});

test('getters that run while arguments are read cannot pull the tensors away', () => {
  const list = [ones(2), ones(2)];
  const trap = new Proxy(list, {
    get(target, key, receiver): unknown {
      if (key === '1') list[0]!.dispose();
      return Reflect.get(target, key, receiver);
    },
  });
  expect(() => (ops.aten!.cat! as (tensors: unknown) => Tensor)(trap)).toThrow(TorchBindError);
});

test('native functions refuse any junk without harm', () => {
  const junk = [
    undefined,
    null,
    NaN,
    Infinity,
    -0,
    -1,
    2 ** 31,
    2 ** 53,
    1e308,
    0n,
    2n ** 64n,
    '',
    '\0',
    [],
    {},
    Symbol('s'),
    () => 0,
    new Float64Array(2),
    new ArrayBuffer(8),
    true,
  ];
  const binding = native() as unknown as Record<string, (...args: unknown[]) => unknown>;
  // These change the state of the process, and are right to accept some of the values.
  const skipped = new Set(['setup', 'setNumThreads', 'manualSeed', 'setGradMode', 'enterInferenceMode', 'loadLibrary']);
  let calls = 0;
  for (const name of Object.keys(binding).filter((key) => !skipped.has(key))) {
    for (const first of junk) {
      for (const second of junk) {
        try {
          const result = binding[name]!(first, second, first, second, first);
          if (result instanceof Promise) result.catch(() => undefined);
          if (name === 'wrappedNumber' || name === 'allocateBytes') binding['dispose']!(result);
        } catch (error) {
          expect(error, `${name}(${String(first)}, ...)`).toBeInstanceOf(TorchBindError);
        }
        calls++;
      }
    }
  }
  expect(calls).toBeGreaterThan(10_000);
});

test('integral numbers are ints and others floats, as literals are in Python', () => {
  expect(full([1], 2).dtype).toBe('int64');
  expect(full([1], 2.5).dtype).toBe('float32');
  expect(arange(3).mul(2).dtype).toBe('int64');
  expect(arange(3).mul(2.5).dtype).toBe('float32');
  expect(tensor(2n ** 60n).item()).toBe(2n ** 60n);
});

test('typed arrays of every dtype go in and come out', () => {
  const arrays = [
    new Float32Array([1.5, -2]),
    new Float64Array([1.1]),
    new BigInt64Array([-(2n ** 63n), 5n]),
    new BigUint64Array([2n ** 64n - 1n]),
    new Int32Array([-7]),
    new Uint32Array([2 ** 32 - 1]),
    new Int16Array([-300]),
    new Uint16Array([65535]),
    new Int8Array([-128]),
    new Uint8Array([255, 0]),
  ];
  for (const array of arrays) expect(tensor(array).toTypedArray()).toEqual(array);
  expect(tensor([1, -2], { dtype: 'float16' }).toTypedArray()).toEqual(new Uint16Array([0x3c00, 0xc000]));
  expect(tensor([1, -2], { dtype: 'bfloat16' }).toTypedArray()).toEqual(new Uint16Array([0x3f80, 0xc000]));
  expect(tensor([true, false]).toTypedArray()).toEqual(new Uint8Array([1, 0]));
  expect(tensor(new Float32Array([0, 1, 2, 3]).subarray(1, 3)).tolist()).toEqual([1, 2]);
});

test('a generator of its own repeats its sequence', () => {
  const a = new Generator().manualSeed(3);
  const state = a.getState();
  const first = randn(4, { generator: a }).tolist();
  a.setState(state);
  expect(randn(4, { generator: a }).tolist()).toEqual(first);
  expect(randn(4, { generator: new Generator().manualSeed(3) }).tolist()).toEqual(first);
});
