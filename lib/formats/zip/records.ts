import { type CheckpointError, containerError } from '../../errors';
import { type CentralEntry, flagDescriptor, methodStored, zip64Values, type ZipDirectory } from './directory';
import { Signature } from './format';
import type { ByteSource } from '../files/byte-source';
import { turnTimer } from '../../workers/slices';

/** What stands before and behind the bytes of a record, which must say what the directory says. */

export const localHeaderSize = 30;

/** Extra fields are as long as this in what PyTorch writes: padding to 64 bytes and Zip64's 28. */
export const usualExtra = 96;

/** A data descriptor with its signature, in 64 bits. */
export const descriptorSize = 24;

/** Bytes of the name and the extra fields that follow a local header. */
export function variableLength(header: Buffer, { name, headerOffset }: CentralEntry): number {
  if (header.readUInt32LE(0) !== Signature.local)
    throw containerError(`record '${name}' has no local header`, headerOffset);
  return header.readUInt16LE(26) + header.readUInt16LE(28);
}

/** @param variable the name and the extra fields */
export function checkLocal(directory: ZipDirectory, entry: CentralEntry, header: Buffer, variable: Buffer): void {
  if (header.readUInt16LE(6) !== entry.flags || header.readUInt16LE(8) !== entry.method)
    throw disagreementError(entry, 'flags or compression');
  const nameLength = header.readUInt16LE(26);
  if (!directory.hasName(entry, variable, nameLength)) throw disagreementError(entry, 'name');
  const [crc, compressedSize, size] = [header.readUInt32LE(14), header.readUInt32LE(18), header.readUInt32LE(22)];
  const isDeferred = hasDescriptor(entry) && crc === 0 && compressedSize === 0 && size === 0;
  if (isDeferred) return;
  const local = zip64Values(variable.subarray(nameLength), { size, compressedSize }, entry.headerOffset);
  if (crc !== entry.crc32 || local.size !== entry.size || local.compressedSize !== entry.compressedSize)
    throw disagreementError(entry, 'size or checksum');
}

export function hasDescriptor({ flags }: CentralEntry): boolean {
  return (flags & flagDescriptor) !== 0;
}

/** The descriptor behind a record's bytes repeats checksum and sizes, in 32 or 64 bits, with or without a signature. */
export function descriptorLength(bytes: Buffer, entry: CentralEntry): number {
  for (const signed of [4, 0]) {
    if (signed === 4 && bytes.readUInt32LE(0) !== Signature.descriptor) continue;
    if (bytes.readUInt32LE(signed) !== entry.crc32) continue;
    for (const width of [4, 8]) {
      const read = (at: number): number => (width === 4 ? bytes.readUInt32LE(at) : Number(bytes.readBigUInt64LE(at)));
      if (read(signed + 4) === entry.compressedSize && read(signed + 4 + width) === entry.size)
        return signed + 4 + 2 * width;
    }
  }
  throw disagreementError(entry, 'data descriptor');
}

function disagreementError(entry: CentralEntry, what: string): CheckpointError {
  return containerError(
    `record '${entry.name}': the directory and the local header disagree (${what})`,
    entry.headerOffset,
  );
}

/** One file of the container; the name is without the root folder: `data/0`. */
export interface ZipRecord extends CentralEntry {
  /** Where the bytes begin in the file. */
  dataOffset: number;
}

export function isStored(record: ZipRecord): boolean {
  return record.method === methodStored;
}

/** The records by name, in the order of the file. Each is made when it is asked for. */
export class ZipRecords {
  private readonly indices = new Map<string, number>();
  private readonly dataOffsets: Float64Array;
  private isFilled = false;
  private isSummed = false;

  constructor(private readonly directory: ZipDirectory) {
    this.dataOffsets = new Float64Array(directory.size);
  }

  /** The folder that all records are in, without the slash. */
  get root(): string {
    return this.directory.prefix.slice(0, -1);
  }

  /** False where all checksums are zero, though there are bytes. */
  get haveChecksums(): boolean {
    return this.isSummed || !this.isFilled;
  }

  get size(): number {
    return this.indices.size;
  }

  has(name: string): boolean {
    return this.indices.has(name);
  }

  get(name: string): ZipRecord | undefined {
    const index = this.indices.get(name);
    if (index === undefined) return undefined;
    return Object.assign(this.directory.entry(index), { dataOffset: this.dataOffsets[index]! });
  }

  keys(): IterableIterator<string> {
    return this.indices.keys();
  }

  *values(): Generator<ZipRecord> {
    for (const name of this.indices.keys()) yield this.get(name)!;
  }

  /** The next one in the file. */
  add({ name, crc32, size }: CentralEntry, dataOffset: number): void {
    this.dataOffsets[this.indices.size] = dataOffset;
    this.indices.set(name, this.indices.size);
    this.isSummed ||= crc32 !== 0;
    this.isFilled ||= size !== 0;
  }
}

/**
 * Finds the bytes of all records behind their local headers.
 *
 * @throws CheckpointError where these do not say what the directory says, or records overlap
 */
export async function locateRecords(source: ByteSource, directory: ZipDirectory): Promise<ZipRecords> {
  const records = new ZipRecords(directory);
  await source.prefetch(headerRanges(directory));
  let free = 0;
  const turn = turnTimer();
  for (let i = 0; i < directory.size; i++) {
    const turned = turn();
    if (turned) await turned;
    const entry = directory.entry(i);
    const { name, headerOffset } = entry;
    if (records.has(name)) throw containerError(`two records are named '${name}'`, headerOffset);
    if (headerOffset < free) throw containerError(`record '${name}' overlaps the one before it`, headerOffset);
    const bytesOffset = headerOffset + localHeaderSize;
    const header = source.peek(headerOffset, localHeaderSize) ?? (await source.read(headerOffset, localHeaderSize));
    const length = variableLength(header, entry);
    const variable = source.peek(bytesOffset, length) ?? (await source.read(bytesOffset, length));
    checkLocal(directory, entry, header, variable);
    free = bytesOffset + length + entry.compressedSize;
    if (hasDescriptor(entry) && free <= directory.offset) {
      // What is shorter is followed by the directory, which is longer.
      const bytes = source.peek(free, descriptorSize) ?? (await source.read(free, descriptorSize));
      free += descriptorLength(bytes, entry);
    }
    if (free > directory.offset)
      throw containerError(`record '${name}' reaches beyond the start of the directory`, headerOffset);
    records.add(entry, bytesOffset + length);
  }
  return records;
}

/** All local headers, and the descriptors before them, to be read in one go. */
function* headerRanges(directory: ZipDirectory): Generator<[number, number]> {
  for (let i = 0; i < directory.size; i++) {
    const { headerOffset, nameLength } = directory.entry(i);
    yield [Math.max(headerOffset - descriptorSize, 0), headerOffset + localHeaderSize + nameLength + usualExtra];
  }
  yield [Math.max(directory.offset - descriptorSize, 0), directory.offset + descriptorSize];
}
