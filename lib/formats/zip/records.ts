import type { ByteSource } from '../files/byte-source';
import { broken, type CentralEntry, methodStored, type ZipDirectory } from './directory';
import {
  checkLocal,
  descriptorLength,
  descriptorSize,
  hasDescriptor,
  localHeaderSize,
  usualExtra,
  variableLength,
} from './local';

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
  for (let i = 0; i < directory.size; i++) {
    const entry = directory.entry(i);
    const { name, headerOffset } = entry;
    if (records.has(name)) throw broken(`two records are named '${name}'`, headerOffset);
    if (headerOffset < free) throw broken(`record '${name}' overlaps the one before it`, headerOffset);
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
      throw broken(`record '${name}' reaches beyond the start of the directory`, headerOffset);
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
