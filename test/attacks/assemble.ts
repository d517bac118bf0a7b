/** Small assemblers of hostile files: pickles by opcode, and the containers around them. No file here is ever executed. */
import { type Entry, zipOf } from '../formats/zip-of';

export type Bytes = string | Uint8Array;

/** Text stands for bytes, one a character. */
export function bytes(...parts: Bytes[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
}

export function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

export function uint64(value: bigint | number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
  return buffer;
}

/** Opcodes with their operands. */
export const op = {
  proto: (version: number): Buffer => bytes('\x80', Buffer.of(version)),
  global: (module: string, name: string): Buffer => bytes(`c${module}\n${name}\n`),
  text: (text: string): Buffer => bytes('X', uint32(Buffer.byteLength(text)), Buffer.from(text)),
  shortText: (text: string): Buffer => bytes('\x8c', Buffer.of(Buffer.byteLength(text)), Buffer.from(text)),
  int: (value: bigint | number): Buffer => {
    const big = BigInt(value);
    if (big >= -(2n ** 31n) && big < 2n ** 31n) return bytes('J', uint32(Number(BigInt.asUintN(32, big))));
    const length = Math.ceil((big.toString(2).length + 2) / 8);
    const digits = BigInt.asUintN(8 * length, big)
      .toString(16)
      .padStart(2 * length, '0');
    return bytes('\x8a', Buffer.of(length), Buffer.from(digits, 'hex').reverse());
  },
  /** A tuple of what the parts push. */
  tuple: (...parts: Bytes[]): Buffer => bytes('(', ...parts, 't'),
  list: (...parts: Bytes[]): Buffer => bytes('](', ...parts, 'e'),
  /** A call of the global with the tuple of arguments. */
  call: (module: string, name: string, ...args: Bytes[]): Buffer =>
    bytes(op.global(module, name), op.tuple(...args), 'R'),
};

/** A whole pickle of protocol 2. */
export function pickle(...parts: Bytes[]): Buffer {
  return bytes(op.proto(2), ...parts, '.');
}

export interface StorageClaim {
  type?: string;
  key?: Bytes;
  location?: string;
  numel?: bigint | number;
}

/** The persistent id of a storage of four floats, with some claims wrong. */
export function storage({
  type = 'FloatStorage',
  key = op.text('0'),
  location = 'cpu',
  numel = 4,
}: StorageClaim = {}): Buffer {
  return bytes(op.tuple(op.text('storage'), op.global('torch', type), key, op.text(location), op.int(numel)), 'Q');
}

export interface TensorClaim extends StorageClaim {
  offset?: bigint | number;
  shape?: (bigint | number)[];
  strides?: (bigint | number)[];
}

/** `_rebuild_tensor_v2` over four floats. */
export function tensorOf({ offset = 0, shape = [4], strides = [1], ...claim }: TensorClaim = {}): Buffer {
  const sizes = op.tuple(...shape.map(op.int));
  const steps = op.tuple(...strides.map(op.int));
  return op.call('torch._utils', '_rebuild_tensor_v2', storage(claim), op.int(offset), sizes, steps, '\x89', '}');
}

export type Records = Record<string, Bytes | Partial<Entry> | undefined>;

/** A checkpoint with one storage of 16 bytes; `records` replaces, adds, or with undefined removes records. */
export function checkpoint(data: Bytes, records: Records = {}, options: { comment?: string } = {}): Buffer {
  const all: Records = {
    'data.pkl': data,
    byteorder: 'little',
    'data/0': Buffer.alloc(16),
    version: '3\n',
    ...records,
  };
  const entries = Object.entries(all).flatMap(([name, content]): Entry[] => {
    if (content === undefined) return [];
    const entry = typeof content === 'string' || content instanceof Uint8Array ? { stored: bytes(content) } : content;
    return [{ name: `case/${name}`, stored: Buffer.alloc(0), ...entry }];
  });
  return zipOf(entries, options);
}

const magic = bytes(op.proto(2), '\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.');
const systemInfo = pickle(
  '}(',
  ...[op.text('protocol_version'), op.int(1001), op.text('little_endian'), '\x88', op.text('type_sizes'), '}'],
  'u',
);

/** A storage as the stream of PyTorch before 1.6 names it: with a last field for the view. */
export function legacyStorage(
  { type = 'FloatStorage', key = op.text('0'), numel = 4 }: StorageClaim = {},
  view: Bytes = 'N',
): Buffer {
  return bytes(op.tuple(op.text('storage'), op.global('torch', type), key, op.text('cpu'), op.int(numel), view), 'Q');
}

export function legacyTensor(of: Bytes, shape: number[] = [4], offset = 0): Buffer {
  const sizes = op.tuple(...shape.map(op.int));
  return op.call('torch._utils', '_rebuild_tensor_v2', of, op.int(offset), sizes, op.tuple(op.int(1)), '\x89', '}');
}

/** The one-stream file: the object, the keys in their order, and each storage's count and bytes. */
export function legacyFile(
  object: Bytes,
  keys: Bytes = op.list(op.text('0')),
  storages: Bytes = bytes(uint64(4), Buffer.alloc(16)),
): Buffer {
  return bytes(magic, pickle(op.int(1001)), systemInfo, pickle(object), pickle(keys), storages);
}

export interface TarEntry {
  name: string;
  data?: Bytes;
  type?: string;
  link?: string;
}

export function tarFile(entries: TarEntry[]): Buffer {
  const blocks = entries.flatMap(({ name, data = '', type = '0', link = '' }) => {
    const content = bytes(data);
    const header = Buffer.alloc(512);
    const octal = (value: number, at: number, length: number): void =>
      void header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
    header.write(name, 0, 'latin1');
    octal(0o644, 100, 8);
    octal(0, 108, 8);
    octal(0, 116, 8);
    octal(content.length, 124, 12);
    octal(0, 136, 12);
    header.write('        ', 148, 'latin1');
    header.write(type, 156, 'latin1');
    header.write(link, 157, 'latin1');
    header.write('ustar\x0000', 257, 'latin1');
    octal(
      header.reduce((sum, byte) => sum + byte, 0),
      148,
      7,
    );
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return bytes(...blocks, Buffer.alloc(1024));
}

/** A safetensors file from the text of its header. */
export function safetensorsFile(header: Bytes, data: number | Bytes = 0, length?: bigint | number): Buffer {
  const text = typeof header === 'string' ? Buffer.from(header) : header;
  return bytes(uint64(length ?? text.length), text, typeof data === 'number' ? Buffer.alloc(data) : data);
}
