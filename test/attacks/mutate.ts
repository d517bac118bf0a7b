/**
 * Mutated checkpoints: valid files of every container, changed at random with knowledge of their structure. From the
 * same seed come the same files.
 */
import {
  bytes,
  checkpoint,
  legacyFile,
  legacyStorage,
  legacyTensor,
  op,
  pickle,
  safetensorsFile,
  tarFile,
  tensorOf,
  uint64,
} from './assemble';

/** Marsaglia's xorshift, 32 bits. */
export class Random {
  constructor(private state: number) {
    this.state = (state * 2654435761 + 1) >>> 0 || 1;
  }

  below(limit: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) % limit;
  }

  pick<T>(items: ArrayLike<T>): T {
    return items[this.below(items.length)]!;
  }
}

const opcodes = Buffer.from(
  '()*+,-./012BCFGIJKLMNPQRSTUVX]abcdeghijlopqrstu}\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98',
  'latin1',
);
const extremes = [0, 1, 2, 0x7f, 0x80, 0xff, 0xfffe, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

/** Some bytes of a file changed: bits, bytes, numbers, runs that go, come, or move. */
export function mutateBytes(file: Uint8Array, random: Random): Buffer {
  let copy = Buffer.from(file);
  for (let times = 1 + random.below(4); times > 0 && copy.length > 8; times--) {
    const at = random.below(copy.length);
    const length = 1 + random.below(Math.min(32, copy.length - at));
    switch (random.below(8)) {
      case 0:
        copy[at]! ^= 1 << random.below(8);
        break;
      case 1:
        copy[at] = random.below(256);
        break;
      case 2:
        copy.writeUInt32LE(random.pick(extremes), Math.min(at, copy.length - 4));
        break;
      case 3:
        copy.writeUInt16LE(random.pick(extremes) & 0xffff, Math.min(at, copy.length - 2));
        break;
      case 4:
        copy = Buffer.concat([copy.subarray(0, at), copy.subarray(at + length)]);
        break;
      case 5:
        copy = Buffer.concat([copy.subarray(0, at + length), copy.subarray(at)]);
        break;
      case 6:
        copy.copy(copy, random.below(copy.length - length + 1), at, at + length);
        break;
      default:
        copy = copy.subarray(0, at + 1);
    }
  }
  return copy;
}

/** A pickle with opcodes put in, replaced or taken out, or with its bytes mutated. */
export function mutatePickle(stream: Uint8Array, random: Random): Buffer {
  if (random.below(3) === 0) return mutateBytes(stream, random);
  const copy = Buffer.from(stream);
  const at = random.below(copy.length);
  const opcode = Buffer.of(random.pick(opcodes));
  const keep = random.below(2);
  return Buffer.concat([copy.subarray(0, at), opcode, copy.subarray(at + keep)]);
}

const jsonPieces = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '\\',
  '0',
  '-1',
  '1e3',
  '9007199254740993',
  'null',
  '"a"',
  '\\ud800',
  ' ',
];

function mutateJson(text: Buffer, random: Random): Buffer {
  if (random.below(3) === 0) return mutateBytes(text, random);
  const at = random.below(text.length + 1);
  return Buffer.concat([
    text.subarray(0, at),
    Buffer.from(random.pick(jsonPieces)),
    text.subarray(at + random.below(4)),
  ]);
}

const object = bytes(
  '}(',
  ...[op.text('w'), tensorOf(), op.text('v'), tensorOf({ offset: 1, shape: [2], strides: [2] })],
  ...[
    op.text('step'),
    op.int(7),
    op.text('lr'),
    'G\x3f\x50\x62\x4d\xd2\xf1\xa9\xfc',
    op.text('betas'),
    op.tuple('K\x01', 'K\x02'),
  ],
  ...[op.text('list'), op.list(op.text('a'), 'N', '\x88'), op.text('od'), op.call('collections', 'OrderedDict'), 'u'],
);
const whole = pickle(object);
const data = Buffer.from(Float32Array.of(1, 2, 3, 4).buffer);
const zip = checkpoint(whole, { 'data/0': data });
const legacyObject = bytes('}', op.text('w'), legacyTensor(legacyStorage()), 's');
const legacy = legacyFile(legacyObject, op.list(op.text('0')), bytes(uint64(4), data));
const tar = tarFile([
  { name: 'sys_info', data: pickle('}') },
  { name: 'pickle', data: pickle(op.text('value')) },
  { name: 'tensors', data: pickle(op.int(0)) },
  { name: 'storages', data: pickle(op.int(0)) },
]);
const header = Buffer.from(
  '{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}}  ',
);
const safetensors = safetensorsFile(header, Buffer.concat([data, Buffer.alloc(6, 1)]));

/** The streams that are wrapped into whole containers, lengths and checksums right, and how. */
export const wrapped: Readonly<Record<string, { seed: Buffer; wrap: (part: Buffer) => Buffer }>> = {
  pickle: { seed: whole, wrap: (part) => checkpoint(part, { 'data/0': data }) },
  header: { seed: header, wrap: (part) => safetensorsFile(part, safetensors.subarray(8 + header.length)) },
};

/** The files that all others come from. */
export const originals: Readonly<Record<string, Buffer>> = { zip, legacy, tar, safetensors };

type Mutation = (random: Random) => Buffer;

/** What becomes of a file: with its own bytes changed, or with a part changed and all lengths and checksums right. */
export const mutations: Readonly<Record<string, Mutation>> = {
  'zip, bytes': (random) => mutateBytes(zip, random),
  'zip, pickle with its checksum right': (random) => checkpoint(mutatePickle(whole, random), { 'data/0': data }),
  'zip, checksums of none': (random) => {
    const stored = mutatePickle(whole, random);
    const zero = (content: Buffer): { stored: Buffer; crc: number } => ({ stored: content, crc: 0 });
    return checkpoint('', {
      'data.pkl': zero(stored),
      byteorder: zero(Buffer.from('little')),
      'data/0': zero(data),
      version: zero(Buffer.from('3\n')),
    });
  },
  'zip, headers': (random) => {
    const copy = Buffer.from(zip);
    const signatures = ['PK\x01\x02', 'PK\x03\x04', 'PK\x05\x06'];
    const at = copy.indexOf(random.pick(signatures), random.below(copy.length), 'latin1');
    if (at < 0) return mutateBytes(zip, random);
    const field = Math.min(at + 4 + random.below(42), copy.length - 4);
    if (random.below(2) === 0) copy.writeUInt32LE(random.pick(extremes), field);
    else copy.writeUInt16LE(random.pick(extremes) & 0xffff, field);
    return copy;
  },
  'legacy, bytes': (random) => mutateBytes(legacy, random),
  'legacy, object': (random) => {
    const stream = mutatePickle(pickle(legacyObject), random);
    const at = legacy.indexOf(pickle(legacyObject));
    return bytes(legacy.subarray(0, at), stream, legacy.subarray(at + pickle(legacyObject).length));
  },
  'tar, bytes': (random) => mutateBytes(tar, random),
  'tar, members': (random) =>
    tarFile(
      ['sys_info', 'pickle', 'tensors', 'storages'].map((name) => ({
        name,
        data: mutatePickle(pickle(op.int(0)), random),
      })),
    ),
  'safetensors, bytes': (random) => mutateBytes(safetensors, random),
  'safetensors, header with its length right': (random) =>
    safetensorsFile(mutateJson(header, random), safetensors.subarray(8 + header.length)),
};
