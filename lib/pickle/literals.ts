import { Cost } from './budget';
import type { Cursor } from './cursor';
import { Op } from './opcodes';
import { decodeQuotedString, decodeRawUnicodeEscape, decodeUtf8, latin1 } from './text';
import { ByteArray, Float, isPythonInt, Tuple } from './types';

/** Python's own limit on the digits of an int in text form, which protocols 0 and 1 use. */
const maxIntDigits = 4300;

/** An int of more bytes than this is no number that a checkpoint holds, and slow to make. */
const maxIntBytes = 2 ** 20;

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

  /** The value of an opcode; `notLiteral` where it is none of these. */
  read(op: number): unknown {
    const { cursor } = this;
    switch (op) {
      case Op.BINUNICODE:
        return this.text(cursor.take(cursor.uint32()));
      case Op.SHORT_BINUNICODE:
      case Op.SHORT_BINSTRING:
        return this.text(cursor.take(cursor.uint8()));
      case Op.BINUNICODE8:
        return this.text(cursor.take(cursor.uint64()));
      case Op.BINSTRING:
        return this.text(cursor.take(this.nonNegative(cursor.int32())));
      case Op.BININT1:
        return cursor.uint8();
      case Op.BININT2:
        return cursor.uint16();
      case Op.BININT:
        return cursor.int32();
      case Op.LONG1:
        return littleEndianInt(this.charged(cursor.take(cursor.uint8())));
      case Op.LONG4:
        return littleEndianInt(this.charged(cursor.take(this.intLength(cursor.int32()))));
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
        return this.bytes(cursor.take(cursor.uint8()));
      case Op.BINBYTES:
        return this.bytes(cursor.take(cursor.uint32()));
      case Op.BINBYTES8:
        return this.bytes(cursor.take(cursor.uint64()));
      case Op.BYTEARRAY8:
        return new ByteArray(this.bytes(cursor.take(cursor.uint64())).buffer);
      default:
        return this.textLiteral(op);
    }
  }

  /** The literals of protocol 0, each a line of text. */
  private textLiteral(op: number): unknown {
    switch (op) {
      case Op.INT:
        return this.textInt(latin1(this.charged(this.cursor.line())));
      case Op.LONG:
        return this.textLong(latin1(this.charged(this.cursor.line())));
      case Op.FLOAT:
        return this.textFloat(latin1(this.cursor.line()));
      case Op.STRING:
        return this.text(this.decoded(decodeQuotedString(this.charged(this.cursor.line()))));
      case Op.UNICODE:
        return this.decoded(decodeRawUnicodeEscape(this.charged(this.cursor.line())));
      default:
        return notLiteral;
    }
  }

  text(bytes: Uint8Array): string {
    return this.decoded(decodeUtf8(this.charged(bytes)));
  }

  /** A copy, which does not keep the pickle in memory. */
  private bytes(view: Uint8Array): Uint8Array<ArrayBuffer> {
    this.spend(Cost.bytes + view.length);
    return new Uint8Array(view);
  }

  /** What a string or int of these bytes takes; characters beyond Latin-1 have two bytes, as in UTF-8 or fewer. */
  private charged(bytes: Uint8Array): Uint8Array {
    this.spend(Cost.string + bytes.length);
    return bytes;
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
    const digits = line.replace(/L$/, '');
    if (!/^-?\d+$/.test(digits) || digits.length > maxIntDigits) throw this.fail('an int is not a number in decimal');
    return narrow(BigInt(digits));
  }

  private textFloat(line: string): number | Float {
    const special: Record<string, number> = { inf: Infinity, '-inf': -Infinity, nan: NaN, '-nan': NaN };
    if (Object.hasOwn(special, line)) return special[line]!;
    if (!/^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(line)) throw this.fail('a float is not a number in decimal');
    return this.float(Number(line));
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

/** Two's complement, least significant byte first; no bytes are 0. */
function littleEndianInt(bytes: Uint8Array): number | bigint {
  if (bytes.length === 0) return 0;
  const bits = bytes.length * 8;
  const hex = Buffer.from(bytes).reverse().toString('hex');
  return narrow(BigInt.asIntN(bits, BigInt(`0x${hex}`)));
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
