import { Op } from './opcodes';

/** Bytes of the argument behind an opcode. */
const fixed = byOpcode([
  [Op.BININT, 4],
  [Op.BININT1, 1],
  [Op.BININT2, 2],
  [Op.BINFLOAT, 8],
  [Op.BINGET, 1],
  [Op.LONG_BINGET, 4],
  [Op.BINPUT, 1],
  [Op.LONG_BINPUT, 4],
  [Op.PROTO, 1],
  [Op.EXT1, 1],
  [Op.EXT2, 2],
  [Op.EXT4, 4],
  [Op.FRAME, 8],
]);

/** Bytes of the length that stands before an argument. */
const counted = byOpcode([
  [Op.BINSTRING, 4],
  [Op.SHORT_BINSTRING, 1],
  [Op.BINUNICODE, 4],
  [Op.SHORT_BINUNICODE, 1],
  [Op.BINUNICODE8, 8],
  [Op.BINBYTES, 4],
  [Op.SHORT_BINBYTES, 1],
  [Op.BINBYTES8, 8],
  [Op.BYTEARRAY8, 8],
  [Op.LONG1, 1],
  [Op.LONG4, 4],
]);

/** Lines of text behind an opcode. */
const lines = byOpcode([
  [Op.FLOAT, 1],
  [Op.INT, 1],
  [Op.LONG, 1],
  [Op.STRING, 1],
  [Op.UNICODE, 1],
  [Op.PERSID, 1],
  [Op.GET, 1],
  [Op.PUT, 1],
  [Op.GLOBAL, 2],
  [Op.INST, 2],
]);

function byOpcode(entries: readonly (readonly [op: number, value: number])[]): Uint8Array {
  const table = new Uint8Array(256);
  for (const [op, value] of entries) table[op] = value;
  return table;
}

/** Where the next opcode begins, perhaps beyond the bytes; undefined where they do not hold what tells it. */
export function nextOpcode(bytes: Buffer, at: number): number | undefined {
  const op = bytes[at]!;
  const length = counted[op]!;
  if (length > 0) {
    if (at + 1 + length > bytes.length) return undefined;
    const count = length === 8 ? Number(bytes.readBigUInt64LE(at + 1)) : bytes.readUIntLE(at + 1, length);
    return at + 1 + length + count;
  }
  let next: number | undefined = at + 1 + fixed[op]!;
  for (let left = lines[op]!; left > 0 && next !== undefined; left--) {
    const newline: number = bytes.indexOf(0x0a, next);
    next = newline === -1 ? undefined : newline + 1;
  }
  return next;
}

/** Indices of the memo, as one bit for each that a pickle of so many bytes can have. */
export class MemoIndices {
  private readonly bits: Uint8Array;

  constructor(private readonly pickleLength: number) {
    this.bits = new Uint8Array((pickleLength >>> 3) + 1);
  }

  /** One beyond the length of the pickle is not noted: nothing can be there. */
  add(index: number): void {
    if (index >= 0 && index <= this.pickleLength) this.bits[index >>> 3]! |= 1 << (index & 7);
  }

  has(index: number): boolean {
    return index >= 0 && index <= this.pickleLength && (this.bits[index >>> 3]! & (1 << (index & 7))) !== 0;
  }
}

/**
 * The indices of the memo that a pickle refers to again, as far as it can be followed: writers remember nearly everything, and
 * need little of it.
 */
export function recalledIndices(bytes: Buffer): MemoIndices {
  const indices = new MemoIndices(bytes.length);
  for (let at: number | undefined = 0; at !== undefined && at < bytes.length; at = nextOpcode(bytes, at)) {
    const op = bytes[at];
    if (op === Op.STOP) break;
    if (op === Op.BINGET && at + 1 < bytes.length) indices.add(bytes[at + 1]!);
    else if (op === Op.LONG_BINGET && at + 4 < bytes.length) indices.add(bytes.readUInt32LE(at + 1));
    else if (op === Op.GET)
      indices.add(Number(bytes.toString('latin1', at + 1, Math.min(bytes.indexOf(0x0a, at), at + 12))));
  }
  return indices;
}
