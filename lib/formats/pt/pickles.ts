import { nextOpcode, Op } from '../../pickle/opcodes';

import type { ByteSource } from '../files/byte-source';
import { maxPickleSize } from './archive';
import { CheckpointCode, CheckpointError } from '../../errors';
import type { MemoryBudget } from '../../pickle/budget';
import { GlobalError, type GlobalTable } from '../../pickle/globals';
import { readPickle } from '../../pickle/reader';

/** Bytes that are looked at in one go; no line of text can be longer. */
const windowSize = 1024 * 1024;

/**
 * The bytes of a pickle that begins at `start` and whose length nothing states: its opcodes are stepped over to the
 * first STOP. Nothing is made of them.
 *
 * @param limit where the pickle must end at the latest
 * @throws CheckpointError if the pickle has no STOP before it
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
  const buffer = Buffer.allocUnsafeSlow(Math.max(Math.min(windowSize, limit - start), 0));
  for (let position = start; position < limit;) {
    const window = buffer.subarray(0, limit - position);
    await source.readInto(window, position);
    let at = 0;
    while (at < window.length) {
      if (window[at] === Op.STOP) return position + at + 1;
      const next = nextOpcode(window, at);
      if (next === undefined) break;
      at = next;
    }
    if (at === 0) break; // no progress: what the opcode announces is not there, or endless
    position += at;
  }
  throw new CheckpointError('the pickle ends without STOP', CheckpointCode.truncated, { record });
}

/** Reads one of the small pickles of a container, which name nothing but what `globals` has. */
export function readPlain(
  bytes: Uint8Array,
  record: string,
  globals: GlobalTable = new Map(),
  budget?: MemoryBudget,
): unknown {
  const persistentLoad = (): never => {
    throw new GlobalError('nothing to refer to');
  };
  return readPickle(bytes, { globals, persistentLoad, record, budget }).value;
}
