import { promisify } from 'node:util';
import { crc32, inflateRaw } from 'node:zlib';
import { decodeUtf8 } from '../pickle/text';
import type { ByteSource } from './byte-source';
import { CheckpointCode, CheckpointError } from './errors';
import { Signature, uint32Max, zip64ExtraId } from './zip-format';

/**
 * One strict reader of zip containers. What the central directory says must be what the local headers and data
 * descriptors say, every range must lie in the file and overlap no other, and names must be unique: two readers cannot
 * see two different files.
 */

/** One file of the container. */
export interface ZipRecord {
  /** Name without the root folder: `data/0`. */
  name: string;
  /** 0: stored; 8: deflated. */
  method: number;
  crc32: number;
  compressedSize: number;
  size: number;
  headerOffset: number;
  /** Where the bytes begin in the file. */
  dataOffset: number;
}

interface CentralEntry extends Omit<ZipRecord, 'dataOffset'> {
  fullName: Buffer;
  flags: number;
}

interface EndRecord {
  entries: number;
  directorySize: number;
  directoryOffset: number;
}

const endRecordSize = 22;
const maxComment = 0xffff;
const zip64LocatorSize = 20;
const zip64EndSize = 56;
const centralHeaderSize = 46;
const localHeaderSize = 30;

const flagDescriptor = 0x0008;
const flagUtf8 = 0x0800;
const methodStored = 0;
const methodDeflated = 8;

/** Deflate makes at most 258 bytes of two bits: what claims more is a lie, to make us allocate. */
const largestRatio = 1032;

const inflate = promisify(inflateRaw) as (data: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>;

export class ZipReader {
  private constructor(
    private readonly source: ByteSource,
    /** The folder that all records are in, without the slash. */
    readonly root: string,
    readonly records: ReadonlyMap<string, ZipRecord>,
    /** False where the writer left all checksums zero, as PyTorch does on request. */
    readonly hasChecksums: boolean,
  ) {}

  /** @throws CheckpointError where the container is not wholly consistent */
  static async open(source: ByteSource): Promise<ZipReader> {
    const end = await findEnd(source);
    const entries = parseDirectory(await source.read(end.directoryOffset, end.directorySize), end);
    const root = commonRoot(entries);
    const records = new Map<string, ZipRecord>();
    const sorted = entries.sort((a, b) => a.headerOffset - b.headerOffset);
    if (sorted[0]!.headerOffset !== 0) throw broken('bytes that belong to no record come before the first one', 0);
    let free = 0;
    for (const entry of sorted) {
      if (records.has(entry.name)) throw broken(`two records are named '${entry.name}'`, entry.headerOffset);
      if (entry.headerOffset < free)
        throw broken(`record '${entry.name}' overlaps the one before it`, entry.headerOffset);
      const { record, end: recordEnd } = await locate(source, entry);
      if (recordEnd > end.directoryOffset)
        throw broken(`record '${entry.name}' reaches beyond the start of the directory`, entry.headerOffset);
      free = recordEnd;
      records.set(record.name, record);
    }
    const hasChecksums = entries.some((entry) => entry.crc32 !== 0) || entries.every((entry) => entry.size === 0);
    return new ZipReader(source, root, records, hasChecksums);
  }

  /** The bytes of a record, inflated where need be, with their checksum verified. */
  async read(record: ZipRecord): Promise<Buffer> {
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

/** The end record lies at the very end of the file, but for a comment whose length it states. */
async function findEnd(source: ByteSource): Promise<EndRecord> {
  const tailLength = Math.min(source.size, endRecordSize + maxComment);
  const tailStart = source.size - tailLength;
  const tail = await source.read(tailStart, tailLength);
  const found: number[] = [];
  for (let i = tail.lastIndexOf(signatureBytes(Signature.end)); i >= 0;) {
    if (i + endRecordSize <= tail.length && i + endRecordSize + tail.readUInt16LE(i + 20) === tail.length)
      found.push(i);
    i = i === 0 ? -1 : tail.lastIndexOf(signatureBytes(Signature.end), i - 1);
  }
  if (found.length === 0) {
    throw new CheckpointError(
      'the zip directory is missing at the end of the file: the file is cut short',
      CheckpointCode.truncated,
      {
        offset: source.size,
      },
    );
  }
  if (found.length > 1) throw broken('the file can be read as a zip in two ways', tailStart + found[1]!);
  const offset = tailStart + found[0]!;
  return parseEnd(source, tail.subarray(found[0]), offset);
}

async function parseEnd(source: ByteSource, bytes: Buffer, offset: number): Promise<EndRecord> {
  if (bytes.readUInt16LE(4) !== 0 || bytes.readUInt16LE(6) !== 0)
    throw broken('the zip is one part of several', offset);
  if (bytes.readUInt16LE(8) !== bytes.readUInt16LE(10))
    throw broken('the zip directory states two numbers of records', offset);
  const short = {
    entries: bytes.readUInt16LE(10),
    directorySize: bytes.readUInt32LE(12),
    directoryOffset: bytes.readUInt32LE(16),
  };
  const long = await findZip64End(source, offset);
  if (long !== undefined) {
    agree('number of records', short.entries, 0xffff, long.end.entries, offset);
    agree('directory size', short.directorySize, uint32Max, long.end.directorySize, offset);
    agree('directory offset', short.directoryOffset, uint32Max, long.end.directoryOffset, offset);
  }
  const end = long?.end ?? short;
  if (end.directoryOffset + end.directorySize !== (long?.offset ?? offset)) {
    throw broken('the zip directory does not end where its end record begins', offset);
  }
  return end;
}

async function findZip64End(
  source: ByteSource,
  endOffset: number,
): Promise<{ end: EndRecord; offset: number } | undefined> {
  const locatorOffset = endOffset - zip64LocatorSize;
  if (locatorOffset < zip64EndSize) return undefined;
  const locator = await source.read(locatorOffset, zip64LocatorSize);
  if (locator.readUInt32LE(0) !== Signature.zip64Locator) return undefined;
  const offset = safe(locator.readBigUInt64LE(8), locatorOffset);
  if (offset + zip64EndSize !== locatorOffset)
    throw broken('the Zip64 end record is not where its locator says', locatorOffset);
  const bytes = await source.read(offset, zip64EndSize);
  const whole = bytes.readUInt32LE(0) === Signature.zip64End && bytes.readBigUInt64LE(4) === BigInt(zip64EndSize - 12);
  if (!whole || bytes.readBigUInt64LE(24) !== bytes.readBigUInt64LE(32))
    throw broken('the Zip64 end record is malformed', offset);
  const [entries, directorySize, directoryOffset] = [32, 40, 48].map((at) => safe(bytes.readBigUInt64LE(at), offset));
  return { end: { entries: entries!, directorySize: directorySize!, directoryOffset: directoryOffset! }, offset };
}

/** A short field states the value itself, or by its greatest value that the Zip64 field has it. */
function agree(what: string, short: number, escape: number, long: number, offset: number): void {
  if (short !== escape && short !== long)
    throw broken(`the end records state two values for the ${what}: ${short} and ${long}`, offset);
}

function parseDirectory(bytes: Buffer, end: EndRecord): CentralEntry[] {
  // Each entry takes its header at least, so that a lie about their number cannot make us allocate.
  if (end.entries * centralHeaderSize > bytes.length)
    throw broken(`${end.entries} records cannot be in a directory of ${bytes.length} bytes`, end.directoryOffset);
  const entries: CentralEntry[] = [];
  let position = 0;
  while (position < bytes.length) {
    const { entry, length } = parseCentral(bytes, position, end.directoryOffset + position);
    entries.push(entry);
    position += length;
  }
  if (entries.length !== end.entries)
    throw broken(`the directory holds ${entries.length} records and states ${end.entries}`, end.directoryOffset);
  if (entries.length === 0) throw broken('the zip is empty', end.directoryOffset);
  return entries;
}

function parseCentral(bytes: Buffer, at: number, offset: number): { entry: CentralEntry; length: number } {
  if (at + centralHeaderSize > bytes.length || bytes.readUInt32LE(at) !== Signature.central)
    throw broken('a directory entry is malformed', offset);
  const nameLength = bytes.readUInt16LE(at + 28);
  const extraLength = bytes.readUInt16LE(at + 30);
  const length = centralHeaderSize + nameLength + extraLength + bytes.readUInt16LE(at + 32);
  if (at + length > bytes.length) throw broken('a directory entry reaches beyond the directory', offset);
  const nameStart = at + centralHeaderSize;
  const fullName = bytes.subarray(nameStart, nameStart + nameLength);
  const extra = bytes.subarray(nameStart + nameLength, nameStart + nameLength + extraLength);
  const wide = zip64Values(
    extra,
    {
      size: bytes.readUInt32LE(at + 24),
      compressedSize: bytes.readUInt32LE(at + 20),
      headerOffset: bytes.readUInt32LE(at + 42),
    },
    offset,
  );
  const entry: CentralEntry = {
    name: recordName(fullName, offset),
    fullName,
    flags: bytes.readUInt16LE(at + 8),
    method: bytes.readUInt16LE(at + 10),
    crc32: bytes.readUInt32LE(at + 16),
    ...wide,
  };
  checkEntry(entry, bytes.readUInt16LE(at + 34), offset);
  return { entry, length };
}

function checkEntry(entry: CentralEntry, disk: number, offset: number): void {
  if ((entry.flags & ~(flagDescriptor | flagUtf8)) !== 0) {
    throw broken(
      `record '${entry.name}' has flags ${hex(entry.flags)}: encrypted and patched records are refused`,
      offset,
    );
  }
  if (entry.method !== methodStored && entry.method !== methodDeflated)
    throw broken(`record '${entry.name}' has compression method ${entry.method}`, offset);
  if (entry.method === methodStored && entry.size !== entry.compressedSize)
    throw broken(`record '${entry.name}' states two sizes`, offset);
  if (entry.method === methodDeflated && entry.size > entry.compressedSize * largestRatio) {
    throw broken(
      `record '${entry.name}' claims to inflate from ${entry.compressedSize} to ${entry.size} bytes, which cannot be`,
      offset,
    );
  }
  if (disk !== 0) throw broken('the zip is one part of several', offset);
}

/** Fields whose 32 bits are all set have their value in the Zip64 extra field, in this order. */
function zip64Values<T extends Record<string, number>>(extra: Buffer, fields: T, offset: number): T {
  const wide = Object.entries(fields).filter(([, value]) => value === uint32Max);
  if (wide.length === 0) return fields;
  const data = extraField(extra, zip64ExtraId, offset);
  if (data === undefined || data.length < wide.length * 8)
    throw broken('a directory entry lacks its Zip64 values', offset);
  return {
    ...fields,
    ...Object.fromEntries(wide.map(([name], i) => [name, safe(data.readBigUInt64LE(i * 8), offset)])),
  };
}

function extraField(extra: Buffer, id: number, offset: number): Buffer | undefined {
  let found: Buffer | undefined;
  for (let at = 0; at + 4 <= extra.length;) {
    const end = at + 4 + extra.readUInt16LE(at + 2);
    if (end > extra.length) throw broken('an extra field reaches beyond its entry', offset);
    if (extra.readUInt16LE(at) === id) {
      if (found !== undefined) throw broken('an entry has two Zip64 fields', offset);
      found = extra.subarray(at + 4, end);
    }
    at = end;
  }
  return found;
}

/** The path below the root folder. */
function recordName(fullName: Buffer, offset: number): string {
  const name = decodeUtf8(fullName);
  if (name === undefined || name.includes('\0') || name.includes('\\'))
    throw broken('a record name is not valid text', offset);
  return name;
}

/** PyTorch takes the folder of the first record, and looks for all others in it. */
function commonRoot(entries: CentralEntry[]): string {
  const first = entries[0]!.name;
  const slash = first.indexOf('/');
  if (slash < 1)
    throw broken(`record '${first}' is not in a folder, as the records of a checkpoint are`, entries[0]!.headerOffset);
  const prefix = first.slice(0, slash + 1);
  for (const entry of entries) {
    if (!entry.name.startsWith(prefix))
      throw broken(`record '${entry.name}' is not in the folder '${prefix}'`, entry.headerOffset);
    entry.name = entry.name.slice(prefix.length);
  }
  return first.slice(0, slash);
}

/** Finds a record's bytes behind its local header, which must say what the directory says. */
async function locate(source: ByteSource, entry: CentralEntry): Promise<{ record: ZipRecord; end: number }> {
  const { name, method, crc32, compressedSize, size, headerOffset } = entry;
  const header = await source.read(headerOffset, localHeaderSize);
  if (header.readUInt32LE(0) !== Signature.local) throw broken(`record '${name}' has no local header`, headerOffset);
  const nameLength = header.readUInt16LE(26);
  const extraLength = header.readUInt16LE(28);
  const dataOffset = headerOffset + localHeaderSize + nameLength + extraLength;
  if (header.readUInt16LE(6) !== entry.flags || header.readUInt16LE(8) !== method)
    throw disagree(entry, 'flags or compression');
  const sizes = [header.readUInt32LE(14), header.readUInt32LE(18), header.readUInt32LE(22)];
  const variable = await source.read(headerOffset + localHeaderSize, nameLength + extraLength);
  if (!variable.subarray(0, nameLength).equals(entry.fullName)) throw disagree(entry, 'name');
  const deferred = (entry.flags & flagDescriptor) !== 0 && sizes.every((value) => value === 0);
  if (!deferred) checkLocalSizes(entry, sizes, variable.subarray(nameLength));
  const dataEnd = dataOffset + compressedSize;
  const end =
    (entry.flags & flagDescriptor) === 0 ? dataEnd : dataEnd + (await descriptorLength(source, entry, dataEnd));
  return { record: { name, method, crc32, compressedSize, size, headerOffset, dataOffset }, end };
}

function checkLocalSizes(entry: CentralEntry, [crc, compressedSize, size]: number[], extra: Buffer): void {
  const local = zip64Values(extra, { size: size!, compressedSize: compressedSize! }, entry.headerOffset);
  if (crc !== entry.crc32 || local.size !== entry.size || local.compressedSize !== entry.compressedSize)
    throw disagree(entry, 'size or checksum');
}

/** The descriptor behind a record's bytes repeats checksum and sizes, in 32 or 64 bits, with or without a signature. */
async function descriptorLength(source: ByteSource, entry: CentralEntry, offset: number): Promise<number> {
  const bytes = await source.read(offset, Math.min(24, source.size - offset));
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

function safe(value: bigint, offset: number): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw broken(`a 64-bit field of the zip says ${value}`, offset);
  return Number(value);
}

function signatureBytes(signature: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(signature);
  return bytes;
}

function disagree(entry: CentralEntry, what: string): CheckpointError {
  return broken(`record '${entry.name}': the directory and the local header disagree (${what})`, entry.headerOffset);
}

function broken(message: string, offset: number): CheckpointError {
  return new CheckpointError(message, CheckpointCode.container, { offset });
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
