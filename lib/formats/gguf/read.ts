import { CheckpointCode, CheckpointError, containerError } from '../../errors';
import { turnTimer } from '../../workers/slices';
import { type ByteSource, withSource } from '../files/byte-source';
import { align, defaultAlignment, magic, sizeOf, type TensorType, tensorTypes, type ValueType, valueTypes } from './format'; // prettier-ignore

/** A tensor that a file names. */
export interface GgufEntry {
  name: string;
  type: TensorType;
  /** As PyTorch has it: the length that changes fastest is the last. */
  shape: number[];
  /** Where its bytes are in the file. */
  begin: number;
  end: number;
}

export interface GgufHeader {
  version: number;
  /** Numbers, texts and flags; of a list, its length. */
  metadata: Map<string, MetadataItem>;
  entries: GgufEntry[];
}

export type MetadataItem = string | number | bigint | boolean | { list: ValueType; length: number };

/** More than any file has, so that what a header makes of memory is bounded. */
const mostItems = 2 ** 16;
const mostTensors = 2 ** 17;
const longestText = 2 ** 24;
const longestName = 2 ** 16;
const mostDimensions = 4;
/** Bytes of the header that are kept as text. */
const mostText = 2 ** 26;

export function isGguf(head: Buffer): boolean {
  return head.subarray(0, 4).toString('latin1') === magic;
}

/** Whether a file is one, by its content. */
export function isGgufFile(file: string): Promise<boolean> {
  return withSource(file, async (source) => isGguf(await source.read(0, Math.min(4, source.size))));
}

/**
 * Reads and checks the header of a GGUF file. Lists, such as the tokens of a vocabulary, are skipped.
 *
 * @throws CheckpointError if it contradicts itself or the file
 */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  const cursor = new Cursor(source, 4);
  const version = await cursor.u32();
  if (version < 2 || version > 3) {
    const isBig = version > 0xffff;
    const found = isBig ? 'a big-endian file' : `version ${version}`;
    throw new CheckpointError(
      `GGUF: expected a little-endian file of version 2 or 3, got ${found}`,
      CheckpointCode.unsupported,
      { offset: 4 },
    );
  }
  const tensorCount = await cursor.count(mostTensors, 24, 'tensors');
  const itemCount = await cursor.count(mostItems, 13, 'entries of metadata');
  const metadata = new Map<string, MetadataItem>();
  for (let i = 0; i < itemCount; i++) {
    const key = await cursor.text(longestName);
    if (metadata.has(key)) throw containerError(`GGUF: the metadata has ${quoted(key)} twice`, cursor.position);
    metadata.set(key, await cursor.value());
  }
  const names: Omit<GgufEntry, 'end'>[] = [];
  const seen = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const entry = await readEntry(cursor);
    if (seen.has(entry.name))
      throw containerError(`GGUF: it has the tensor ${quoted(entry.name)} twice`, cursor.position);
    seen.add(entry.name);
    names.push(entry);
  }
  const alignment = metadata.get('general.alignment') ?? defaultAlignment;
  if (typeof alignment !== 'number' || alignment < 1 || alignment > 2 ** 20 || (alignment & (alignment - 1)) !== 0)
    throw containerError(`GGUF: general.alignment must be a power of two, got ${JSON.stringify(alignment)}`);
  return { version, metadata, entries: place(names, align(cursor.position, alignment), alignment, source.size) };
}

async function readEntry(cursor: Cursor): Promise<Omit<GgufEntry, 'end'>> {
  const name = await cursor.text(longestName);
  const where = cursor.position;
  const dimensions = await cursor.u32();
  if (dimensions > mostDimensions)
    throw containerError(
      `GGUF: ${quoted(name)} has ${dimensions} dimensions; at most ${mostDimensions} are allowed`,
      where,
    );
  const shape: number[] = [];
  for (let i = 0; i < dimensions; i++) shape.unshift(await cursor.size());
  const id = await cursor.u32();
  const type = tensorTypes.get(id);
  if (type === undefined)
    throw new CheckpointError(
      `GGUF: ${quoted(name)} is of type ${id}, which is not known`,
      CheckpointCode.unsupported,
      {
        offset: where,
      },
    );
  const count = shape.reduce((product, length) => product * length, 1);
  if (!Number.isSafeInteger(count) || (shape.at(-1) ?? 1) % type.block !== 0)
    throw containerError(`GGUF: ${quoted(name)} has shape [${shape.join()}], which ${type.name} cannot have`, where);
  return { name, type, shape, begin: await cursor.size() };
}

/** Tensors must be aligned, within the file, and share no byte. */
function place(
  entries: readonly Omit<GgufEntry, 'end'>[],
  dataOffset: number,
  alignment: number,
  size: number,
): GgufEntry[] {
  const placed = entries.map((entry): GgufEntry => {
    const begin = dataOffset + entry.begin;
    const end = begin + sizeOf(entry.shape, entry.type);
    if (entry.begin % alignment !== 0)
      throw containerError(`GGUF: ${quoted(entry.name)} is not aligned to ${alignment}`, begin);
    if (!Number.isSafeInteger(end) || end > size) {
      const message = `GGUF: ${quoted(entry.name)} ends at byte ${end} of a file of ${size} bytes`;
      throw new CheckpointError(message, CheckpointCode.truncated, { record: entry.name });
    }
    return { ...entry, begin, end };
  });
  const inOrder = placed.filter(({ begin, end }) => end > begin).sort((a, b) => a.begin - b.begin);
  inOrder.forEach((entry, i) => {
    const before = inOrder[i - 1];
    if (before !== undefined && before.end > entry.begin)
      throw containerError(`GGUF: ${quoted(before.name)} and ${quoted(entry.name)} share bytes`, entry.begin);
  });
  return placed;
}

const widths: Readonly<Record<Exclude<ValueType, 'string' | 'array'>, number>> = {
  u8: 1, i8: 1, bool: 1, u16: 2, i16: 2, u32: 4, i32: 4, f32: 4, u64: 8, i64: 8, f64: 8,
}; // prettier-ignore

class Cursor {
  private readonly turn = turnTimer();
  private keptText = 0;

  constructor(
    private readonly source: ByteSource,
    public position: number,
  ) {}

  private async take(length: number): Promise<Buffer> {
    const { source, position } = this;
    this.position += length;
    return source.peek(position, length) ?? source.read(position, length);
  }

  async u32(): Promise<number> {
    return (await this.take(4)).readUInt32LE();
  }

  /** A number of 64 bits that a place or length can be. */
  async size(): Promise<number> {
    const at = this.position;
    const value = (await this.take(8)).readBigUInt64LE();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw containerError(`GGUF: a length or place is ${value}`, at);
    return Number(value);
  }

  /** A count of things that each take some bytes of the file. */
  async count(most: number, bytesOfEach: number, what: string): Promise<number> {
    const at = this.position;
    const value = await this.size();
    if (value > most)
      throw new CheckpointError(`GGUF: ${value} ${what}; at most ${most} are read`, CheckpointCode.limit, {
        offset: at,
      });
    this.checkRoom(value * bytesOfEach, at);
    return value;
  }

  private checkRoom(length: number, at: number): void {
    if (length <= this.source.size - this.position) return;
    const message = `GGUF: ${length} bytes are needed where the file has ${this.source.size - this.position}`;
    throw new CheckpointError(message, CheckpointCode.truncated, { offset: at });
  }

  async text(most: number): Promise<string> {
    const at = this.position;
    const length = await this.size();
    this.keptText += length;
    if (length > most || this.keptText > mostText)
      throw new CheckpointError(`GGUF: a text of ${length} bytes is too long`, CheckpointCode.limit, { offset: at });
    return (await this.take(length)).toString('utf8');
  }

  async value(): Promise<MetadataItem> {
    const type = await this.type();
    if (type === 'string') return this.text(longestText);
    if (type !== 'array') return numberIn(await this.take(widths[type]), type);
    const list = await this.type();
    const at = this.position;
    if (list === 'array')
      throw new CheckpointError('GGUF: the metadata has a list of lists', CheckpointCode.unsupported, { offset: at });
    const length = await this.size();
    this.checkRoom(length * (list === 'string' ? 8 : widths[list]), at);
    if (list !== 'string') this.position += length * widths[list];
    else for (let i = 0; i < length; i++) await this.passText();
    return { list, length };
  }

  private async passText(): Promise<void> {
    const at = this.position;
    const length = await this.size();
    this.checkRoom(length, at);
    this.position += length;
    await this.turn();
  }

  private async type(): Promise<ValueType> {
    const at = this.position;
    const id = await this.u32();
    const type = valueTypes[id];
    if (type === undefined)
      throw containerError(`GGUF: a value of the metadata is of type ${id}, which is not known`, at);
    return type;
  }
}

function numberIn(bytes: Buffer, type: Exclude<ValueType, 'string' | 'array'>): number | bigint | boolean {
  switch (type) {
    case 'u8':
      return bytes.readUInt8();
    case 'i8':
      return bytes.readInt8();
    case 'bool':
      return bytes.readUInt8() !== 0;
    case 'u16':
      return bytes.readUInt16LE();
    case 'i16':
      return bytes.readInt16LE();
    case 'u32':
      return bytes.readUInt32LE();
    case 'i32':
      return bytes.readInt32LE();
    case 'f32':
      return bytes.readFloatLE();
    case 'u64':
      return bytes.readBigUInt64LE();
    case 'i64':
      return bytes.readBigInt64LE();
    case 'f64':
      return bytes.readDoubleLE();
  }
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}
