import { promisify } from 'node:util';
import { crc32, inflateRaw } from 'node:zlib';
import { MemoryBudget, spend } from '../../pickle/budget';
import type { ByteSource } from '../files/byte-source';
import { CheckpointCode, CheckpointError, containerError } from '../../errors';
import { findEnd, hex, ZipDirectory } from './directory';
import { isStored, locateRecords, type ZipRecord, type ZipRecords } from './records';

export { isStored, type ZipRecord } from './records';

/**
 * One strict reader of zip containers. What the central directory says must be what the local headers and data
 * descriptors say, every range must lie in the file and overlap no other, and names must be unique: two readers cannot
 * see two different files.
 */

const inflate = promisify(inflateRaw) as (
  data: Buffer,
  options: { maxOutputLength: number; chunkSize: number },
) => Promise<Buffer>;

export class ZipReader {
  private constructor(
    private readonly source: ByteSource,
    /** Bytes of the file behind the zip. */
    readonly trailing: number,
    readonly records: ZipRecords,
    /** What may be made of memory; the records are taken off. */
    readonly budget: MemoryBudget,
  ) {}

  /** @throws CheckpointError where the container is not wholly consistent */
  static async open(source: ByteSource, budget = new MemoryBudget()): Promise<ZipReader> {
    const end = await findEnd(source);
    const directory = await ZipDirectory.read(await source.read(end.directoryOffset, end.directorySize), end, budget);
    if (directory.entry(0).headerOffset !== 0)
      throw containerError('bytes that belong to no record come before the first one', 0);
    const records = await locateRecords(source, directory);
    source.forget();
    return new ZipReader(source, end.trailing, records, budget);
  }

  /** The same zip with a new count of its contents. */
  within(budget: MemoryBudget): ZipReader {
    return new ZipReader(this.source, this.trailing, this.records, budget);
  }

  /** The folder that all records are in, without the slash. */
  get root(): string {
    return this.records.root;
  }

  /** False where the writer left all checksums zero, as PyTorch does on request. */
  get hasChecksums(): boolean {
    return this.records.haveChecksums;
  }

  /** The bytes of a record, inflated where need be, with their checksum verified. */
  async read(record: ZipRecord): Promise<Buffer> {
    // What a record takes beyond its bytes in the file, and as much again until those of a tensor are copied.
    const more = Math.max(record.size - record.compressedSize, 0);
    spend(this.budget, 2 * more, record.name);
    const stored = await this.source.read(record.dataOffset, record.compressedSize);
    const bytes = isStored(record) ? stored : await inflateRecord(record, stored);
    this.verify(record, crc32(bytes));
    this.budget.give(more);
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

async function inflateRecord(record: ZipRecord, compressed: Buffer): Promise<Buffer> {
  try {
    // One buffer, one byte larger to detect excess data: joining pieces would copy.
    const chunkSize = Math.max(record.size + 1, 64);
    const bytes = await inflate(compressed, { maxOutputLength: Math.max(record.size, 1), chunkSize });
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
