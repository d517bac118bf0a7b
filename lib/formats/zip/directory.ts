import { Cost, type MemoryBudget, spend } from '../../pickle/budget';
import { decodeUtf8 } from '../../pickle/text';
import type { ByteSource } from '../files/byte-source';
import { zipKindOf } from '../files/kinds';
import { CheckpointCode, CheckpointError, containerError } from '../../errors';
import { turnTimer } from '../../workers/slices';
import { Signature, uint32Max, zip64ExtraId } from './format';

/** A record as the central directory describes it. */
export interface CentralEntry {
  /** The path, below the root folder. */
  name: string;
  /** Where the whole path is in the directory's bytes. */
  nameStart: number;
  nameLength: number;
  flags: number;
  /** 0: stored; 8: deflated. */
  method: number;
  crc32: number;
  compressedSize: number;
  size: number;
  headerOffset: number;
}

export interface EndRecord {
  entries: number;
  directorySize: number;
  directoryOffset: number;
  /** Bytes of the file behind the zip: Python's readers pass over them. */
  trailing: number;
}

type StatedEnd = Omit<EndRecord, 'trailing'>;

const endRecordSize = 22;
const maxComment = 0xffff;
/** How many names of a zip tell what wrote it. */
const maxNames = 1000;

const zip64LocatorSize = 20;
const zip64EndSize = 56;
const centralHeaderSize = 46;

export const flagDescriptor = 0x0008;
const flagUtf8 = 0x0800;
export const methodStored = 0;
const methodDeflated = 8;

/** Deflate makes at most 258 bytes of two bits: what claims more is a lie, to make us allocate. */
const largestRatio = 1032;

/** What the reader keeps of a record: its name, and where it is. */
const recordCost = Cost.string + Cost.entry + 16;

/**
 * The end record is at the end of the file, before an optional comment whose length it states. Other bytes may follow,
 * such as padding from a copy or a download, if only one record is possible.
 */
export async function findEnd(source: ByteSource): Promise<EndRecord> {
  const tailLength = Math.min(source.size, endRecordSize + maxComment);
  const tailStart = source.size - tailLength;
  const tail = await source.read(tailStart, tailLength);
  const found: number[] = [];
  const early: number[] = [];
  for (let i = tail.lastIndexOf(signatureBytes(Signature.end)); i >= 0;) {
    const end = i + endRecordSize <= tail.length ? i + endRecordSize + tail.readUInt16LE(i + 20) : Infinity;
    if (end === tail.length) found.push(i);
    else if (end < tail.length) early.push(i);
    i = i === 0 ? -1 : tail.lastIndexOf(signatureBytes(Signature.end), i - 1);
  }
  if (found.length === 0) found.push(...early);
  if (found.length === 0) {
    throw new CheckpointError(
      'the zip directory is missing at the end of the file: the file is cut short',
      CheckpointCode.truncated,
      {
        offset: source.size,
      },
    );
  }
  if (found.length > 1) throw containerError('the file can be read as a zip in two ways', tailStart + found[1]!);
  const [start] = found as [number];
  const bytes = tail.subarray(start);
  const trailing = bytes.length - endRecordSize - bytes.readUInt16LE(20);
  return { ...(await parseEnd(source, bytes, tailStart + start)), trailing };
}

async function parseEnd(source: ByteSource, bytes: Buffer, offset: number): Promise<StatedEnd> {
  if (bytes.readUInt16LE(4) !== 0 || bytes.readUInt16LE(6) !== 0)
    throw containerError('the zip is one part of several', offset);
  if (bytes.readUInt16LE(8) !== bytes.readUInt16LE(10))
    throw containerError('the zip directory states two numbers of records', offset);
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
    throw containerError('the zip directory does not end where its end record begins', offset);
  }
  return end;
}

async function findZip64End(
  source: ByteSource,
  endOffset: number,
): Promise<{ end: StatedEnd; offset: number } | undefined> {
  const locatorOffset = endOffset - zip64LocatorSize;
  if (locatorOffset < zip64EndSize) return undefined;
  const locator = await source.read(locatorOffset, zip64LocatorSize);
  if (locator.readUInt32LE(0) !== Signature.zip64Locator) return undefined;
  const offset = safe(locator.readBigUInt64LE(8), locatorOffset);
  if (offset + zip64EndSize !== locatorOffset)
    throw containerError('the Zip64 end record is not where its locator says', locatorOffset);
  const bytes = await source.read(offset, zip64EndSize);
  const whole = bytes.readUInt32LE(0) === Signature.zip64End && bytes.readBigUInt64LE(4) === BigInt(zip64EndSize - 12);
  if (!whole || bytes.readBigUInt64LE(24) !== bytes.readBigUInt64LE(32))
    throw containerError('the Zip64 end record is malformed', offset);
  const [entries, directorySize, directoryOffset] = [32, 40, 48].map((at) => safe(bytes.readBigUInt64LE(at), offset));
  return { end: { entries: entries!, directorySize: directorySize!, directoryOffset: directoryOffset! }, offset };
}

/** A short field states the value itself, or by its greatest value that the Zip64 field has it. */
function agree(what: string, short: number, escape: number, long: number, offset: number): void {
  if (short !== escape && short !== long)
    throw containerError(`the end records state two values for the ${what}: ${short} and ${long}`, offset);
}

/** The records that a directory lists, as its bytes and where each is in them: a file may have a hundred thousand. */
export class ZipDirectory {
  /** The folder that all records are in, with the slash. */
  readonly prefix: string;
  /** Where in the bytes the entries begin, in the order of the records in the file. */
  private readonly starts: Uint32Array;

  /** @throws CheckpointError where it does not hold what the end record says */
  static async read(bytes: Buffer, end: EndRecord, budget: MemoryBudget): Promise<ZipDirectory> {
    const directory = new ZipDirectory(bytes, end, budget);
    const headerOffsets = await directory.readEntries();
    if (headerOffsets.some((offset, i) => i > 0 && offset < headerOffsets[i - 1]!)) directory.sort(headerOffsets);
    return directory;
  }

  private constructor(
    private readonly bytes: Buffer,
    private readonly end: EndRecord,
    budget: MemoryBudget,
  ) {
    // Each entry takes its header at least, so that a lie about their number cannot make us allocate.
    if (end.entries * centralHeaderSize > bytes.length)
      throw containerError(
        `${end.entries} records cannot be in a directory of ${bytes.length} bytes`,
        end.directoryOffset,
      );
    if (bytes.length === 0) throw containerError('the zip is empty', end.directoryOffset);
    spend(budget, end.entries * recordCost);
    this.starts = new Uint32Array(end.entries);
    this.prefix = this.rootFolder();
  }

  get size(): number {
    return this.starts.length;
  }

  /** @param index in the order of the records in the file */
  entry(index: number): CentralEntry {
    const start = this.starts[index]!;
    const { entry } = parseCentral(this.bytes, start, this.end.directoryOffset + start);
    entry.name = entry.name.slice(this.prefix.length);
    return entry;
  }

  /** Where in the file it begins. */
  get offset(): number {
    return this.end.directoryOffset;
  }

  /** Whether `bytes` begin with the entry's name, and it has this length. */
  hasName({ nameStart, nameLength }: CentralEntry, bytes: Buffer, length: number): boolean {
    return length === nameLength && this.bytes.compare(bytes, 0, length, nameStart, nameStart + length) === 0;
  }

  /** Finds and checks each entry; gives where their local headers are. */
  private async readEntries(): Promise<Float64Array> {
    const { bytes, starts, prefix, end } = this;
    const headerOffsets = new Float64Array(end.entries);
    const turn = turnTimer();
    let [count, position] = [0, 0];
    for (; position < bytes.length; count++) {
      if (count === end.entries)
        throw containerError(`the directory holds more than ${count} records`, end.directoryOffset);
      const { entry, length } = parseCentral(bytes, position, end.directoryOffset + position);
      if (!entry.name.startsWith(prefix)) throw this.foreignError();
      starts[count] = position;
      headerOffsets[count] = entry.headerOffset;
      position += length;
      const turned = turn();
      if (turned) await turned;
    }
    if (count !== end.entries)
      throw containerError(`the directory holds ${count} records and states ${end.entries}`, end.directoryOffset);
    return headerOffsets;
  }

  /** PyTorch takes the folder of the first record, and looks for all others in it. */
  private rootFolder(): string {
    const { name } = parseCentral(this.bytes, 0, this.end.directoryOffset).entry;
    const slash = name.indexOf('/');
    if (slash < 1) throw this.foreignError();
    return name.slice(0, slash + 1);
  }

  /** For records that are not all in one folder, as those of PyTorch are. */
  private foreignError(): CheckpointError {
    const names: string[] = [];
    for (let at = 0; at < this.bytes.length && names.length < maxNames;) {
      const { entry, length } = parseCentral(this.bytes, at, this.end.directoryOffset + at);
      names.push(entry.name);
      at += length;
    }
    const message = `expected a zip that torch.save wrote, with its records in one folder, got ${zipKindOf(names)}`;
    return new CheckpointError(message, CheckpointCode.format);
  }

  private sort(headerOffsets: Float64Array): void {
    const order = Uint32Array.from(this.starts.keys()).sort((a, b) => headerOffsets[a]! - headerOffsets[b]!);
    this.starts.set(Uint32Array.from(order, (index) => this.starts[index]!));
  }
}

function parseCentral(bytes: Buffer, at: number, offset: number): { entry: CentralEntry; length: number } {
  if (at + centralHeaderSize > bytes.length || bytes.readUInt32LE(at) !== Signature.central)
    throw containerError('a directory entry is malformed', offset);
  const nameLength = bytes.readUInt16LE(at + 28);
  const extraLength = bytes.readUInt16LE(at + 30);
  const length = centralHeaderSize + nameLength + extraLength + bytes.readUInt16LE(at + 32);
  if (at + length > bytes.length) throw containerError('a directory entry reaches beyond the directory', offset);
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
    nameStart,
    nameLength,
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
    throw containerError(
      `record '${entry.name}' has flags ${hex(entry.flags)}: encrypted and patched records are refused`,
      offset,
    );
  }
  if (entry.method !== methodStored && entry.method !== methodDeflated)
    throw containerError(`record '${entry.name}' has compression method ${entry.method}`, offset);
  if (entry.method === methodStored && entry.size !== entry.compressedSize)
    throw containerError(`record '${entry.name}' states two sizes`, offset);
  if (entry.method === methodDeflated && entry.size > entry.compressedSize * largestRatio) {
    throw containerError(
      `record '${entry.name}' claims to inflate from ${entry.compressedSize} to ${entry.size} bytes, which cannot be`,
      offset,
    );
  }
  if (disk !== 0) throw containerError('the zip is one part of several', offset);
}

/** Fields whose 32 bits are all set have their value in the Zip64 extra field, in this order. */
export function zip64Values<T extends Record<string, number>>(extra: Buffer, fields: T, offset: number): T {
  if (!Object.values(fields).includes(uint32Max)) return fields;
  const wide = Object.entries(fields).filter(([, value]) => value === uint32Max);
  const data = extraField(extra, zip64ExtraId, offset);
  if (data === undefined || data.length < wide.length * 8)
    throw containerError('a directory entry lacks its Zip64 values', offset);
  return {
    ...fields,
    ...Object.fromEntries(wide.map(([name], i) => [name, safe(data.readBigUInt64LE(i * 8), offset)])),
  };
}

function extraField(extra: Buffer, id: number, offset: number): Buffer | undefined {
  let found: Buffer | undefined;
  for (let at = 0; at + 4 <= extra.length;) {
    const end = at + 4 + extra.readUInt16LE(at + 2);
    if (end > extra.length) throw containerError('an extra field reaches beyond its entry', offset);
    if (extra.readUInt16LE(at) === id) {
      if (found !== undefined) throw containerError('an entry has two Zip64 fields', offset);
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
    throw containerError('a record name is not valid text', offset);
  return name;
}

function safe(value: bigint, offset: number): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw containerError(`a 64-bit field of the zip says ${value}`, offset);
  return Number(value);
}

function signatureBytes(signature: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(signature);
  return bytes;
}

export function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
