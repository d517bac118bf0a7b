/** Files of PyTorch before 1.6 and of 0.1 that lie: each is refused with a CheckpointError, read and mapped alike. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { CheckpointError } from '../../lib/errors';
import { load } from '../../lib/formats/pt';
import { GlobalName, OrderedDict, Tuple } from '../../lib/pickle/types';
import { PersistentId, Reduction, writePickle } from '../../lib/pickle/writer';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const file = path.join(sharedTemporaryDirectory(), 'case.pt');

const floats = new GlobalName('torch', 'FloatStorage');

function int64(...values: (number | bigint)[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  values.forEach((value, i) => bytes.writeBigInt64LE(BigInt(value), i * 8));
  return bytes;
}

async function refusal(bytes: Uint8Array): Promise<CheckpointError> {
  writeFileSync(file, bytes);
  const [read, mapped] = await Promise.all(
    [{ mmap: false }, { mmap: true }].map((options) => load(file, options).catch((error: unknown) => error)),
  );
  expect(read).toBeInstanceOf(CheckpointError);
  expect((mapped as CheckpointError).message).toBe((read as CheckpointError).message);
  return read as CheckpointError;
}

async function opened(bytes: Uint8Array, inspect: (value: Map<string, Tensor>) => void): Promise<void> {
  writeFileSync(file, bytes);
  await tidy(async () => inspect((await load(file)) as Map<string, Tensor>));
}

describe('one stream', () => {
  interface Parts {
    magic: unknown;
    protocol: unknown;
    system: unknown;
    object: unknown;
    keys: unknown;
    data: Uint8Array;
  }

  const storage = ({ numel = 4 as unknown, view = null as unknown, key = '0' as unknown } = {}): PersistentId =>
    new PersistentId(Tuple.of<unknown>('storage', floats, key, 'cpu', numel, view));

  const tensor = (of: unknown, shape: number[] = [4]): Reduction =>
    new Reduction(
      new GlobalName('torch._utils', '_rebuild_tensor_v2'),
      Tuple.of<unknown>(of, 0, Tuple.from(shape), Tuple.from(shape.map(() => 1)), false, new OrderedDict()),
    );

  function stream(changes: Partial<Parts> = {}): Buffer {
    const parts = {
      magic: 0x1950a86a20f9469cfc6cn,
      protocol: 1001,
      system: new Map([['little_endian', true]]),
      object: new Map<string, unknown>([['w', tensor(storage())]]),
      keys: ['0'],
      data: Buffer.concat([int64(4), Buffer.alloc(16)]),
      ...changes,
    };
    const pickles = [parts.magic, parts.protocol, parts.system, parts.object, parts.keys];
    return Buffer.concat([...pickles.map((value) => Buffer.from(writePickle(value))), parts.data]);
  }

  const view = (...metadata: unknown[]): unknown => tensor(storage({ view: Tuple.from(metadata) }), [1]);

  it('accepts the case that the others vary', async () => {
    await opened(stream(), (value) => expect(value.get('w')!.tolist()).toEqual([0, 0, 0, 0]));
  });

  it.each<[string, Partial<Parts>, string]>([
    ['another protocol', { protocol: 1002 }, '1002'],
    ['facts about the writer that are none', { system: [] }, 'not a dict'],
    ['keys that are no list', { keys: '0' }, 'not a list'],
    ['a storage that nothing needs', { keys: ['0', '1'] }, 'nothing needs'],
    ['a key that is no string', { keys: [0] }, 'nothing needs'],
    ['a storage that is not there', { keys: [], data: Buffer.alloc(0) }, 'not in the file'],
    [
      'a storage that is there twice',
      { keys: ['0', '0'], data: Buffer.concat([int64(4), Buffer.alloc(16), int64(4), Buffer.alloc(16)]) },
      'twice',
    ],
    ['a count that is not the claimed one', { data: Buffer.concat([int64(3), Buffer.alloc(16)]) }, '3 elements'],
    ['a count that wraps', { data: Buffer.concat([int64(2n ** 62n + 4n), Buffer.alloc(16)]) }, 'elements'],
    ['a negative count', { data: Buffer.concat([int64(-4), Buffer.alloc(16)]) }, 'elements'],
    ['a storage cut short', { data: Buffer.concat([int64(4), Buffer.alloc(15)]) }, 'cut short'],
    ['a storage larger than the file', { object: [tensor(storage({ numel: 2 ** 40 }))] }, 'claims'],
    ['one storage with two sizes', { object: [tensor(storage()), tensor(storage({ numel: 3 }), [3])] }, 'two ways'],
    ['a view beyond its storage', { object: [view('v', 3, 2)] }, 'beyond'],
    ['a view before its storage', { object: [view('v', -1, 2)] }, 'view offset'],
    ['a view of two places', { object: [view('v', 0, 2), view('v', 1, 2)] }, 'two ways'],
    ['a view without a size', { object: [view('v', 0)] }, 'view key'],
    ['a tensor beyond its view', { object: [tensor(storage({ view: Tuple.of<unknown>('v', 0, 2) }), [3])] }, 'ends at'],
    ['a container from its source', { object: [new PersistentId(Tuple.of<unknown>('module', floats, 'a', 'b'))] }, ''],
  ])('%s', async (_, changes, text) => {
    expect((await refusal(stream(changes))).message).toContain(text);
  });

  it('is refused when it ends early, at every byte', async () => {
    const whole = stream();
    for (let length = 0; length < whole.length; length++) await refusal(whole.subarray(0, length));
  });

  it('a second stream that announces gigabytes is refused at its announcement', async () => {
    const head = Buffer.concat([0x1950a86a20f9469cfc6cn, 1001, new Map()].map((value) => writePickle(value)));
    for (const claim of ['X\xff\xff\xff\xff', '\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f', 'V'])
      expect((await refusal(Buffer.concat([head, Buffer.from(claim, 'latin1')]))).code).toContain('TRUNCATED');
  });
});

describe('tar', () => {
  const pickle = (value: unknown): Buffer => Buffer.from(writePickle(value));
  const dictionary = (id: unknown): Buffer => pickle(new Map([['w', new PersistentId(id as Tuple)]]));

  function header(name: string, size: number, type: string): Buffer {
    const block = Buffer.alloc(512);
    block.write(name, 'latin1');
    block.write(size.toString(8).padStart(11, '0'), 124, 'latin1');
    block.write(`        ${type}`, 148, 'latin1');
    block.write('ustar\x0000', 257, 'latin1');
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    return block;
  }

  const member = (name: string, data: Buffer, type = '0'): Buffer =>
    Buffer.concat([header(name, data.length, type), data, Buffer.alloc((512 - (data.length % 512)) % 512)]);

  const storages = (numel: number | bigint, views: unknown = []): Buffer =>
    Buffer.concat([
      pickle(1),
      pickle(Tuple.of<unknown>(1, 'cpu', floats)),
      int64(numel),
      Buffer.alloc(16),
      pickle(views),
    ]);

  const tensors = (root: number, type: string, ...values: (number | bigint)[]): Buffer =>
    Buffer.concat([pickle(1), pickle(Tuple.of<unknown>(2, root, new GlobalName('torch', type))), int64(...values)]);

  function tar({
    parts = {} as Record<string, Buffer>,
    extra = [] as Buffer[],
    end = Buffer.alloc(1024),
  } = {}): Buffer {
    const members = {
      storages: storages(4),
      tensors: tensors(1, 'FloatTensor', 1, 4, 1, 0),
      pickle: dictionary(2),
      ...parts,
    };
    return Buffer.concat([...Object.entries(members).map(([name, data]) => member(name, data)), ...extra, end]);
  }

  it('accepts the case that the others vary', async () => {
    await opened(tar(), (value) => expect(value.get('w')!.tolist()).toEqual([0, 0, 0, 0]));
  });

  it.each<[string, Buffer, string]>([
    ['a link', tar({ extra: [member('link', Buffer.alloc(0), '2')] }), 'not a regular file'],
    ['a directory', tar({ extra: [member('..', Buffer.alloc(0), '5')] }), 'not a regular file'],
    ['a name twice', tar({ extra: [member('pickle', Buffer.alloc(0))] }), 'two files'],
    ['a name given anew', tar({ extra: [member('x', Buffer.from('20 path=../../etc\n'), 'x')] }), "sets 'path'"],
    ['no end', tar({ end: Buffer.alloc(0) }), 'end mark'],
    ['no checkpoint', member('a', Buffer.alloc(0)), 'end mark'],
    ['a count beyond the bytes', tar({ parts: { storages: storages(5) } }), ''],
    ['a count that wraps', tar({ parts: { storages: storages(2n ** 62n + 4n) } }), 'claims'],
    ['a negative count', tar({ parts: { storages: storages(-1) } }), 'claims'],
    ['a view beyond its storage', tar({ parts: { storages: storages(4, [Tuple.of(3, 1, 2, 3)]) } }), 'beyond'],
    ['a view of nothing', tar({ parts: { storages: storages(4, [Tuple.of(3, 9, 0, 1)]) } }), 'not one of a storage'],
    ['millions of storages', tar({ parts: { storages: pickle(2 ** 40) } }), 'count'],
    ['a tensor of no storage', tar({ parts: { tensors: tensors(7, 'FloatTensor', 1, 4, 1, 0) } }), 'no storage'],
    ['a tensor of another class', tar({ parts: { tensors: tensors(1, 'LongTensor', 1, 2, 1, 0) } }), 'class'],
    ['a tensor beyond its storage', tar({ parts: { tensors: tensors(1, 'FloatTensor', 1, 5, 1, 0) } }), 'ends at'],
    ['negative strides', tar({ parts: { tensors: tensors(1, 'FloatTensor', 1, 2, -1, 3) } }), '-1'],
    ['4 billion dimensions', tar({ parts: { tensors: tensors(1, 'FloatTensor', 0xffffffff) } }), 'dimensions'],
    ['a reference to nothing', tar({ parts: { pickle: dictionary(8) } }), 'no tensor or storage 8'],
    ['bytes behind the pickle', tar({ parts: { pickle: Buffer.concat([dictionary(2), Buffer.from('.')]) } }), 'follow'],
  ])('%s', async (_, bytes, text) => {
    expect((await refusal(bytes)).message).toContain(text);
  });

  it('with a bit of a header flipped, or cut short anywhere in its headers', async () => {
    const whole = tar();
    for (let at = 0; at < 345; at += 3) {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 1;
      await refusal(bytes);
    }
    for (let length = 0; length < whole.length - 512; length += 97) await refusal(whole.subarray(0, length));
  });
});
