import type { ByteSource } from '../files/byte-source';
import { Cost, type MemoryBudget, spend } from '../../pickle/budget';
import { CheckpointCode, CheckpointError, containerError } from '../../errors';

/** A file in a tar. */
export interface TarMember {
  offset: number;
  size: number;
}

export interface TarContents {
  members: Map<string, TarMember>;
  /** Bytes behind the end mark, which Python's readers pass over. */
  trailing: number;
}

const blockSize = 512;
const checksumAt = 148;
const checksumSize = 8;

/** Records of an extended header that would give a member another name, size or kind. */
const overriding = /^(path|size|linkpath|GNU\.sparse.*)$/;

/**
 * Reads the headers of a tar as checkpoints come in: regular files, each name once. Links,
 * directories and paths are refused: nothing is ever extracted.
 */
export async function readTar(source: ByteSource, budget: MemoryBudget): Promise<TarContents> {
  const members = new Map<string, TarMember>();
  for (let at = 0; ;) {
    if (at + blockSize > source.size) throw containerError('the tar ends without its end mark', source.size);
    const header = Buffer.from(await source.read(at, blockSize));
    if (header.every((byte) => byte === 0)) {
      const trailing = await checkEndMark(source, at);
      return { members, trailing };
    }
    const { name, type, size } = parseHeader(header, at);
    const offset = at + blockSize;
    if (offset + size > source.size) throw truncatedError(name, source.size);
    if (type === 'x' || type === 'g') checkExtended(await source.read(offset, size), offset);
    else if (type !== '0' && type !== '\0') throw containerError(`'${name}' is not a regular file`, at);
    else if (members.has(name)) throw containerError(`two files are named '${name}'`, at);
    else {
      spend(budget, Cost.entry + Cost.object + Cost.string + name.length, name);
      members.set(name, { offset, size });
    }
    at = offset + Math.ceil(size / blockSize) * blockSize;
  }
}

function parseHeader(header: Buffer, at: number): { name: string; type: string; size: number } {
  const sum = header.reduce(
    (total, byte, i) => total + (i >= checksumAt && i < checksumAt + checksumSize ? 0x20 : byte),
    0,
  );
  if (octal(header, checksumAt, checksumSize, at) !== sum) throw containerError("a header's checksum is wrong", at);
  if (header.toString('latin1', 257, 262) !== 'ustar') throw containerError('a header is not of the tar format', at);
  return {
    name: text(header, 0, 100).replace(/^\.\//, ''),
    type: header.toString('latin1', 156, 157),
    size: octal(header, 124, 12, at),
  };
}

function octal(header: Buffer, start: number, length: number, at: number): number {
  const digits = text(header, start, length).trim();
  if (!/^[0-7]{1,12}$/.test(digits)) throw containerError('a header holds a number that is not octal', at);
  return parseInt(digits, 8);
}

function text(header: Buffer, start: number, length: number): string {
  return header.toString('latin1', start, start + length).split('\0', 1)[0]!;
}

/** Times and owners may come in an extended header; nothing else that matters here. */
function checkExtended(bytes: Buffer, offset: number): void {
  for (const line of bytes.toString('latin1').split('\n')) {
    const key = /^\d+ ([^=]+)=/.exec(line)?.[1];
    if (key !== undefined && overriding.test(key)) throw containerError(`an extended header sets '${key}'`, offset);
  }
}

/** The end mark is two blocks of zeros, and writers add more. Gives how many bytes follow that are not zero. */
async function checkEndMark(source: ByteSource, start: number): Promise<number> {
  if (source.size - start < 2 * blockSize)
    throw new CheckpointError('the tar is cut short in its end mark', CheckpointCode.truncated, {
      offset: source.size,
    });
  for (let at = start; at < source.size; at += blockSize) {
    const block = await source.read(at, Math.min(blockSize, source.size - at));
    if (!block.every((byte) => byte === 0)) return source.size - at;
  }
  return 0;
}

function truncatedError(name: string, offset: number): CheckpointError {
  return new CheckpointError(`'${name}' is cut short`, CheckpointCode.truncated, { offset });
}
