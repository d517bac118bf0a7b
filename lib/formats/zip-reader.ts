import { promisify } from 'node:util';
import { crc32, inflateRaw } from 'node:zlib';
import { MemoryBudget } from '../pickle/budget';
import type { ByteSource } from './byte-source';
import { CheckpointCode, CheckpointError } from './errors';
import { spend } from './spend';
import {
  broken,
  type CentralEntry,
  commonRoot,
  findEnd,
  flagDescriptor,
  hex,
  methodStored,
  parseDirectory,
  zip64Values,
} from './zip-directory';
import { Signature } from './zip-format';

/**
 * One strict reader of zip containers. What the central directory says must be what the local headers and data
 * descriptors say, every range must lie in the file and overlap no other, and names must be unique: two readers cannot
 * see two different files.
 */

/** One file of the container; the name is without the root folder: `data/0`. */
export interface ZipRecord extends CentralEntry {
  /** Where the bytes begin in the file. */
  dataOffset: number;
}

const localHeaderSize = 30;

/** Extra fields are as long as this in what PyTorch writes: padding to 64 bytes and Zip64's 28. */
const usualExtra = 96;

/** A data descriptor with its signature, in 64 bits. */
const descriptorSize = 24;

const inflate = promisify(inflateRaw) as (data: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>;

export class ZipReader {
  private constructor(
    private readonly source: ByteSource,
    /** The folder that all records are in, without the slash. */
    readonly root: string,
    readonly records: ReadonlyMap<string, ZipRecord>,
    /** False where the writer left all checksums zero, as PyTorch does on request. */
    readonly hasChecksums: boolean,
    /** What may be made of memory; the records are taken off. */
    readonly budget: MemoryBudget,
  ) {}

  /** @throws CheckpointError where the container is not wholly consistent */
  static async open(source: ByteSource, budget = new MemoryBudget()): Promise<ZipReader> {
    const end = await findEnd(source);
    const directory = await source.read(end.directoryOffset, end.directorySize);
    const entries = parseDirectory(directory, end, budget);
    const root = commonRoot(entries);
    const records = new Map<string, ZipRecord>();
    const sorted = entries.sort((a, b) => a.headerOffset - b.headerOffset);
    if (sorted[0]!.headerOffset !== 0) throw broken('bytes that belong to no record come before the first one', 0);
    await prefetchHeaders(source, sorted, end.directoryOffset);
    let free = 0;
    for (const entry of sorted) {
      if (records.has(entry.name)) throw broken(`two records are named '${entry.name}'`, entry.headerOffset);
      if (entry.headerOffset < free)
        throw broken(`record '${entry.name}' overlaps the one before it`, entry.headerOffset);
      const { record, end: recordEnd } = await locate(source, directory, entry);
      if (recordEnd > end.directoryOffset)
        throw broken(`record '${entry.name}' reaches beyond the start of the directory`, entry.headerOffset);
      free = recordEnd;
      records.set(record.name, record);
    }
    const hasChecksums = entries.some((entry) => entry.crc32 !== 0) || entries.every((entry) => entry.size === 0);
    return new ZipReader(source, root, records, hasChecksums, budget);
  }

  /** The bytes of a record, inflated where need be, with their checksum verified. */
  async read(record: ZipRecord): Promise<Buffer> {
    // What a record takes beyond its bytes in the file.
    spend(this.budget, Math.max(record.size - record.compressedSize, 0), record.name);
    const stored = await this.source.read(record.dataOffset, record.compressedSize);
    const bytes = record.method === methodStored ? stored : await inflateRecord(record, stored);
    this.verify(record, crc32(bytes));
    return bytes;
  }

  /** @throws CheckpointError where the bytes' checksum is not what the file states */
  verify(record: ZipRecord, actual: number): void {
    if (!this.hasChecksums || actual === record.crc32) return;
    throw new CheckpointError(
      `the bytes have CRC-32 ${hex(actual)} where the file states ${hex(record.crc32)}: the file is damaged`,
      CheckpointCode.checksum,
      { record: record.name, offset: record.dataOffset },
    );
  }
}

export function isStored(record: ZipRecord): boolean {
  return record.method === methodStored;
}

/** Reads all local headers, and the descriptors before them, in one go. */
async function prefetchHeaders(source: ByteSource, sorted: CentralEntry[], directoryOffset: number): Promise<void> {
  const ranges = sorted.map(({ headerOffset, nameLength }): [number, number] => [
    Math.max(headerOffset - descriptorSize, 0),
    headerOffset + localHeaderSize + nameLength + usualExtra,
  ]);
  await source.prefetch([...ranges, [Math.max(directoryOffset - descriptorSize, 0), directoryOffset]]);
}

/** Finds a record's bytes behind its local header, which must say what the directory says. */
async function locate(
  source: ByteSource,
  directory: Buffer,
  entry: CentralEntry,
): Promise<{ record: ZipRecord; end: number }> {
  const { name, nameStart, method, compressedSize, headerOffset } = entry;
  const header = await source.read(headerOffset, localHeaderSize);
  if (header.readUInt32LE(0) !== Signature.local) throw broken(`record '${name}' has no local header`, headerOffset);
  const nameLength = header.readUInt16LE(26);
  const extraLength = header.readUInt16LE(28);
  const dataOffset = headerOffset + localHeaderSize + nameLength + extraLength;
  if (header.readUInt16LE(6) !== entry.flags || header.readUInt16LE(8) !== method)
    throw disagree(entry, 'flags or compression');
  const sizes = [header.readUInt32LE(14), header.readUInt32LE(18), header.readUInt32LE(22)];
  const variable = await source.read(headerOffset + localHeaderSize, nameLength + extraLength);
  const sameName =
    nameLength === entry.nameLength &&
    directory.compare(variable, 0, nameLength, nameStart, nameStart + nameLength) === 0;
  if (!sameName) throw disagree(entry, 'name');
  const deferred = (entry.flags & flagDescriptor) !== 0 && sizes.every((value) => value === 0);
  if (!deferred) checkLocalSizes(entry, sizes, variable.subarray(nameLength));
  const dataEnd = dataOffset + compressedSize;
  const end =
    (entry.flags & flagDescriptor) === 0 ? dataEnd : dataEnd + (await descriptorLength(source, entry, dataEnd));
  return { record: Object.assign(entry, { dataOffset }), end };
}

function checkLocalSizes(entry: CentralEntry, [crc, compressedSize, size]: number[], extra: Buffer): void {
  const local = zip64Values(extra, { size: size!, compressedSize: compressedSize! }, entry.headerOffset);
  if (crc !== entry.crc32 || local.size !== entry.size || local.compressedSize !== entry.compressedSize)
    throw disagree(entry, 'size or checksum');
}

/** The descriptor behind a record's bytes repeats checksum and sizes, in 32 or 64 bits, with or without a signature. */
async function descriptorLength(source: ByteSource, entry: CentralEntry, offset: number): Promise<number> {
  const bytes = await source.read(offset, Math.min(descriptorSize, source.size - offset));
  for (const signed of [4, 0]) {
    for (const width of [4, 8]) {
      const length = signed + 4 + 2 * width;
      if (length > bytes.length || (signed === 4 && bytes.readUInt32LE(0) !== Signature.descriptor)) continue;
      const read = (at: number): bigint => (width === 4 ? BigInt(bytes.readUInt32LE(at)) : bytes.readBigUInt64LE(at));
      const matches =
        bytes.readUInt32LE(signed) === entry.crc32 &&
        read(signed + 4) === BigInt(entry.compressedSize) &&
        read(signed + 4 + width) === BigInt(entry.size);
      if (matches) return length;
    }
  }
  throw disagree(entry, 'data descriptor');
}

async function inflateRecord(record: ZipRecord, compressed: Buffer): Promise<Buffer> {
  try {
    const bytes = await inflate(compressed, { maxOutputLength: Math.max(record.size, 1) });
    if (bytes.length === record.size) return bytes;
  } catch (error) {
    throw new CheckpointError('the compressed bytes are damaged', CheckpointCode.container, {
      record: record.name,
      cause: error,
    });
  }
  throw new CheckpointError(`the compressed bytes do not make ${record.size}`, CheckpointCode.container, {
    record: record.name,
  });
}

function disagree(entry: CentralEntry, what: string): CheckpointError {
  return broken(`record '${entry.name}': the directory and the local header disagree (${what})`, entry.headerOffset);
}
