/**
 * Checkpoints that lie: each is refused with a CheckpointError, read and mapped alike, before anything is made of it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { CheckpointError } from '../../lib/errors';
import { load, save } from '../../lib/formats/pt';
import { ZipWriter } from '../../lib/formats/zip/writer';
import { GlobalName, OrderedDict, Tuple } from '../../lib/pickle/types';
import { PersistentId, Reduction, writePickle } from '../../lib/pickle/writer';
import { arange, tensor } from '../../lib/tensor/creation';
import { memory } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { zipOf } from './zip-of';

const directory = sharedTemporaryDirectory();
const file = path.join(directory, 'case.pt');

const torch = (name: string): GlobalName => new GlobalName('torch', name);
const utils = (name: string): GlobalName => new GlobalName('torch._utils', name);
const untyped = new GlobalName('torch.storage', 'UntypedStorage');

function storage(numel: unknown = 4, { type = torch('FloatStorage'), key = '0' as unknown } = {}): PersistentId {
  return new PersistentId(Tuple.of<unknown>('storage', type, key, 'cpu', numel));
}

/** `_rebuild_tensor_v2` over four floats, with some arguments wrong. */
function rebuilt({
  of = storage() as unknown,
  offset = 0 as unknown,
  shape = [4] as unknown[],
  strides = [1] as unknown[],
  grad = false as unknown,
} = {}): Reduction {
  return new Reduction(
    utils('_rebuild_tensor_v2'),
    Tuple.of<unknown>(of, offset, Tuple.from(shape), Tuple.from(strides), grad, new OrderedDict()),
  );
}

type Records = Record<string, string | Uint8Array | undefined>;

/** Writes a checkpoint with one storage of 16 bytes; `records` replaces, adds, or with undefined removes records. */
async function write(value: unknown, records: Records = {}): Promise<void> {
  const pieces: Uint8Array[] = [];
  const zip = new ZipWriter({ write: (_, bytes) => Promise.resolve(void pieces.push(Buffer.from(bytes))) }, 'case');
  const defaults: Records = {
    'data.pkl': writePickle(value),
    byteorder: 'little',
    'data/0': new Uint8Array(16),
    version: '3\n',
  };
  for (const [name, content] of Object.entries({ ...defaults, ...records })) {
    if (content !== undefined) await zip.add(name, Buffer.from(content as Uint8Array));
  }
  await zip.close();
  writeFileSync(file, Buffer.concat(pieces));
}

/** The error of both ways to open the file, which must be the same. */
async function refusal(): Promise<CheckpointError> {
  const [read, mapped] = await Promise.all(
    [{ mmap: false }, { mmap: true }].map((options) => load(file, options).catch((error: unknown) => error)),
  );
  expect(read).toBeInstanceOf(CheckpointError);
  expect((mapped as CheckpointError).message).toBe((read as CheckpointError).message);
  return read as CheckpointError;
}

describe('claims about tensors', () => {
  it('accepts the case that the others vary', async () => {
    await write(rebuilt());
    expect(((await load(file)) as Tensor).tolist()).toEqual([0, 0, 0, 0]);
  });

  const v3 = (dtype: unknown): Reduction =>
    new Reduction(
      utils('_rebuild_tensor_v3'),
      Tuple.of<unknown>(storage(16, { type: untyped }), 0, Tuple.of(2), Tuple.of(1), false, new OrderedDict(), dtype),
    );

  it.each<[string, unknown]>([
    ['a storage larger than its record', rebuilt({ of: storage(5) })],
    ['a storage smaller than its record', rebuilt({ of: storage(3), shape: [3] })],
    ['a size that wraps at 64 bits', rebuilt({ of: storage(2n ** 62n + 4n) })],
    ['a negative size', rebuilt({ of: storage(-4) })],
    ['a size that is no int', rebuilt({ of: storage(4.5) })],
    ['a record that is not there', rebuilt({ of: storage(4, { key: '1' }) })],
    ['a key that leads elsewhere', rebuilt({ of: storage(4, { key: '../data/0' }) })],
    ['a key that is no string', rebuilt({ of: storage(4, { key: 0 }) })],
    ['a storage of a class that is none', rebuilt({ of: storage(4, { type: torch('Size') }) })],
    ['one storage with two dtypes', [rebuilt(), rebuilt({ of: storage(4, { type: torch('IntStorage') }) })]],
    ['a shape beyond the storage', rebuilt({ shape: [5] })],
    ['an offset beyond the storage', rebuilt({ offset: 1 })],
    ['an offset beyond it of a tensor without elements', rebuilt({ offset: 5, shape: [0] })],
    ['a negative offset', rebuilt({ offset: -1 })],
    ['a stride beyond the storage', rebuilt({ shape: [2, 2], strides: [3, 1] })],
    ['a negative stride', rebuilt({ strides: [-1] })],
    ['strides that wrap at 64 bits', rebuilt({ shape: [3], strides: [2n ** 63n] })],
    ['strides that wrap at 2^53', rebuilt({ shape: [2, 2], strides: [2 ** 53 - 1, 2 ** 53 - 1] })],
    ['a shape whose product wraps', rebuilt({ shape: [2 ** 32, 2 ** 32], strides: [0, 0] })],
    ['a negative dimension', rebuilt({ shape: [-1] })],
    ['shape and strides of two lengths', rebuilt({ shape: [2, 2] })],
    ['65 dimensions', rebuilt({ shape: Array(65).fill(1), strides: Array(65).fill(1) })],
    ['gradients of ints', rebuilt({ of: storage(4, { type: torch('IntStorage') }), grad: true })],
    ['requires_grad that is no bool', rebuilt({ grad: 1 })],
    ['a tensor over a number', rebuilt({ of: 4 })],
    [
      'a parameter of a number',
      new Reduction(utils('_rebuild_parameter'), Tuple.of<unknown>(1, true, new OrderedDict())),
    ],
    ['too few arguments', new Reduction(utils('_rebuild_tensor_v2'), Tuple.of<unknown>(storage(), 0))],
    ['a dtype of no known size', v3(torch('bits8'))],
    ['a dtype that is none', v3('float32')],
    ['a persistent id of another kind', new PersistentId(Tuple.of<unknown>('module', 'a', 'b'))],
    [
      'a persistent id that is no tuple',
      new Reduction(torch('Size'), Tuple.of<unknown>(new PersistentId(5 as unknown as Tuple))),
    ],
    [
      'a function in place of a rebuild function',
      new Reduction(
        new GlobalName('torch._tensor', '_rebuild_from_type_v2'),
        Tuple.of<unknown>(torch('Size'), torch('Tensor'), new Tuple(), null),
      ),
    ],
  ])('%s', async (_, value) => {
    await write(value);
    const error = await refusal();
    expect(error.code).toMatch(/^ERR_TORCHBIND_CHECKPOINT_(PICKLE|UNSUPPORTED)$/);
    expect(error.record).toBe('data.pkl');
  });
});

describe('claims of the container', () => {
  it.each<[string, Records, string]>([
    ['no pickle', { 'data.pkl': undefined, 'other.pkl': 'N.' }, "without a record 'data.pkl'"],
    ['no version', { version: undefined }, "'version' is missing"],
    ['a version of the future', { version: '11\n' }, '"11\\n"'],
    ['a version of 5,000 digits', { version: '1'.repeat(5000) }, '5000 bytes'],
    ['a byte order that is none', { byteorder: 'middle' }, '"middle"'],
    ['bytes behind the pickle', { 'data.pkl': 'N.N.' }, '2 bytes follow'],
    ['a program', { 'code/__torch__.py': 'pass', 'constants.pkl': ').' }, 'TorchScript'],
  ])('%s', async (_, records, text) => {
    await write(null, records);
    expect((await refusal()).message).toContain(text);
  });

  it('a pickle that would inflate beyond what a string can be', async () => {
    const version = Buffer.from('3\n');
    const stored = Buffer.concat([deflateRawSync(Buffer.alloc(100)), Buffer.alloc(2 ** 21 + 2 ** 12)]);
    const pickle = { name: 'r/data.pkl', method: 8, stored, size: 2 ** 31 };
    writeFileSync(file, zipOf([pickle, { name: 'r/version', stored: version }]));
    expect((await refusal()).message).toContain('2147483648 bytes');
  });

  it('a record that would inflate beyond what its bytes can make', async () => {
    const pickle = { name: 'r/data.pkl', method: 8, stored: deflateRawSync(Buffer.alloc(100)), size: 2 ** 20 };
    writeFileSync(file, zipOf([pickle, { name: 'r/version', stored: Buffer.from('3\n') }]));
    expect((await refusal()).message).toContain('which cannot be');
  });

  it('names the function that a pickle wants to call', async () => {
    await write(null, { 'data.pkl': Buffer.from('\x80\x02cposix\nsystem\nU\x04echo\x85R.', 'latin1') });
    const error = await refusal();
    expect(error.code).toBe('ERR_TORCHBIND_CHECKPOINT_GLOBAL');
    expect(error.message).toContain('posix.system');
  });
});

describe('damaged files', () => {
  let whole: Buffer;

  beforeAll(async () => {
    await save({ w: arange(3), n: tensor([1, 2], { dtype: 'int64' }), step: 7 }, file);
    whole = readFileSync(file);
  });

  it('are refused when they end early, at every byte', async () => {
    const cut = path.join(directory, 'cut.pt');
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(cut, whole.subarray(0, length));
      await expect(load(cut), `${length} bytes`).rejects.toBeInstanceOf(CheckpointError);
    }
  }, 60_000);

  it('never load silently different when a bit is flipped, and leave no tensors behind', async () => {
    const flipped = path.join(directory, 'flipped.pt');
    const text = (value: unknown): string => {
      const plain = [...(value as Map<string, Tensor | number>)].map(([key, item]) =>
        typeof item === 'number'
          ? [key, item]
          : [key, item.dtype, item.shape, item.strides(), item.toTypedArray().join()],
      );
      return JSON.stringify(plain);
    };
    const truth = text(await load(file));
    const before = memory().numTensors;
    let refused = 0;
    let loaded = 0;
    // One bit of each byte, each of the eight in turn.
    for (let bit = 0; bit < whole.length * 8; bit += 9) {
      const bytes = Buffer.from(whole);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      writeFileSync(flipped, bytes);
      const value = await load(flipped).catch((error: unknown) => error);
      if (value instanceof CheckpointError) refused++;
      else {
        if (text(value) !== truth) throw new Error(`loads differently with bit ${bit} flipped: ${text(value)}`);
        for (const item of (value as Map<string, Tensor>).values()) if (typeof item === 'object') item.dispose();
        loaded++;
      }
    }
    // What loads all the same was flipped in padding, time stamps and versions, which say nothing.
    expect(refused).toBeGreaterThan(loaded / 2);
    expect(memory().numTensors).toBeLessThanOrEqual(before);
  }, 120_000);
});
