/** The container: what the writer lays out, and how the reader meets damage and lies. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { ByteSource } from '../../lib/formats/files/byte-source';
import { combineCrc32 } from '../../lib/formats/files/crc32';
import { CheckpointError } from '../../lib/errors';
import { ZipReader } from '../../lib/formats/zip/reader';
import { ZipWriter } from '../../lib/formats/zip/writer';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { zipOf } from './zip-of';

const directory = sharedTemporaryDirectory();

/** A file in memory, which can be far larger than what is written of it. */
class SparseTarget {
  readonly pieces = new Map<number, Uint8Array>();

  write(position: number, bytes: Uint8Array): Promise<void> {
    this.pieces.set(position, Buffer.from(bytes));
    return Promise.resolve();
  }

  whole(): Buffer {
    return Buffer.concat([...this.pieces.values()]);
  }
}

const data = Buffer.from(Array.from({ length: 100 }, (_, i) => i));

async function sample(): Promise<Buffer> {
  const target = new SparseTarget();
  const writer = new ZipWriter(target, 'root');
  await writer.add('data.pkl', Buffer.from('pickle'));
  await writer.add('data/0', data);
  await writer.add('data/1', new Uint8Array());
  await writer.close();
  return target.whole();
}

async function open<T>(bytes: Uint8Array, use: (zip: ZipReader, source: ByteSource) => T | Promise<T>): Promise<T> {
  const file = path.join(directory, 'sample.zip');
  writeFileSync(file, bytes);
  const source = ByteSource.open(file);
  try {
    return await use(await ZipReader.open(source), source);
  } finally {
    source.close();
  }
}

function readAll(bytes: Uint8Array): Promise<Map<string, Buffer>> {
  return open(bytes, async (zip) => {
    const contents = new Map<string, Buffer>();
    for (const record of zip.records.values()) contents.set(`${zip.root}/${record.name}`, await zip.read(record));
    return contents;
  });
}

/** Where a byte string begins that occurs once. */
function find(bytes: Buffer, text: string, from = 0): number {
  const at = bytes.indexOf(Buffer.from(text, 'latin1'), from);
  expect(at).toBeGreaterThanOrEqual(0);
  return at;
}

describe('combineCrc32', () => {
  it('gives the checksum of the whole from those of its parts', () => {
    const bytes = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 256));
    for (const cut of [0, 1, 2, 63, 1000, 4096, 4999, 5000]) {
      const [first, second] = [bytes.subarray(0, cut), bytes.subarray(cut)];
      expect(combineCrc32(crc32(first), crc32(second), second.length), String(cut)).toBe(crc32(bytes));
    }
  });
});

describe('ZipWriter', () => {
  it('writes what ZipReader reads', async () => {
    const contents = await readAll(await sample());
    expect([...contents.keys()]).toEqual([
      'root/data.pkl',
      'root/data/0',
      'root/data/1',
      'root/.data/serialization_id',
    ]);
    expect(contents.get('root/data/0')).toEqual(data);
    expect(contents.get('root/.data/serialization_id')!.toString()).toMatch(/^\d{40}$/);
  });

  it('goes over to Zip64 fields beyond 4 GiB', async () => {
    const target = new SparseTarget();
    const writer = new ZipWriter(target, 'r');
    const size = 2 ** 32 + 10;
    const positions: number[] = [];
    const external = (crc: number) => (position: number) => {
      positions.push(position);
      return Promise.resolve(crc);
    };
    await writer.addExternal('data/0', size, external(1));
    await writer.addExternal('data/1', 8, external(2));
    const length = await writer.close();
    expect(positions.map((position) => position % 64)).toEqual([0, 0]);
    const after = positions[0]! + size;
    const gap = Buffer.from(target.pieces.get(after)!);
    // A 24-byte descriptor, then the next header, which names its own offset.
    expect(gap.readBigUInt64LE(8)).toBe(BigInt(size));
    expect(gap.readUInt32LE(24)).toBe(0x04034b50);
    expect(gap.readBigUInt64LE(24 + 30 + 'r/data/1'.length + 4)).toBe(BigInt(after + 24));
    const last = target.pieces.get(Math.max(...target.pieces.keys()))!;
    expect(Buffer.from(last).readUInt32LE(last.length - 22)).toBe(0x06054b50);
    expect(Buffer.from(last).readUInt32LE(last.length - 6)).toBe(0xffffffff);
    expect(length).toBe(Math.max(...target.pieces.keys()) + last.length);
  });
});

describe('ZipReader', () => {
  it('reads every whole file and no part of one', async () => {
    const whole = await sample();
    for (let length = 1; length < whole.length; length++) {
      await expect(readAll(whole.subarray(0, length)), `${length} bytes`).rejects.toBeInstanceOf(CheckpointError);
    }
  });

  it('inflates no more than a record states', async () => {
    const bomb = zipOf([{ name: 'r/a', method: 8, stored: deflateRawSync(Buffer.alloc(1 << 20)), size: 10 }]);
    await expect(readAll(bomb)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_CONTAINER' });
    const fine = Buffer.from('contents');
    const compressed = zipOf([
      { name: 'r/a', method: 8, stored: deflateRawSync(fine), size: fine.length, crc: crc32(fine) },
    ]);
    expect((await readAll(compressed)).get('r/a')).toEqual(fine);
  });

  it('accepts a comment behind the end record, and files without any checksum', async () => {
    const plain = zipOf([{ name: 'r/a', stored: data }], { comment: 'PK' });
    expect((await readAll(plain)).get('r/a')).toEqual(data);
    const unchecked = zipOf([{ name: 'r/a', stored: data, crc: 0 }]);
    expect(await open(unchecked, (zip) => zip.hasChecksums)).toBe(false);
    expect((await readAll(unchecked)).get('r/a')).toEqual(data);
  });

  const wrong = zipOf([
    { name: 'r/a', stored: data, crc: 1 },
    { name: 'r/b', stored: data },
  ]);
  const two = [
    { name: 'r/a', stored: data },
    { name: 'r/b', stored: data },
  ];
  const end = zipOf([]);

  it.each<[string, Buffer, string]>([
    ['a wrong checksum', wrong, 'damaged'],
    ['two records of one name', zipOf([two[0]!, two[0]!]), 'two records are named'],
    [
      'records that overlap',
      patch(zipOf(two), (bytes, at) => bytes.writeUInt32LE(0, at('PK\x01\x02', 1) + 42)),
      'overlaps',
    ],
    [
      'a name that differs in the local header',
      patch(zipOf(two), (bytes, at) => bytes.write('x', at('r/a') + 2)),
      'disagree (name)',
    ],
    [
      'a size that differs in the local header',
      patch(zipOf(two), (bytes) => bytes.writeUInt32LE(99, 22)),
      'disagree (size',
    ],
    [
      'a method that differs in the local header',
      patch(zipOf(two), (bytes) => bytes.writeUInt16LE(8, 8)),
      'disagree (flags',
    ],
    ['an encrypted record', zipOf([{ name: 'r/a', stored: data, flags: 0x801 }]), 'encrypted'],
    ['a patched record', zipOf([{ name: 'r/a', stored: data, flags: 0x20 }]), 'encrypted and patched'],
    ['an unknown method', zipOf([{ name: 'r/a', stored: data, method: 12 }]), 'compression method 12'],
    ['a stored record with two sizes', zipOf([{ name: 'r/a', stored: data, size: 5 }]), 'two sizes'],
    ['records in two folders', zipOf([two[0]!, { name: 'other/b', stored: data }]), 'records in one folder'],
    ['a record in no folder', zipOf([{ name: 'a', stored: data }]), 'records in one folder'],
    ['a NUL in a name', zipOf([{ name: 'r/a\0b', stored: data }]), 'not valid text'],
    ['no records', end, 'empty'],
    ['bytes before the first record', Buffer.concat([Buffer.from('junk'), zipOf(two)]), 'does not end'],
    ['two end records', zipOf(two, { comment: end.toString('latin1') }), 'two ways'],
    [
      'a count that lies',
      patch(zipOf(two), (bytes, at) => bytes.writeUInt32LE(0x00030003, at('PK\x05\x06') + 8)),
      '3 records cannot be',
    ],
    [
      'a directory size that lies',
      patch(zipOf(two), (bytes, at) => bytes.writeUInt32LE(46, at('PK\x05\x06') + 12)),
      'does not end',
    ],
    [
      'an offset beyond the file',
      patch(zipOf(two), (bytes, at) => bytes.writeUInt32LE(0x7fffffff, at('PK\x01\x02', 1) + 42)),
      'are needed in a file',
    ],
    ['one disk of several', patch(zipOf(two), (bytes, at) => bytes.writeUInt16LE(1, at('PK\x05\x06') + 4)), 'several'],
  ])('refuses %s', async (_, bytes, text) => {
    const error: unknown = await readAll(bytes).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as CheckpointError).message).toContain(text);
  });

  it('refuses a Zip64 end record that says another thing than the end record', async () => {
    const bytes = await sample();
    for (const offset of [24, 40, 48]) {
      const lying = Buffer.from(bytes);
      const at = find(lying, 'PK\x06\x06') + offset;
      lying.writeBigUInt64LE(lying.readBigUInt64LE(at) + 1n, at);
      await expect(readAll(lying), String(offset)).rejects.toBeInstanceOf(CheckpointError);
    }
    const huge = Buffer.from(bytes);
    huge.writeBigUInt64LE(2n ** 63n, find(huge, 'PK\x06\x06') + 40);
    await expect(readAll(huge)).rejects.toBeInstanceOf(CheckpointError);
  });

  it('names the record whose bytes are damaged', async () => {
    const bytes = await sample();
    bytes[bytes.indexOf(data)]! ^= 1;
    await expect(readAll(bytes)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_CHECKSUM', record: 'data/0' });
  });
});

/** Changes a copy; `at` finds the nth occurrence of a byte string. */
function patch(bytes: Buffer, change: (bytes: Buffer, at: (text: string, nth?: number) => number) => unknown): Buffer {
  const copy = Buffer.from(bytes);
  change(copy, (text, nth = 0) => {
    let found = copy.indexOf(text, 0, 'latin1');
    for (let i = 0; i < nth; i++) found = copy.indexOf(text, found + 1, 'latin1');
    return found;
  });
  return copy;
}
