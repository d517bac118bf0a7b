import { Op } from '../pickle/opcodes';
import type { ByteSource } from './byte-source';
import { maxPickleSize } from './archive';
import { CheckpointCode, CheckpointError } from './errors';

/** Bytes that are looked at in one go; no line of text can be longer. */
const windowSize = 1024 * 1024;

/** Bytes of the argument behind an opcode. */
const fixed = new Map<number, number>([
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
const counted = new Map<number, number>([
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
const lines = new Map<number, number>([
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

/**
 * The bytes of a pickle that begins at `start` and whose length nothing states: its opcodes are stepped over to the
 * first STOP. Nothing is made of them.
 *
 * @param limit where the pickle must end at the latest
 * @throws CheckpointError where there is no STOP before it
 */
export async function readPickleAt(
  source: ByteSource,
  start: number,
  limit: number,
  record: string,
): Promise<{ bytes: Buffer; end: number }> {
  const end = await findEnd(source, start, limit, record);
  if (end - start > maxPickleSize) {
    const message = `the pickle has ${end - start} bytes; at most ${maxPickleSize} are read`;
    throw new CheckpointError(message, CheckpointCode.unsupported, { record });
  }
  return { bytes: await source.read(start, end - start), end };
}

async function findEnd(source: ByteSource, start: number, limit: number, record: string): Promise<number> {
  for (let position = start; position < limit;) {
    const window = await source.read(position, Math.min(windowSize, limit - position));
    let at = 0;
    while (at < window.length) {
      if (window[at] === Op.STOP) return position + at + 1;
      const next = step(window, at);
      if (next === undefined) break;
      at = next;
    }
    if (at === 0) break; // no progress: what the opcode announces is not there, or endless
    position += at;
  }
  throw new CheckpointError('the pickle ends without STOP', CheckpointCode.truncated, { record });
}

/** Where the next opcode begins, perhaps beyond the window; undefined where the window does not hold what tells it. */
function step(window: Buffer, at: number): number | undefined {
  const op = window[at]!;
  const length = counted.get(op);
  if (length !== undefined) {
    if (at + 1 + length > window.length) return undefined;
    const count = length === 8 ? Number(window.readBigUInt64LE(at + 1)) : window.readUIntLE(at + 1, length);
    return at + 1 + length + count;
  }
  let next: number | undefined = at + 1 + (fixed.get(op) ?? 0);
  for (let left = lines.get(op) ?? 0; left > 0 && next !== undefined; left--) {
    const newline: number = window.indexOf(0x0a, next);
    next = newline === -1 ? undefined : newline + 1;
  }
  return next;
}
