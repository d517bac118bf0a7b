/** D: containers that can be read in two ways, lead elsewhere, or are no checkpoints. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { load } from '../../lib/formats/pt';
import type { Tensor } from '../../lib/tensor/tensor';
import { temporaryDirectory } from '../helpers/tmp';
import { bytes, checkpoint, legacyFile, legacyStorage, legacyTensor, pickle, tarFile, tensorOf } from './assemble';
import { attacks } from './refuse';

const { open, refused } = attacks();
const whole = checkpoint(pickle(tensorOf()));
const asContainer = /CHECKPOINT_(CONTAINER|TRUNCATED|FORMAT)$/;

/** The file with bytes written over it at a place that is found by what stands there. */
function patched(file: Buffer, at: number, value: Uint8Array): Buffer {
  const copy = Buffer.from(file);
  copy.set(value, at);
  return copy;
}

const endAt = (file: Buffer): number => file.lastIndexOf('PK\x05\x06', undefined, 'latin1');
const directoryAt = (file: Buffer): number => file.indexOf('PK\x01\x02', 0, 'latin1');
const uint16 = (value: number): Buffer => Buffer.of(value & 0xff, value >> 8);

describe('D1 cut files', () => {
  it.each([
    ['zip', whole],
    ['legacy stream', legacyFile(legacyTensor(legacyStorage()))],
  ])(
    '%s, at every byte',
    async (_, file) => {
      for (let length = 0; length < file.length; length++)
        await expect(open(file.subarray(0, length)), `${length} bytes`).rejects.toMatchObject({
          name: 'CheckpointError',
          code: expect.stringMatching(/^ERR_TORCHBIND_CHECKPOINT_/) as unknown,
        });
    },
    60_000,
  );

  it('without an end record', () => refused(whole.subarray(0, endAt(whole)), { code: asContainer }));
});

describe('D2 two ways to read one file', () => {
  const comment = checkpoint(pickle('N'), {}, { comment: 'x'.repeat(40) });
  it.each([
    ['bytes before the first record', bytes('junk', whole)],
    ['another zip before it', bytes(whole, whole)],
    ['two ends of which neither is the last thing', bytes(whole, whole.subarray(endAt(whole)), 'x')],
    [
      'an end record in the comment',
      patched(comment, comment.length - 40, bytes('PK\x05\x06', Buffer.alloc(16), uint16(18))),
    ],
    [
      'a Zip64 locator that leads elsewhere',
      bytes(whole.subarray(0, endAt(whole)), 'PK\x06\x07', Buffer.alloc(16), whole.subarray(endAt(whole))),
    ],
    ['two numbers of records', patched(whole, endAt(whole) + 8, uint16(3))],
    ['a directory elsewhere', patched(whole, endAt(whole) + 16, uint16(7))],
    ['several disks', patched(whole, endAt(whole) + 4, uint16(1))],
  ])('%s', (_, file) => refused(file, { code: asContainer }));

  it('a comment is no other file, nor is what follows the end', async () => {
    expect(await open(comment)).toBeNull();
    expect(await open(Buffer.from(bytes(comment, 'x')))).toBeNull();
  });
});

describe('D3 names that come twice', () => {
  it.each(['data.pkl', 'data/0', 'version'])('%s', (name) => {
    // Names of one length: the second record is renamed where both headers have it.
    const other = name.replace(/.$/, '~');
    const file = checkpoint(pickle(tensorOf()), { [other]: 'x' });
    const text = file.toString('latin1').replaceAll(`case/${other}`, `case/${name}`);
    return refused(Buffer.from(text, 'latin1'), { code: asContainer, message: /named/ });
  });
});

describe('D4 local headers that differ from the directory', () => {
  it.each([
    ['name', 30 + 5, bytes('D')],
    ['size', 22, uint16(1)],
    ['stored size', 18, uint16(1)],
    ['method', 8, uint16(8)],
    ['flags', 6, uint16(0)],
    ['checksum', 14, uint16(1)],
  ])('%s', (_, at, value) => refused(patched(whole, at, value), { code: asContainer }));
});

describe('D5 flags', () => {
  it.each([0x1, 0x2, 0x4, 0x10, 0x20, 0x40, 0x80, 0x1000, 0x2000, 0x8000])('%i in both headers', (flag) =>
    refused(checkpoint(pickle(tensorOf()), { 'data/0': { stored: Buffer.alloc(16), flags: 0x800 | flag } })),
  );
  it.each([1, 12, 14, 93, 99])('method %i', (method) =>
    refused(checkpoint(pickle(tensorOf()), { 'data/0': { stored: Buffer.alloc(16), method } })),
  );
});

describe('D6 checksums', () => {
  it('of the pickle, of a storage', async () => {
    for (const name of ['data.pkl', 'data/0']) {
      const stored = name === 'data/0' ? Buffer.alloc(16) : pickle(tensorOf());
      const file = checkpoint(pickle(tensorOf()), { [name]: { stored, crc: 1 } });
      await expect(open(file)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_CHECKSUM', record: name });
    }
  });

  it('that are all zero say nothing', async () => {
    const zero = (stored: Buffer): { stored: Buffer; crc: number } => ({ stored, crc: 0 });
    const file = checkpoint(zero(pickle(tensorOf())).stored, {
      'data.pkl': zero(pickle(tensorOf())),
      byteorder: zero(Buffer.from('little')),
      'data/0': zero(Buffer.alloc(16, 1)),
      version: zero(Buffer.from('3\n')),
    });
    expect(((await open(file)) as Tensor).shape).toEqual([4]);
  });
});

describe('D7 names that lead elsewhere', () => {
  it.each(['../evil', '/etc/evil', 'C:\\evil', '..\\evil', 'a/../../evil', 'evil\0.pkl'])(
    '%j in a zip is never written',
    async (name) => {
      const value = await open(checkpoint(pickle('N'), { [name]: 'x' })).catch((error: unknown) => error);
      if (value !== null) expect(value).toMatchObject({ name: 'CheckpointError' });
    },
  );

  it.each([
    ['a symbolic link', { name: 'storages', type: '2', link: '/etc/passwd' }],
    ['a hard link', { name: 'storages', type: '1', link: '/etc/passwd' }],
    ['a path upwards', { name: '../storages', data: 'x' }],
    ['a device', { name: 'storages', type: '3' }],
    ['a FIFO', { name: 'storages', type: '6' }],
  ])('%s in a tar', (_, entry) => refused(tarFile([entry, { name: 'pickle', data: 'N.' }])));
});

describe('D8 ranges', () => {
  const central = directoryAt(whole);
  it.each([
    ['two records at one place', patched(whole, whole.lastIndexOf('PK\x01\x02', undefined, 'latin1') + 42, uint16(0))],
    ['a record beyond the file', patched(whole, central + 42, Buffer.from([0xff, 0xff, 0xff, 0x7f]))],
    ['an extra field of 65535 bytes', patched(whole, 28, uint16(0xffff))],
    ['a name of 65535 bytes', patched(whole, central + 28, uint16(0xffff))],
    ['65535 records', patched(patched(whole, endAt(whole) + 8, uint16(0xffff)), endAt(whole) + 10, uint16(0xffff))],
    [
      'sizes that Zip64 fields should have, and do not',
      patched(patched(whole, central + 20, Buffer.alloc(8, 0xff)), 18, Buffer.alloc(8, 0xff)),
    ],
    ['a directory of 4 GB', patched(whole, endAt(whole) + 12, Buffer.alloc(4, 0xff))],
  ])('%s', (_, file) => refused(file, { code: asContainer }));
});

describe('D9 bombs', () => {
  const packed = deflateRawSync(Buffer.alloc(10_000_000));
  const rss = (): number => process.memoryUsage().rss;

  it('a storage that inflates beyond its claim', async () => {
    const before = rss();
    await refused(checkpoint(pickle(tensorOf()), { 'data/0': { stored: packed, method: 8, size: 16, crc: 1 } }));
    expect(rss() - before).toBeLessThan(64 * 2 ** 20);
  });

  it('a storage that claims more than Deflate can hold', async () => {
    const size = 2 ** 31;
    const numel = size / 4;
    const before = rss();
    await refused(
      checkpoint(pickle(tensorOf({ numel })), {
        'data/0': { stored: deflateRawSync(Buffer.alloc(100)), method: 8, size, crc: 1 },
      }),
    );
    expect(rss() - before).toBeLessThan(64 * 2 ** 20);
  });

  it('a pickle that inflates beyond its claim', () =>
    refused(checkpoint('', { 'data.pkl': { stored: packed, method: 8, size: 100, crc: 1 } })));
});

it('D10 a deflated record is read, mapped or not', async () => {
  const data = Buffer.from(Float32Array.of(1, 2, 3, 4).buffer);
  const { crc32 } = await import('node:zlib');
  const file = checkpoint(pickle(tensorOf()), {
    'data/0': { stored: deflateRawSync(data), method: 8, size: 16, crc: crc32(data) },
  });
  for (const mmap of [false, true]) expect(((await open(file, mmap)) as Tensor).tolist()).toEqual([1, 2, 3, 4]);
});

describe('D11 records that say what the container is', () => {
  it.each([
    ['no version', { version: undefined }],
    ['version 0', { version: '0\n' }],
    ['version 11', { version: '11\n' }],
    ['a version of 5,000 digits', { version: '1'.repeat(5000) }],
    ['a version that is none', { version: 'three' }],
    ['an empty version', { version: '' }],
    ['no pickle', { 'data.pkl': undefined }],
  ])('%s', (_, records) => refused(checkpoint(pickle('N'), records), { code: asContainer }));

  it('two roots', () => {
    const text = whole.toString('latin1');
    const at = [...text.matchAll(/case\/version/g)].map(({ index }) => index);
    return refused(
      at.reduce((file, index) => patched(file, index, bytes('base')), whole),
      { code: asContainer },
    );
  });

  it('no root', () =>
    refused(Buffer.from(whole.toString('latin1').replaceAll('case/', 'case_'), 'latin1'), { code: asContainer }));
});

describe('D12 byte order', () => {
  it.each(['middle', '', 'LITTLE', 'big\n'])('%j', (byteorder) =>
    refused(checkpoint(pickle(tensorOf()), { byteorder })),
  );

  it('big', async () => {
    const data = Buffer.from(Float32Array.of(1, 2, 3, 4).buffer).swap32();
    for (const mmap of [false, true])
      expect(
        ((await open(checkpoint(pickle(tensorOf()), { byteorder: 'big', 'data/0': data }), mmap)) as Tensor).tolist(),
      ).toEqual([1, 2, 3, 4]);
  });
});

describe('D13 one file that looks like two', () => {
  it('zip signatures inside tensors are data', async () => {
    const data = bytes('PK\x05\x06PK\x01\x02PK\x03\x04', 'abcd');
    expect(((await open(checkpoint(pickle(tensorOf()), { 'data/0': data }))) as Tensor).shape).toEqual([4]);
  });

  it.each([
    ['7z', bytes("7z\xbc\xaf'\x1c", Buffer.alloc(100))],
    ['a bare pickle', pickle('N')],
    ['an ELF program', bytes('\x7fELF', Buffer.alloc(100))],
    ['a pickle before a zip', bytes(pickle('N'), whole)],
    ['a safetensors header before a zip', bytes('\x02\0\0\0\0\0\0\0{}', whole)],
    ['the magic number and no more', legacyFile('N').subarray(0, 15)],
    [
      'another protocol of the stream',
      Buffer.from(legacyFile('N').toString('latin1').replace('\xe9\x03', '\xea\x03'), 'latin1'),
    ],
  ])('%s', (_, file) => refused(file));
});

it('D14 a file that shrinks while it is open is a typed error', async () => {
  const directory = temporaryDirectory();
  const file = path.join(directory, 'shrinking.pt');
  const large = checkpoint(pickle(tensorOf({ numel: 1_000_000, shape: [1_000_000] })), {
    'data/0': Buffer.alloc(4_000_000),
  });
  writeFileSync(file, large);
  const loading = load(file).catch((error: unknown) => error);
  truncateSync(file, 1000);
  const result = await loading;
  // The race may be won by either.
  if (!(result as { shape?: number[] }).shape) expect(result).toMatchObject({ name: 'CheckpointError' });
});

describe('D15 what is no file', () => {
  it.each(['/dev/zero', '/dev/null', '/proc/self/mem'])('%s', async (file) => {
    await expect(load(file)).rejects.toMatchObject({ name: 'CheckpointError' });
  });

  it('a directory, a FIFO, an empty file, a dangling link, a name with NUL', async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => path.join(directory, name);
    mkdirSync(at('directory'));
    execFileSync('mkfifo', [at('fifo')]);
    writeFileSync(at('empty'), '');
    symlinkSync(at('nowhere'), at('link'));
    for (const name of ['directory', 'fifo', 'empty', 'link', 'missing'])
      await expect(load(at(name)), name).rejects.toMatchObject({ name: 'CheckpointError' });
    await expect(load(at('nul\0.pt'))).rejects.toMatchObject({ code: 'ERR_TORCHBIND_INVALID_ARGUMENT' });
  });
});
