/** C: tensors that claim what their bytes do not hold. */
import { describe, expect, it } from 'vitest';
import type { Tensor } from '../../lib/tensor/tensor';
import {
  bytes,
  checkpoint,
  legacyFile,
  legacyStorage,
  legacyTensor,
  op,
  pickle,
  storage,
  tensorOf,
  uint64,
} from './assemble';
import { attacks } from './refuse';

const { open, refused } = attacks();
const asClaim = /CHECKPOINT_(PICKLE|TENSOR|UNSUPPORTED|GLOBAL)$/;

function inZip(object: Uint8Array, code = asClaim): Promise<void> {
  return refused(checkpoint(pickle(object)), { code, record: 'data.pkl' });
}

describe('C1 numbers of elements', () => {
  it.each<[string, bigint | number]>([
    ['negative', -4],
    ['that wraps at 64 bits', 2n ** 62n + 4n],
    ['of more than 64 bits', 2n ** 100n],
    ['beyond 2^53', 2n ** 53n],
  ])('%s', (_, numel) => inZip(tensorOf({ numel })));
});

describe('C2 a storage and its record', () => {
  it('larger than the record', () => inZip(tensorOf({ numel: 5, shape: [4] })));
  it('smaller than the record', () => inZip(tensorOf({ numel: 3, shape: [3] })));
  it('without a record', () => inZip(tensorOf({ key: op.text('1') })));
});

describe('C3 places', () => {
  it.each([
    ['a negative stride', { strides: [-1] }],
    ['a negative size', { shape: [-4] }],
    ['a negative offset', { offset: -1 }],
    ['an offset at the end', { offset: 4, shape: [1] }],
    ['a stride beyond', { shape: [2], strides: [4] }],
    ['a stride that wraps', { shape: [3], strides: [2n ** 63n] }],
    ['strides whose sum wraps', { shape: [2, 2], strides: [2n ** 63n - 1n, 2n ** 63n - 1n] }],
    ['an offset that wraps', { offset: 2n ** 63n - 1n, shape: [1] }],
    ['sizes and strides of two lengths', { shape: [2, 2], strides: [1] }],
  ])('%s', (_, claim) => inZip(tensorOf(claim)));
});

describe('C4 elements without end', () => {
  it('stride 0 and 2^62 elements', () => inZip(tensorOf({ shape: [2n ** 31n, 2n ** 31n], strides: [0, 0] })));
  it('4096 dimensions', () =>
    inZip(tensorOf({ shape: Array<number>(4096).fill(1), strides: Array<number>(4096).fill(0) })));
});

describe('C5 one record claimed twice', () => {
  it('with two dtypes', () => inZip(op.list(tensorOf(), tensorOf({ type: 'IntStorage' }))));
  it('with two sizes', () => inZip(op.list(tensorOf(), tensorOf({ numel: 2, shape: [2] }))));
  it('with two sizes, in the one stream', () =>
    refused(legacyFile(op.list(legacyTensor(legacyStorage()), legacyTensor(legacyStorage({ numel: 2 }), [2]))), {
      code: asClaim,
    }));
});

describe('C6 storages of the one stream', () => {
  const object = legacyTensor(legacyStorage());
  const data = bytes(uint64(4), Buffer.alloc(16));

  it('the case that the others vary is opened', async () => {
    expect(((await open(legacyFile(object))) as Tensor).tolist()).toEqual([0, 0, 0, 0]);
  });

  it.each([
    ['missing in the list', ']', ''],
    ['one too many', op.list(op.text('0'), op.text('1')), bytes(data, data)],
    ['twice', op.list(op.text('0'), op.text('0')), bytes(data, data)],
    ['under keys that are no text', op.list(op.int(0)), data],
    ['in what is no list', op.tuple(op.text('0')), data],
    ['not there', op.list(op.text('0')), ''],
  ])('%s', (_, keys, storages) => refused(legacyFile(object, keys, storages)));
});

describe('C7 views and tails of the one stream', () => {
  const keys = op.list(op.text('0'));
  const view = (offset: bigint | number, size: bigint | number): Uint8Array =>
    legacyTensor(legacyStorage({}, op.tuple(op.text('v'), op.int(offset), op.int(size))), [1]);

  it.each<[string, bigint | number, bigint | number]>([
    ['a negative offset', -1, 1],
    ['a negative size', 0, -1],
    ['beyond the storage', 3, 2],
    ['that wraps', 2n ** 63n, 2n ** 63n],
  ])('a view with %s', (_, offset, size) => refused(legacyFile(view(offset, size)), { code: asClaim }));

  it.each([
    ['another count', bytes(uint64(3), Buffer.alloc(12))],
    ['a negative count', bytes(uint64(-4n), Buffer.alloc(16))],
    ['a count that wraps', bytes(uint64(2n ** 62n + 4n), Buffer.alloc(16))],
    ['a cut count', Buffer.alloc(7)],
    ['cut bytes', bytes(uint64(4), Buffer.alloc(15))],
  ])('a tail with %s', (_, storages) => refused(legacyFile(legacyTensor(legacyStorage()), keys, storages)));
});

describe('C8 layouts', () => {
  const rebuild = (name: string, ...args: Uint8Array[]): Uint8Array => op.call('torch._utils', name, ...args);
  it.each([
    [
      'quantized, with a stride beyond',
      rebuild(
        '_rebuild_qtensor',
        storage({ type: 'QUInt8Storage', numel: 16 }),
        op.int(0),
        op.tuple(op.int(4)),
        op.tuple(op.int(1000)),
        bytes('N'),
        bytes('\x89'),
        bytes('}'),
      ),
    ],
    [
      'sparse, of no layout',
      rebuild('_rebuild_sparse_tensor', op.text('torch.sparse_coo'), op.tuple(tensorOf(), tensorOf())),
    ],
    ['nested', rebuild('_rebuild_nested_tensor', tensorOf(), tensorOf(), tensorOf(), tensorOf())],
    ['a wrapper subclass', rebuild('_rebuild_wrapper_subclass', op.global('torch', 'Tensor'))],
    ['from numpy on a device', rebuild('_rebuild_device_tensor_from_numpy', tensorOf())],
  ])('%s', (_, object) => inZip(object));
});

it('C8 a tensor on the meta device has a shape and no memory', async () => {
  const [dtype, shape] = [op.global('torch', 'float32'), op.tuple(op.int(2n ** 40n))];
  const object = op.call('torch._utils', '_rebuild_meta_tensor_no_storage', dtype, shape, op.tuple(op.int(1)), '\x89');
  const value = (await open(checkpoint(pickle(object)))) as Tensor;
  expect([value.device, value.shape]).toEqual(['meta', [2 ** 40]]);
});

describe('C9 dtypes', () => {
  it.each(['QInt8Storage', 'BitsStorage', 'UntypedStorage', 'Tensor', 'float32', 'Float8Storage'])(
    '%s as a storage',
    (type) => inZip(tensorOf({ type })),
  );

  const v3 = (dtype: Uint8Array): Uint8Array =>
    op.call(
      'torch._utils',
      '_rebuild_tensor_v3',
      storage({ type: 'ByteStorage', numel: 16 }),
      op.int(0),
      op.tuple(op.int(2)),
      op.tuple(op.int(1)),
      '\x89',
      '}',
      dtype,
    );
  it.each([
    ['bits8', op.global('torch', 'bits8')],
    ['a name', op.text('float32')],
    ['a class', op.global('torch', 'Tensor')],
    ['one that does not exist', op.global('torch', 'float7')],
  ])('%s for a dtype', (_, dtype) => inZip(v3(dtype)));
});

describe('C10 locations', () => {
  it.each(['cuda:999999999999', 'meta', 'privateuseone', '', 'cpu\0', '../../x', 'x'.repeat(100)])(
    '%j is the CPU',
    async (location) => {
      const tensor = (await open(checkpoint(pickle(tensorOf({ location }))))) as Tensor;
      expect(tensor.device).toBe('cpu');
      expect(tensor.tolist()).toEqual([0, 0, 0, 0]);
    },
  );
});
