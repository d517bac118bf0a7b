/** Small files that ask for much memory or time: each must be refused, or loaded within its size and 64 MB. */
import { crc32, deflateRawSync } from 'node:zlib';
import {
  bytes,
  checkpoint,
  legacyFile,
  op,
  pickle,
  safetensorsFile,
  storage,
  tarFile,
  tensorOf,
  uint32,
} from './assemble';

const count = 1_000_000;

const get = (index: number): Buffer => bytes('h', Buffer.of(index));
const put = (index: number): Buffer => bytes('q', Buffer.of(index));

/** Makes a pickle, or one that asks for a share of that. */
type Make = (share: number) => Buffer;

/** Runs `body` many times inside of one list. */
function times(body: Uint8Array | string, times = count, before: Uint8Array | string = ''): Make {
  const unit = bytes(body);
  return (share) => pickle(before, '](', Buffer.alloc(unit.length * Math.ceil(times * share), unit), 'e');
}

/** A function and its arguments once, then many calls of it. */
function calls(callee: Uint8Array, args: Uint8Array | string, times_ = count / 2): Make {
  const remembered = bytes(callee, put(0), '0', args, put(1), '0');
  return times(bytes(get(0), get(1), 'R'), times_, remembered);
}

/** As many parts as `one` makes. */
function series(many: number, one: (i: number) => Uint8Array): Buffer {
  return Buffer.concat(Array.from({ length: many }, (_, i) => one(i)));
}

function float(value: number): Buffer {
  const parts = Buffer.from('G........');
  parts.writeDoubleBE(value, 1);
  return parts;
}

const longDict = bytes(
  '}(',
  series(100_000, (i) => bytes('J', uint32(i), 'N')),
  'u',
);
const longText = op.text('x'.repeat(count));
const manyDimensions = Array<number>(64).fill(1);
const rebuild = op.global('torch._utils', '_rebuild_tensor_v2');
const tensorArgs = (dims: number[]): Buffer =>
  op.tuple(storage(), op.int(0), op.tuple(...dims.map(op.int)), op.tuple(...dims.map(op.int)), '\x89', '}');

/** Pickles in a zip. */
const pickles: Record<string, Make> = {
  'nested lists': (share) => pickle(']'.repeat(share * count + 1), 'a'.repeat(share * count)),
  'nested tuples': (share) => pickle('N', '\x85'.repeat(share * 2 * count)),
  'nested dicts': (share) => pickle('}N'.repeat(share * count), '}', 's'.repeat(share * count)),
  'empty lists': times(']', 2 * count),
  'empty dicts': times('}', 2 * count),
  'empty sets': times('\x8f', 2 * count),
  'bytes of none': times('C\0'),
  'byte arrays of none': times('\x96\0\0\0\0\0\0\0\0', 500_000),
  'short texts': times(bytes('\x8c\x02', 'ab')),
  floats: times('G\x3f\xf0\0\0\0\0\0\x01'),
  'ints of 16 bytes': times(bytes('\x8a\x10', '\x7f'.repeat(16)), 300_000),
  'ints in text': times('I12345678901234567890\n', 300_000),
  nulls: times('N', 8 * count),
  marks: (share) => pickle('('.repeat(share * 8 * count), 'N', '1'.repeat(share * 8 * count), 'N'),
  memo: (share) => pickle('N', '\x94'.repeat(share * 8 * count)),
  'memo that is recalled': (share) =>
    pickle(
      'N',
      series(share * count, (i) => bytes('r', uint32(i), '0j', uint32(i))),
    ),
  'memo of far indices': (share) =>
    pickle(
      'N',
      series(share * count, (i) => bytes('r', uint32(i * 5 + 7))),
    ),
  'a list of nulls, one by one': (share) => pickle(']', 'Na'.repeat(share * 4 * count)),
  'a dict': (share) =>
    pickle(
      '}',
      series(share * count, (i) => bytes(op.int(i), 'Ns')),
    ),
  'a dict of floats': (share) =>
    pickle(
      '}',
      series(share * count, (i) => bytes(float(i + 0.5), float(i + 0.25), 's')),
    ),
  'a dict of texts': (share) =>
    pickle(
      '}(',
      series(share * count, (i) => bytes(op.shortText(`${i}`), op.int(i))),
      'u',
    ),
  'a set of ints': (share) => pickle('\x8f(', series(share * count, op.int), '\x90'),
  'ordered dicts': calls(op.global('collections', 'OrderedDict'), ')'),
  'counters of a dict': calls(op.global('collections', 'Counter'), bytes(longDict, '\x85'), 20_000),
  'ordered dicts of pairs': calls(
    op.global('collections', 'OrderedDict'),
    bytes('](', ...Array.from({ length: 10_000 }, (_, i) => bytes('](', op.int(i), 'Ne')), 'e\x85'),
    20_000,
  ),
  'sets of a list': calls(
    op.global('builtins', 'set'),
    bytes('](', ...Array.from({ length: 50_000 }, (_, i) => op.int(i)), 'e\x85'),
    20_000,
  ),
  'states of ordered dicts': times(
    bytes(get(0), ')R', get(1), 'b'),
    20_000,
    bytes(
      ...[op.global('collections', 'OrderedDict'), put(0), '0'],
      ...['}(', ...Array.from({ length: 20_000 }, (_, i) => bytes(op.shortText(`a${i}`), 'N')), 'u', put(1), '0'],
    ),
  ),
  'bytes of a text': calls(op.global('_codecs', 'encode'), bytes(longText, op.text('latin1'), '\x86'), 20_000),
  'byte arrays of a text': calls(
    op.global('builtins', 'bytearray'),
    bytes(longText, op.text('latin1'), '\x86'),
    20_000,
  ),
  'sizes of a list': calls(
    op.global('torch', 'Size'),
    bytes('](', op.int(1), ...Array<Buffer>(10_000).fill(op.int(1)), 'e\x85'),
    20_000,
  ),
  'keys of a long tuple': (share) =>
    pickle(
      '(',
      Buffer.alloc(500_000, 'K\x01'),
      't',
      put(0),
      '0}(',
      Buffer.alloc(3 * Math.ceil(share * 200_000), bytes(get(0), 'N')),
      'u',
    ),
  tensors: calls(rebuild, tensorArgs([])),
  'tensors of many dimensions': calls(rebuild, tensorArgs(manyDimensions)),
  'meta tensors': calls(
    op.global('torch._utils', '_rebuild_meta_tensor_no_storage'),
    op.tuple(op.global('torch', 'float32'), ')', ')', '\x89'),
  ),
  'arrays of one text': calls(
    op.global('numpy.core.numeric', '_frombuffer'),
    bytes(
      '(',
      ...[bytes('B', uint32(count), Buffer.alloc(count))],
      ...[
        op.call('numpy', 'dtype', op.text('u1'), '\x89', '\x88'),
        '(K\x03',
        op.text('|'),
        'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb',
      ],
      ...[op.tuple(op.int(count)), op.text('C'), 't'],
    ),
    20_000,
  ),
  'unknown names': times(bytes('c', 'os', '\n', 'system', '\n')),
};

function deflated(size: number): Buffer {
  const stored = deflateRawSync(Buffer.alloc(size), { level: 9 });
  return checkpoint(pickle(tensorOf({ type: 'ByteStorage', numel: size })), {
    'data/0': { stored, method: 8, size, crc: crc32(Buffer.alloc(size)) },
  });
}

function zipRecords(many: number): Buffer {
  return checkpoint(pickle('N'), Object.fromEntries(Array.from({ length: many }, (_, i) => [`d/${i}`, ''])));
}

/** As many tensors as can be, each over a storage of its own, in as few bytes as can be. */
export function tensorsWithStorages(many: number): Buffer {
  const parts = [rebuild, op.text('storage'), op.global('torch', 'ByteStorage'), op.text('cpu')];
  const remembered = bytes(...parts.flatMap((part, i) => [part, put(i), '0']));
  const tensorOver = (i: number): Buffer =>
    bytes(get(0), '((', get(1), get(2), op.shortText(`${i}`), get(3), 'K\x01tQK\0K\x01\x85K\x01\x85\x89}tR');
  const each = Array.from({ length: many }, (_, i) => tensorOver(i));
  const records = Object.fromEntries(each.map((_, i) => [`data/${i}`, Buffer.of(i & 0xff)]));
  return checkpoint(pickle(remembered, '](', ...each, 'e'), records);
}

/** What such a file takes is in proportion to its size. */
export const storages = 'tensors with storages';

/** File by name, made when it is asked for. */
export const bombs: Readonly<Record<string, (share?: number) => Buffer>> = {
  ...Object.fromEntries(Object.entries(pickles).map(([name, make]) => [name, (share = 1) => checkpoint(make(share))])),
  'deflated zeros': (share = 1) => deflated(Math.floor(share * 2 ** 30)),
  'records of a zip': (share = 1) => zipRecords(share * 60_000),
  [storages]: (share = 1) => tensorsWithStorages(share * 60_000),
  'stream, empty lists': (share = 1) => legacyFile(times(']', 2 * count)(share).subarray(2, -1)),
  'stream, keys': (share = 1) => legacyFile('N', times('\x8c\x02ab')(share).subarray(2, -1)),
  'tar, empty lists': (share = 1) =>
    tarFile([
      { name: 'storages', data: pickle(op.int(0)) },
      { name: 'pickle', data: times(']', 2 * count)(share) },
    ]),
  'tar, members': (share = 1) =>
    tarFile(Array.from({ length: share * 20_000 }, (_, i) => ({ name: `${i}`, data: '' }))),
  'safetensors, tensors': (share = 1) =>
    safetensorsFile(
      `{${Array.from({ length: share * 300_000 }, (_, i) => `"${i}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`).join()}}`,
    ),
  'safetensors, metadata': (share = 1) =>
    safetensorsFile(`{"__metadata__":{${Array.from({ length: share * 500_000 }, (_, i) => `"${i}":""`).join()}}}`),
  'index, names': (share = 1) =>
    bytes(`{"weight_map":{${Array.from({ length: share * 500_000 }, (_, i) => `"${i}":"f${i}"`).join()}}}`),
};
