import { expect, test } from 'vitest';
import {
  arange,
  grad,
  inferenceMode,
  memory,
  ones,
  ops,
  quantizePerTensor,
  randn,
  tensor,
  Tensor,
  tidy,
  TorchBindError,
  zeros,
} from '../../lib/index';

const FORMS = ['item', 'tolist', 'toTypedArray'] as const;

const TENSORS: Readonly<Record<string, () => Tensor>> = {
  'one value': () => tensor([2.5]),
  'no dimensions': () => tensor(3),
  'no elements': () => zeros(0, 3),
  'a transposed view': () => arange(6).view(2, 3).t(),
  'an expanded view': () => ones(1).expand(4),
  bfloat16: () => randn([3], { dtype: 'bfloat16' }),
  float8: () => ones(3).to('float8_e4m3fn'),
  bool: () => tensor([true, false]),
  'integers beyond the safe ones': () => tensor([2n ** 60n, 1n]),
  uint64: () => tensor(2n ** 64n - 1n, { dtype: 'uint64' }),
  'a conjugate': () => tensor([{ re: 1, im: 2 }]).conj(),
  'a negated view': () => tensor([{ re: 1, im: 2 }]).conj().imag,
  'a leaf with a gradient': () => ones(2).requiresGrad_(),
  'part of a graph': () => ones(1).requiresGrad_().mul(2),
  'zeros without memory': () => {
    const x = tensor([1.5, -2], { requiresGrad: true });
    return grad(x.sgn().sum(), x)[0]!;
  },
  'no storage': () => zeros(2, { device: 'meta' }),
  'one value without storage': () => zeros(1, { device: 'meta' }),
  sparse: () => ones(2, 2).toSparse(),
  quantized: () => quantizePerTensor(ones(4), 0.1, 0, 'quint8'),
  'packed and quantized': () => quantizePerTensor(ones(4), 0.1, 0, 'quint4x2'),
  nested: () => ops.aten._nested_tensor_from_tensor_list.default([ones(2), ones(3)]) as Tensor,
};

const call = (x: Tensor, name: string): unknown => (x as unknown as Record<string, () => unknown>)[name]!();

const outcome = async (run: () => unknown): Promise<unknown> => {
  try {
    return { value: await run() };
  } catch (error) {
    const { code, message } = error as TorchBindError;
    return { is: error instanceof TorchBindError, code, message };
  }
};

test.each(Object.entries(TENSORS))('%s: the results and errors of the synchronous forms', async (_, make) => {
  for (const form of FORMS) {
    const x = make();
    expect(await outcome(() => call(x, `${form}Async`)), form).toEqual(await outcome(() => call(x, form)));
  }
});

test('the values are those of the call, whatever becomes of the tensor meanwhile', async () => {
  const make = (): Tensor => arange(6, { dtype: 'float32' }).view(2, 3);
  const values = make().tolist();
  const changes: ((x: Tensor) => unknown)[] = [
    (x) => x.zero_(),
    (x) => x.resize_([1000, 1000]),
    (x) => x.t_(),
    (x) => x.dispose(),
  ];
  for (const change of changes) {
    const x = make();
    const [list, array] = [x.tolistAsync(), x.toTypedArrayAsync()];
    change(x);
    expect(await list).toEqual(values);
    expect(await array).toEqual(new Float32Array([0, 1, 2, 3, 4, 5]));
  }
});

test('errors come as rejections', async () => {
  const x = ones(2);
  await expect(x.itemAsync()).rejects.toMatchObject({ code: 'ERR_TORCHBIND_TORCH' });
  x.dispose();
  for (const form of FORMS) {
    const refused = { code: 'ERR_TORCHBIND_DISPOSED', message: expect.stringContaining(`${form}Async`) as string };
    await expect(call(x, `${form}Async`)).rejects.toMatchObject(refused);
  }
});

test('a scope may end before the value is there, and nothing is left', async () => {
  const x = ones(100);
  const before = memory();
  const sums = Array.from({ length: 50 }, (_, i) => tidy(() => ({ value: x.mul(i).sum().itemAsync() })));
  expect(memory()).toEqual(before);
  expect(await Promise.all(sums.map(({ value }) => value))).toEqual(sums.map((_, i) => 100 * i));
  const list = await tidy(async () => x.mul(2).tolistAsync());
  expect(list).toEqual(Array.from({ length: 100 }, () => 2));
  const failed = tidy(async () => x.mul(2).itemAsync());
  await expect(failed).rejects.toThrow(TorchBindError);
  expect(memory()).toEqual(before);
});

test('inference mode and gradients are as they were', async () => {
  const x = inferenceMode(() => ones(3).mul(2));
  expect(await x.tolistAsync()).toEqual([2, 2, 2]);
  expect(() => inferenceMode(() => x.tolistAsync())).toThrow(TorchBindError); // it would end before the promise
  const y = ones(1).requiresGrad_();
  const waiting = y.mul(3).itemAsync();
  const z = y.mul(3);
  expect(await waiting).toBe(3);
  z.backward();
  expect(y.grad!.item()).toBe(3);
});
