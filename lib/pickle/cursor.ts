import { CheckpointCode, CheckpointError } from '../errors';
import { decodeUtf8 } from './text';

/**
 * Reads a pickle's bytes in order; every length is checked against the bytes that are left before it is used. Text and numbers
 * are made of the bytes in place: a view for each would be garbage of its own.
 */
export class Cursor {
  position = 0;
  readonly bytes: Buffer;
  private readonly view: DataView;
  /** End of the frame that is open (protocol 4); -1 outside of frames. */
  private frameEnd = -1;

  constructor(
    bytes: Uint8Array,
    private readonly record: string | undefined,
  ) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
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

  skip(length: number): void {
    this.advance(length);
  }

  /** The next `length` bytes as text; undefined where they are none. */
  utf8(length: number): string | undefined {
    const start = this.advance(length);
    const text = this.bytes.toString('utf8', start, this.position);
    // What is not UTF-8 became U+FFFD, which may also stand for itself.
    return text.includes('\ufffd') ? decodeUtf8(this.bytes.subarray(start, this.position)) : text;
  }

  latin1(length: number): string {
    const start = this.advance(length);
    return this.bytes.toString('latin1', start, this.position);
  }

  /** How many bytes there are up to the next newline. */
  lineLength(): number {
    const end = this.bytes.indexOf(0x0a, this.position);
    if (end === -1 || end >= this.limit())
      throw this.error('the pickle ends inside a line of text', CheckpointCode.truncated);
    return end - this.position;
  }

  /** The bytes up to a newline, which is consumed and not returned, as Latin-1. */
  line(): string {
    const line = this.latin1(this.lineLength());
    this.position++;
    return line;
  }

  private limit(): number {
    return this.frameEnd === -1 ? this.bytes.length : this.frameEnd;
  }

  private advance(length: number): number {
    this.require(length);
    const start = this.position;
    this.position += length;
    return start;
  }

  /** Throws where fewer bytes are left. */
  require(length: number, what = 'data'): void {
    const left = this.limit() - this.position;
    if (length <= left) return;
    const where = this.frameEnd === -1 ? 'the pickle' : 'its frame';
    throw this.error(
      `the pickle announces ${length} bytes of ${what} where ${left} are left in ${where}`,
      CheckpointCode.truncated,
    );
  }
}
