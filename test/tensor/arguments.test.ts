import { expect, test } from 'vitest';
import {
  arange,
  full,
  fullLike,
  Generator,
  linspace,
  multinomial,
  ones,
  ops,
  randn,
  softmax,
  tensor,
  Tensor,
  tidy,
  topk,
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

test('sparse arrays that claim billions of elements are refused at once', () => {
  const sparse = new Array(2 ** 32 - 1);
  for (const call of [
    () => tensor(wrong(sparse)),
    () => ops.aten.cat(sparse),
    () => ops.aten.index.Tensor(ones(3), sparse),
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
  expect(() => (ops.aten.cat as (tensors: unknown) => Tensor)(trap)).toThrow(TorchBindError);
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
  skipped.add('operatorNames'); // takes nothing, and its time
  let calls = 0;
  for (const name of Object.keys(binding).filter((key) => !skipped.has(key))) {
    for (const first of junk) {
      for (const second of junk) {
        try {
          const result = binding[name]!(first, second, first, second, first);
          if (result instanceof Promise) result.catch(() => undefined);
          if (name === 'wrappedNumber' || name === 'allocateBytes') binding['dispose']!(result);
        } catch (error) {
          // An assertion each time would take longer than all the calls.
          if (!(error instanceof TorchBindError)) expect.fail(`${name}(${String(first)}, ...): ${String(error)}`);
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

test('required arguments may come by name, but for the tensors at the front', () => {
  const x = arange(6, { dtype: 'float32' }).view(2, 3);
  const pairs: [Tensor, Tensor][] = [
    [softmax(x, { dim: -1 }), softmax(x, -1)],
    [x.max({ dim: 1, keepdim: true }).values, x.max(1, true).values],
    [x.cumsum({ dim: 0, dtype: 'float64' }), x.cumsum(0).double()],
    [x.mean({ dim: [0, 1] }), x.mean([0, 1])],
    [x.gather({ dim: 1, index: tensor([[2], [0]]) }), x.gather(1, tensor([[2], [0]]))],
    [topk(x, { k: 2 }).indices, x.topk(2).indices],
    [x.flip({ dims: [1] }), x.flip(1)],
    [x.maskedFill(x.gt(2), { value: -1 }), x.maskedFill(x.gt(2), -1)],
    [fullLike(x, { fillValue: 3 }), fullLike(x, 3)],
    [x.transpose({ dim0: 0, dim1: 1 }), x.t()],
    [linspace(0, 1, { steps: 5, dtype: 'float64' }), linspace(0, 1, 5, { dtype: 'float64' })],
    [multinomial(ones(3), { numSamples: 1 }).mul(0), tensor([0])],
  ];
  for (const [named, positional] of pairs) {
    expect([named.dtype, named.tolist()]).toEqual([positional.dtype, positional.tolist()]);
  }
  expect(failure(() => linspace(0, 1, wrong({ step: 5 }))).message).toContain("Did you mean 'steps'?");
  // @ts-expect-error -- a required argument is required by name too
  expect(failure(() => softmax(x, { dtype: 'float64' })).code).toBe('ERR_TORCHBIND_INVALID_ARGUMENT');
});
