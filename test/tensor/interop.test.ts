import { expect, test } from 'vitest';
import { arange, div, ones, rsub, sub, tensor, Tensor, tidy, TorchBindError, where, zeros } from '../../lib/index';
import { native } from '../../lib/native/native';
import { memoryInUse } from '../helpers/garbage';

test('bytes go in as they are', () => {
  const buffer = Buffer.from([1, 2, 255]);
  expect(tensor(buffer).dtype).toBe('uint8');
  expect(tensor(buffer).tolist()).toEqual([1, 2, 255]);
  expect(tensor(new Uint8Array([7, 8]).buffer).tolist()).toEqual([7, 8]);
  expect(tensor(new DataView(new ArrayBuffer(2))).tolist()).toEqual([0, 0]);
  expect(tensor(new Uint8Array(new SharedArrayBuffer(2))).tolist()).toEqual([0, 0]);
});

test('rows may be typed arrays, whose dtype the tensor takes', () => {
  const x = tensor([new Float64Array([1, 2]), new Float64Array([3, 4])]);
  expect(x.dtype).toBe('float64');
  expect(x.tolist()).toEqual([
    [1, 2],
    [3, 4],
  ]);
});

test('values keep every bit that the dtype can hold', () => {
  expect(tensor([0.1], { dtype: 'complex128' }).tolist()).toEqual([{ re: 0.1, im: 0 }]);
  expect(tensor([{ re: 0.1, im: 0.2 }], { dtype: 'complex128' }).tolist()).toEqual([{ re: 0.1, im: 0.2 }]);
  expect(tensor(2n ** 64n - 1n, { dtype: 'uint64' }).item()).toBe(2n ** 64n - 1n);
  expect(tensor([NaN, 0, 2], { dtype: 'bool' }).tolist()).toEqual([true, false, true]);
  expect(tensor([-1.7, 1.7], { dtype: 'int32' }).tolist()).toEqual([-1, 1]);
});

test.each([
  ['ragged rows', () => tensor([[1, 2], [3]]), /row 0 has 2 elements, row 1 has 1/],
  ['a number among rows', () => tensor([[1, 2], 3]), /row 1 is number 3/],
  ['too large for the dtype', () => tensor([300], { dtype: 'uint8' }), /300 does not fit uint8, which holds 0 to 255/],
  ['negative for an unsigned dtype', () => tensor([-1], { dtype: 'uint8' }), /-1 does not fit uint8/],
  ['too large for int64', () => tensor(2n ** 63n), /does not fit int64/],
  ['NaN for an integer dtype', () => tensor([NaN], { dtype: 'int64' }), /NaN does not fit int64/],
])('%s are refused', (_, make, message) => {
  expect(make).toThrow(TorchBindError);
  expect(make).toThrow(message);
});

test('numbers that shall have a gradient are floats, integral ones too', () => {
  const x = tensor([1, 2], { requiresGrad: true });
  expect([x.dtype, x.requiresGrad]).toEqual(['float32', true]);
  expect(tensor(2, { requiresGrad: true }).dtype).toBe('float32');
  expect(tensor(2, { requiresGrad: true, dtype: 'float64' }).dtype).toBe('float64');
  expect(tensor([1, 2], { requiresGrad: false }).dtype).toBe('int64');
  const integers = (): Tensor[] => [
    tensor(new Int32Array(2), { requiresGrad: true }),
    tensor([1], { requiresGrad: true, dtype: 'int64' }),
  ];
  expect(integers).toThrow(TorchBindError);
});

test('elements of sparse tensors are no row of values: toDense() makes one', () => {
  const x = ones(2, 2).toSparse();
  for (const read of [() => x.tolist(), () => x.toTypedArray()]) {
    expect(read).toThrow(expect.objectContaining({ code: 'ERR_TORCHBIND_UNSUPPORTED' }));
    expect(read).toThrow(/toDense\(\)/);
  }
});

test('JSON of a tensor is its values', () => {
  const x = tensor([
    [1.5, NaN],
    [0, -2],
  ]);
  expect(JSON.parse(JSON.stringify({ x, flags: x.gt(0) }))).toEqual({
    x: [
      [1.5, null],
      [0, -2],
    ],
    flags: [
      [true, false],
      [false, false],
    ],
  });
});

test('a tensor is text where text is wanted, and never NaN where a number is', () => {
  const x = tensor(2.5);
  expect(String(x)).toBe('tensor(2.5000)');
  expect(`loss: ${x as unknown as string}`).toBe('loss: tensor(2.5000)');
  const value = x as unknown as number;
  for (const use of [
    () => value * 2,
    () => value - 1,
    () => 0 + value,
    () => 'loss: ' + (x as unknown as string),
    () => value > 0,
    () => Number(value),
    () => Math.max(value, 1),
  ]) {
    expect(use).toThrow(TorchBindError);
    expect(use).toThrow(/x\.mul\(2\).*item\(\)/);
  }
});

test('what TypeScript takes single and nested values for', () => {
  const loss: number = ones(1).item();
  const isAny: boolean = ones(1).gt(0).any().item<boolean>();
  const rows: number[][] = ones(1, 2).tolist<number[][]>();
  expect([loss.toFixed(1), isAny, rows[0]?.length]).toEqual(['1.0', true, 2]);
});

test('a typed array may lie over the memory of a tensor', () => {
  const x = zeros(2, 3);
  const all = x.toTypedArray({ copy: false }) as Float32Array;
  const row = x.at(1).toTypedArray({ copy: false }) as Float32Array;
  expect(row.buffer).toBe(all.buffer);
  all[4] = 5;
  x.at(1).add_(1);
  expect([...row]).toEqual([1, 6, 1]);
  expect(x.tolist()).toEqual([
    [0, 0, 0],
    [1, 6, 1],
  ]);
  expect((x.toTypedArray() as Float32Array).buffer).not.toBe(all.buffer);
  expect(tensor([1.5], { dtype: 'float16' }).toTypedArray({ copy: false })).toEqual(new Uint16Array([0x3e00]));
  expect(zeros(0).toTypedArray({ copy: false })).toEqual(new Float32Array());
});

test('shared memory outlives the tensor, and is freed with the last array over it', async () => {
  let array: Float32Array | undefined = tidy(() => ones(1000).toTypedArray({ copy: false }) as Float32Array);
  await memoryInUse(); // collects
  for (let i = 0; i < 20; i++) tidy(() => zeros(1000)); // would take the memory if it were free
  expect(array.every((value) => value === 1)).toBe(true);
  const seen = new WeakRef(array.buffer);
  array = undefined;
  for (let i = 0; i < 20 && seen.deref() !== undefined; i++) await memoryInUse();
  expect(seen.deref()).toBeUndefined();
});

test('memory that an array lies over cannot be resized away under it', () => {
  const x = zeros(4);
  const array = x.toTypedArray({ copy: false });
  expect(() => x.resize_([1_000_000])).toThrow(/not resizable/);
  expect(array.length).toBe(4);
});

test.each([
  ['requires a gradient', () => ones(2).requiresGrad_(), /detach\(\)/],
  ['is not contiguous', () => ones(2, 3).t(), /contiguous\(\)/],
  ['is conjugated when read', () => tensor([{ re: 1, im: 1 }]).conj(), /resolveConj\(\)/],
  ['is sparse', () => ones(2, 2).toSparse(), /toDense\(\)/],
])('a tensor that %s does not share its memory', (_, make, message) => {
  const x = make();
  expect(() => x.toTypedArray({ copy: false })).toThrow(message);
  expect(() => x.toTypedArray({ copy: false })).toThrow(TorchBindError);
});

test('native sharing refuses what has no memory', () => {
  const meta = zeros(2, { device: 'meta' });
  expect(() => native().shareStorage(meta.handle)).toThrow(TorchBindError);
});

test('numbers stand on either side of an operator', () => {
  const x = arange(1, 4);
  expect(sub(10, x).tolist()).toEqual([9, 8, 7]);
  expect(sub(10, x).dtype).toBe('int64');
  expect(div(1, x.to('float16')).dtype).toBe('float16');
  expect(sub(0.5, x).dtype).toBe('float32');
  expect(rsub(x, 10).tolist()).toEqual([9, 8, 7]);
  expect(where(x.gt(1), 0, x).tolist()).toEqual([1, 0, 0]);
  expect(x.add(2n).tolist()).toEqual([3, 4, 5]);
  expect(x.mul(true).tolist()).toEqual([1, 2, 3]);
  expect(x.add({ re: 0, im: 1 }).dtype).toBe('complex64');
});

test('several results have their names and their order', () => {
  const x = tensor([
    [1, 5],
    [7, 3],
  ]);
  const [values, indices] = x.max(1);
  expect(values.tolist()).toEqual([5, 7]);
  expect(indices.tolist()).toEqual([1, 0]);
  const sorted = x.sort(1, true);
  expect(sorted.values.at(0).tolist()).toEqual([5, 1]);
  expect(sorted.indices.at(0).tolist()).toEqual([1, 0]);
  expect([...sorted].every((item) => item instanceof Tensor)).toBe(true);
});
