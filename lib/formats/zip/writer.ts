import { crc32 } from 'node:zlib';
import { Signature, uint32Max, zip64ExtraId } from './format';

/** `torch.load(mmap=True)` and we ourselves map tensors in place: every record begins at a multiple of this. */
export const alignment = 64;

/** The extra field that PyTorch pads headers with: 'FB', a length, and that many 'Z'. */
const paddingId = 0x4246;
const paddingByte = 0x5a;

/** Where bytes go. */
export interface ZipTarget {
  write(position: number, bytes: Uint8Array): Promise<void>;
}

interface WrittenRecord {
  name: Buffer;
  headerOffset: number;
  size: number;
  crc32: number;
}

/** Small pieces are gathered up to this size before they are written. */
const gatherSize = 1024 * 1024;

/**
 * Writes a zip container as PyTorch's own writer lays it out, byte for byte: records stored, their data aligned to 64
 * bytes by an extra field, a data descriptor behind each record that is not empty, Zip64 fields where a size or offset
 * needs them and Zip64 end records always. `torch.load` computes offsets from this layout, so it is part of the format.
 */
export class ZipWriter {
  private readonly records: WrittenRecord[] = [];
  private pending: Uint8Array[] = [];
  private pendingLength = 0;
  /** Where the pending pieces go. */
  private flushed = 0;

  constructor(
    private readonly target: ZipTarget,
    /** The folder of all records. */
    private readonly root: string,
  ) {}

  private get position(): number {
    return this.flushed + this.pendingLength;
  }

  /** Adds a record from memory. */
  async add(name: string, data: Uint8Array): Promise<void> {
    const record = this.begin(name, data.length);
    this.append(data);
    await this.finish(record, crc32(data));
  }

  /** Adds a record whose bytes `write` puts at the given position of the file itself, giving back their CRC-32. */
  async addExternal(name: string, size: number, write: (position: number) => Promise<number>): Promise<void> {
    const record = this.begin(name, size);
    await this.flush();
    const crc = await write(this.flushed);
    this.flushed += size;
    await this.finish(record, crc);
  }

  /**
   * Writes the last record, which PyTorch uses as a fingerprint of the others, and then the directory.
   *
   * @param hasFingerprint false leaves that record out, for a zip that PyTorch did not write
   * @returns the length of the file
   */
  async close(hasFingerprint = true): Promise<number> {
    if (hasFingerprint) await this.add('.data/serialization_id', Buffer.from(this.fingerprint(), 'latin1'));
    const directoryOffset = this.position;
    for (const record of this.records) this.append(centralHeader(record));
    this.append(endRecords(this.records.length, directoryOffset, this.position));
    await this.flush();
    return this.flushed;
  }

  /** 40 digits: 20 from the names, 20 from the contents. */
  private fingerprint(): string {
    const names = crc32(Buffer.concat(this.records.map((record) => record.name)));
    const contents = crc32(Uint8Array.from(this.records.flatMap((record) => [...uint32(record.crc32)])));
    return [names, contents].map((half) => String(half).padStart(20, '0')).join('');
  }

  private begin(name: string, size: number): WrittenRecord {
    const record: WrittenRecord = {
      name: Buffer.from(`${this.root}/${name}`, 'utf8'),
      headerOffset: this.position,
      size,
      crc32: 0,
    };
    this.append(localHeader(record));
    return record;
  }

  private async finish(record: WrittenRecord, crc: number): Promise<void> {
    record.crc32 = crc;
    if (record.size > 0) this.append(dataDescriptor(record));
    this.records.push(record);
    if (this.pendingLength >= gatherSize) await this.flush();
  }

  private append(bytes: Uint8Array): void {
    this.pending.push(bytes);
    this.pendingLength += bytes.length;
  }

  private async flush(): Promise<void> {
    if (this.pendingLength === 0) return;
    const bytes = Buffer.concat(this.pending);
    await this.target.write(this.flushed, bytes);
    this.flushed += bytes.length;
    this.pending = [];
    this.pendingLength = 0;
  }
}

function needsZip64({ size, headerOffset }: WrittenRecord): boolean {
  return size >= uint32Max || headerOffset >= uint32Max;
}

/** Bit 3: a data descriptor follows; bit 11: the name is UTF-8. */
function flagsOf(record: WrittenRecord): number {
  return record.size > 0 ? 0x0808 : 0x0800;
}

/** Checksum and sizes are zero here: the data descriptor has them. */
function localHeader(record: WrittenRecord): Buffer {
  const header = Buffer.alloc(30);
  header.writeUInt32LE(Signature.local, 0);
  header.writeUInt16LE(flagsOf(record), 6);
  const wide = zip64Extra(record);
  const unpadded = record.headerOffset + header.length + record.name.length + wide.length + 4;
  const padding = Buffer.alloc(4 + ((alignment - (unpadded % alignment)) % alignment), paddingByte);
  padding.writeUInt16LE(paddingId, 0);
  padding.writeUInt16LE(padding.length - 4, 2);
  header.writeUInt16LE(record.name.length, 26);
  header.writeUInt16LE(wide.length + padding.length, 28);
  return Buffer.concat([header, record.name, wide, padding]);
}

/** Both sizes where one needs 64 bits, then the header's offset where that does; empty where 32 bits do. */
function zip64Extra({ size, headerOffset }: WrittenRecord): Buffer {
  const values = [...(size >= uint32Max ? [size, size] : []), ...(headerOffset >= uint32Max ? [headerOffset] : [])];
  if (values.length === 0) return Buffer.alloc(0);
  return Buffer.concat([uint16(zip64ExtraId), uint16(values.length * 8), ...values.map(uint64)]);
}

function dataDescriptor(record: WrittenRecord): Buffer {
  const size = needsZip64(record) ? uint64(record.size) : uint32(record.size);
  return Buffer.concat([uint32(Signature.descriptor), uint32(record.crc32), size, size]);
}

function centralHeader(record: WrittenRecord): Buffer {
  const header = Buffer.alloc(46);
  const wide = zip64Extra(record);
  const size = Math.min(record.size, uint32Max);
  header.writeUInt32LE(Signature.central, 0);
  header.writeUInt16LE(flagsOf(record), 8);
  header.writeUInt32LE(record.crc32, 16);
  header.writeUInt32LE(size, 20);
  header.writeUInt32LE(size, 24);
  header.writeUInt16LE(record.name.length, 28);
  header.writeUInt16LE(wide.length, 30);
  header.writeUInt32LE(Math.min(record.headerOffset, uint32Max), 42);
  return Buffer.concat([header, record.name, wide]);
}

/** The Zip64 end record, its locator, and the end record of old. */
function endRecords(count: number, directoryOffset: number, directoryEnd: number): Buffer {
  const size = directoryEnd - directoryOffset;
  const shortCount = uint16(Math.min(count, 0xffff));
  return Buffer.concat([
    ...[uint32(Signature.zip64End), uint64(44), uint16(0x031e), uint16(45), uint32(0), uint32(0)],
    ...[uint64(count), uint64(count), uint64(size), uint64(directoryOffset)],
    ...[uint32(Signature.zip64Locator), uint32(0), uint64(directoryEnd), uint32(1)],
    ...[uint32(Signature.end), uint32(0), shortCount, shortCount],
    ...[uint32(Math.min(size, uint32Max)), uint32(Math.min(directoryOffset, uint32Max)), uint16(0)],
  ]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
