import { CheckpointCode, CheckpointError } from './errors';

/** Reads a pickle's bytes in order; every length is checked against the bytes that are left before it is used. */
export class Cursor {
  position = 0;
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  /** End of the frame that is open (protocol 4); -1 outside of frames. */
  private frameEnd = -1;

  constructor(
    bytes: Uint8Array,
    private readonly record: string | undefined,
  ) {
    // A plain Uint8Array also where a Buffer came, whose slice() would not copy.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  error(message: string, code: CheckpointCode = CheckpointCode.pickle, offset = this.position): CheckpointError {
    return new CheckpointError(message, code, { offset, record: this.record });
  }

  /** The next opcode. A frame that is used up is closed here, so that no opcode can straddle its end. */
  opcode(): number {
    if (this.position === this.frameEnd) this.frameEnd = -1;
    return this.uint8();
  }

  openFrame(length: number): void {
    if (this.frameEnd !== -1) throw this.error('a pickle frame begins inside another frame');
    const start = this.position;
    this.require(length, 'a frame');
    this.frameEnd = start + length;
  }

  uint8(): number {
    return this.view.getUint8(this.advance(1));
  }

  uint16(): number {
    return this.view.getUint16(this.advance(2), true);
  }

  uint32(): number {
    return this.view.getUint32(this.advance(4), true);
  }

  int32(): number {
    return this.view.getInt32(this.advance(4), true);
  }

  float64(): number {
    return this.view.getFloat64(this.advance(8), false);
  }

  /** A 64-bit length; beyond 2^53 it is beyond any file, and the caller's bounds check refuses it. */
  uint64(): number {
    return Number(this.view.getBigUint64(this.advance(8), true));
  }

  /** A view of the next `length` bytes; nothing is copied. */
  take(length: number): Uint8Array {
    const start = this.advance(length);
    return this.bytes.subarray(start, start + length);
  }

  /** The bytes up to a newline, which is consumed and not returned. */
  line(): Uint8Array {
    const end = this.bytes.indexOf(0x0a, this.position);
    if (end === -1 || end >= this.limit())
      throw this.error('the pickle ends inside a line of text', CheckpointCode.truncated);
    const line = this.take(end - this.position);
    this.position = end + 1;
    return line;
  }

  private limit(): number {
    return this.frameEnd === -1 ? this.bytes.length : this.frameEnd;
  }

  private advance(length: number): number {
    this.require(length, 'data');
    const start = this.position;
    this.position += length;
    return start;
  }

  private require(length: number, what: string): void {
    const left = this.limit() - this.position;
    if (length <= left) return;
    const where = this.frameEnd === -1 ? 'the pickle' : 'its frame';
    throw this.error(
      `the pickle announces ${length} bytes of ${what} where ${left} are left in ${where}`,
      CheckpointCode.truncated,
    );
  }
}
