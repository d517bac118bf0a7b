import { Cost } from './budget';
import type { Cursor } from './cursor';
import { Op } from './opcodes';
import { decodeQuotedString, decodeRawUnicodeEscape, decodeUtf8 } from './text';
import { ByteArray, Float, isPythonInt, Tuple } from './types';

/** Python's own limit on the digits of an int in text form, which protocols 0 and 1 use. */
const maxIntDigits = 4300;

/** An int of more bytes than this is not a number that a checkpoint holds, and slow to make. */
const maxIntBytes = 2 ** 20;

/** Bytes of an int that is put together; longer ones are none that a checkpoint has many of. */
const limbs = Buffer.alloc(64);

const specialFloats = new Map([
  ['inf', Infinity],
  ['-inf', -Infinity],
  ['nan', NaN],
  ['-nan', NaN],
]);

export const notLiteral = Symbol('not a literal');

/** Reads the opcodes that push one value made from their own bytes. */
export class LiteralReader {
  constructor(
    private readonly cursor: Cursor,
    /** Gives floats that a plain number would turn into ints as `Float`. */
    private readonly exact: boolean,
    /** Makes the error for the opcode that is being read. */
    private readonly fail: (message: string) => Error,
    /** Takes memory from the budget. */
    private readonly spend: (bytes: number) => void,
  ) {}

  /** The value of an opcode; `notLiteral` if it is not one of these. */
  read(op: number): unknown {
    const { cursor } = this;
    switch (op) {
      case Op.BINUNICODE:
        return this.text(cursor.uint32());
      case Op.SHORT_BINUNICODE:
      case Op.SHORT_BINSTRING:
        return this.text(cursor.uint8());
      case Op.BINUNICODE8:
        return this.text(cursor.uint64());
      case Op.BINSTRING:
        return this.text(this.nonNegative(cursor.int32()));
      case Op.BININT1:
        return cursor.uint8();
      case Op.BININT2:
        return cursor.uint16();
      case Op.BININT:
        return cursor.int32();
      case Op.LONG1:
        return this.littleEndianInt(cursor.uint8());
      case Op.LONG4:
        return this.littleEndianInt(this.intLength(cursor.int32()));
      case Op.BINFLOAT:
        return this.float(cursor.float64());
      case Op.NONE:
        return null;
      case Op.NEWTRUE:
        return true;
      case Op.NEWFALSE:
        return false;
      case Op.EMPTY_TUPLE:
        this.spend(Cost.array);
        return new Tuple();
      case Op.EMPTY_LIST:
        this.spend(Cost.array);
        return [];
      case Op.EMPTY_DICT:
        this.spend(Cost.map);
        return new Map();
      case Op.EMPTY_SET:
        this.spend(Cost.map);
        return new Set();
      case Op.SHORT_BINBYTES:
        return this.bytes(cursor.uint8());
      case Op.BINBYTES:
        return this.bytes(cursor.uint32());
      case Op.BINBYTES8:
        return this.bytes(cursor.uint64());
      case Op.BYTEARRAY8:
        return this.bytes(cursor.uint64(), ByteArray);
      default:
        return this.textLiteral(op);
    }
  }

  /** The literals of protocol 0, each a line of text. */
  private textLiteral(op: number): unknown {
    switch (op) {
      case Op.INT:
        return this.textInt(this.line());
      case Op.LONG:
        return this.textLong(this.line());
      case Op.FLOAT:
        return this.textFloat(this.line());
      case Op.STRING:
        return this.quoted(this.line());
      case Op.UNICODE:
        return this.decoded(decodeRawUnicodeEscape(this.line()));
      default:
        return notLiteral;
    }
  }

  /** A line that names something. */
  name(): string {
    const name = this.text(this.cursor.lineLength());
    this.cursor.skip(1);
    return name;
  }

  private text(length: number): string {
    this.charge(length);
    return this.decoded(this.cursor.utf8(length));
  }

  private line(): string {
    this.charge(this.cursor.lineLength());
    return this.cursor.line();
  }

  private quoted(line: string): string {
    const bytes = this.decoded(decodeQuotedString(line));
    this.spend(Cost.string + bytes.length);
    return this.decoded(decodeUtf8(bytes));
  }

  /** A copy, which does not keep the pickle in memory. */
  private bytes(length: number, Type: new (length: number) => Uint8Array = Uint8Array): Uint8Array {
    const { bytes, position } = this.cursor;
    this.cursor.skip(length);
    this.spend(Cost.bytes + length);
    const copy = new Type(length);
    bytes.copy(copy, 0, position, position + length);
    return copy;
  }

  /** What a string or int of these bytes takes; characters beyond Latin-1 have two bytes, as in UTF-8 or fewer. */
  private charge(length: number): void {
    this.cursor.require(length);
    this.spend(Cost.string + length);
  }

  private decoded<T>(value: T | undefined): T {
    if (value === undefined) throw this.fail('a string is not valid text');
    return value;
  }

  private float(value: number): number | Float {
    this.spend(this.exact ? Cost.object : Cost.number);
    return this.exact && isPythonInt(value) ? new Float(value) : value;
  }

  private textInt(line: string): number | bigint | boolean {
    if (line === '01') return true;
    if (line === '00') return false;
    return this.textLong(line);
  }

  private textLong(line: string): number | bigint {
    const digits = line.endsWith('L') ? line.slice(0, -1) : line;
    if (!/^-?\d+$/.test(digits) || digits.length > maxIntDigits) throw this.fail('an int is not a number in decimal');
    return narrow(BigInt(digits));
  }

  private textFloat(line: string): number | Float {
    const special = specialFloats.get(line);
    if (special !== undefined) return special;
    if (!/^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(line)) throw this.fail('a float is not a number in decimal');
    return this.float(Number(line));
  }

  /** Two's complement, least significant byte first. An empty array is 0. */
  private littleEndianInt(length: number): number | bigint {
    this.charge(length);
    const { bytes, position } = this.cursor;
    this.cursor.skip(length);
    if (length === 0) return 0;
    if (length <= 6) return bytes.readIntLE(position, length);
    return narrow(length <= limbs.length ? this.limbedInt(position, length) : this.hexInt(position, length));
  }

  /** By eights of bytes, which leaves little garbage behind. */
  private limbedInt(position: number, length: number): bigint {
    const { bytes } = this.cursor;
    const last = Math.ceil(length / 8) * 8 - 8;
    limbs.fill(bytes[position + length - 1]! >= 0x80 ? 0xff : 0, last);
    bytes.copy(limbs, 0, position, position + length);
    let value = limbs.readBigInt64LE(last);
    for (let at = last - 8; at >= 0; at -= 8) value = (value << 64n) | limbs.readBigUInt64LE(at);
    return value;
  }

  /** In time that is not quadratic. */
  private hexInt(position: number, length: number): bigint {
    const hex = Buffer.from(this.cursor.bytes.subarray(position, position + length))
      .reverse()
      .toString('hex');
    return BigInt.asIntN(length * 8, BigInt(`0x${hex}`));
  }

  private intLength(length: number): number {
    if (length > maxIntBytes) throw this.fail(`an int of ${length} bytes; at most ${maxIntBytes} are read`);
    return this.nonNegative(length);
  }

  private nonNegative(length: number): number {
    if (length < 0) throw this.fail('a length is negative');
    return length;
  }
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
