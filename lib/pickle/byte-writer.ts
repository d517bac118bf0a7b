import { Op } from './opcodes';

/** Bytes that grow as they are written. */
export class ByteWriter {
  private buffer = Buffer.allocUnsafe(4096);
  private length = 0;

  /** What was written so far; valid until the next write. */
  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }

  uint8(value: number): void {
    this.reserve(1);
    this.length = this.buffer.writeUInt8(value, this.length);
  }

  uint16(value: number): void {
    this.reserve(2);
    this.length = this.buffer.writeUInt16LE(value, this.length);
  }

  uint32(value: number): void {
    this.reserve(4);
    this.length = this.buffer.writeUInt32LE(value, this.length);
  }

  int32(value: number): void {
    this.reserve(4);
    this.length = this.buffer.writeInt32LE(value, this.length);
  }

  /** Big-endian, as pickle has it. */
  float64(value: number): void {
    this.reserve(8);
    this.length = this.buffer.writeDoubleBE(value, this.length);
  }

  uint64(value: number): void {
    this.reserve(8);
    this.length = this.buffer.writeBigUInt64LE(BigInt(value), this.length);
  }

  float32(value: number): void {
    this.reserve(4);
    this.length = this.buffer.writeFloatLE(value, this.length);
  }

  /** A text in UTF-8, after its number of bytes as a uint64. */
  sizedText(text: string): void {
    this.reserve(8 + 3 * text.length);
    const size = this.buffer.write(text, this.length + 8);
    this.uint64(size);
    this.length += size;
  }

  ascii(text: string): void {
    this.reserve(text.length);
    this.length += this.buffer.write(text, this.length, 'latin1');
  }

  raw(data: Uint8Array): void {
    this.reserve(data.length);
    this.buffer.set(data, this.length);
    this.length += data.length;
  }

  private reserve(count: number): void {
    if (this.length + count <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.length + count));
    larger.set(this.bytes());
    this.buffer = larger;
  }
}

/** Writes an int in the shortest of the ways that protocol 2 has. False where it has none. */
export function writeInt(out: ByteWriter, value: bigint): boolean {
  if (value >= 0n && value <= 0xffn) {
    out.uint8(Op.BININT1);
    out.uint8(Number(value));
  } else if (value >= 0n && value <= 0xffffn) {
    out.uint8(Op.BININT2);
    out.uint16(Number(value));
  } else if (value >= -0x80000000n && value <= 0x7fffffffn) {
    out.uint8(Op.BININT);
    out.int32(Number(value));
  } else {
    const bytes = twosComplement(value);
    if (bytes.length > 255) return false;
    out.uint8(Op.LONG1);
    out.uint8(bytes.length);
    out.raw(bytes);
  }
  return true;
}

/** The shortest two's complement of an int, least significant byte first. */
function twosComplement(value: bigint): Uint8Array {
  const magnitude = value < 0n ? ~value : value;
  // One more bit for the sign.
  const length = Math.floor(magnitude.toString(16).length / 2) + 1;
  const hex = BigInt.asUintN(length * 8, value)
    .toString(16)
    .padStart(length * 2, '0');
  const bytes = Buffer.from(hex, 'hex').reverse();
  const top = bytes[length - 1]!;
  const next = bytes[length - 2];
  const redundant = next !== undefined && ((top === 0 && next < 0x80) || (top === 0xff && next >= 0x80));
  return redundant ? bytes.subarray(0, length - 1) : bytes;
}
