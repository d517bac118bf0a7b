import type { ByteSource } from '../files/byte-source';
import { Cost, MemoryBudget } from '../../pickle/budget';
import { CheckpointCode, CheckpointError } from '../../errors';
import { JsonReader } from '../files/json-reader';
import { headSize, isSafetensors, kindOf } from '../files/kinds';
import { isZip } from '../zip/format';
import { type SafetensorsDType, safetensorsDTypes } from './dtypes';

/** The format's own limit. */
export const maxHeaderSize = 100_000_000;

/** The length of the header, in 64 bits. */
export const prefixSize = 8;

export const metadataName = '__metadata__';

/** libtorch keeps sizes of up to 64 dimensions in every operator. */
const maxDimensions = 64;

/** A tensor as the header of a file describes it. */
export interface SafetensorsEntry {
  name: string;
  dtype: SafetensorsDType;
  /** As the file has it, in elements of the file's dtype. */
  shape: number[];
  /** Bytes [begin, end) of the data that follows the header. */
  begin: number;
  end: number;
  /** Where in the file the entry is, for messages. */
  offset: number;
}

export interface SafetensorsHeader {
  /** In the order of the header. */
  entries: SafetensorsEntry[];
  metadata: Map<string, string>;
  /** Where in the file the data begins. */
  dataOffset: number;
}

/** An entry, and the tensor that is made of it; its names and its fields are counted where they are read. */
const entryCost = Cost.object + 2 * Cost.array + Cost.dimension + 300;

export interface HeaderOptions {
  /** Takes the error where the header is right but the data does not lie as it says, for who only looks. */
  tolerate?: (error: CheckpointError) => void;
  /** What may be made of memory besides the bytes of the tensors; default `defaultMemory`. */
  memory?: number | undefined;
}

/**
 * Reads and checks the header of a safetensors file: the tensors must fill the data behind it without a gap and without
 * an overlap, so that no byte means two things or nothing.
 *
 * @throws CheckpointError where it does not hold
 */
export async function readHeader(
  source: ByteSource,
  { tolerate, memory }: HeaderOptions = {},
): Promise<SafetensorsHeader> {
  const head = await source.read(0, Math.min(headSize, source.size));
  const kind = isSafetensors(head, source.size) ? undefined : otherKind(head, source.size);
  if (kind !== undefined)
    throw new CheckpointError(`expected a safetensors file, got ${kind}`, CheckpointCode.format, { offset: 0 });
  const length = await headerLength(source);
  const bytes = await source.read(prefixSize, length);
  if (bytes[0] !== 0x7b)
    throw new CheckpointError("a safetensors header begins with '{'", CheckpointCode.format, { offset: prefixSize });
  const dataOffset = prefixSize + length;
  const { entries, metadata } = parseHeader(
    new JsonReader(bytes, prefixSize, new MemoryBudget(memory)),
    source.size - dataOffset,
  );
  try {
    checkLayout(entries, dataOffset, source.size);
  } catch (error) {
    if (tolerate === undefined || !(error instanceof CheckpointError)) throw error;
    tolerate(error);
  }
  return { entries, metadata, dataOffset };
}

/** What a file is that begins as no safetensors file does, and perhaps as one of another kind. */
function otherKind(head: Buffer, size: number): string | undefined {
  if (isZip(head)) return 'a zip; read what torch.save wrote with load()';
  return kindOf(head, size);
}

async function headerLength(source: ByteSource): Promise<number> {
  const length = (await source.read(0, prefixSize)).readBigUInt64LE(0);
  const lengthError = (message: string, code: CheckpointCode): CheckpointError =>
    new CheckpointError(message, code, { offset: 0 });
  if (length > BigInt(maxHeaderSize)) {
    throw lengthError(
      `a safetensors header of ${length} bytes; at most ${maxHeaderSize} are possible: the file is of another kind, or damaged`,
      CheckpointCode.format,
    );
  }
  if (prefixSize + Number(length) > source.size) {
    throw lengthError(
      `a safetensors header of ${length} bytes in a file of ${source.size} bytes: the file is cut short`,
      CheckpointCode.truncated,
    );
  }
  return Number(length);
}

function parseHeader(json: JsonReader, dataSize: number): Pick<SafetensorsHeader, 'entries' | 'metadata'> {
  const entries: SafetensorsEntry[] = [];
  const metadata = new Map<string, string>();
  let total = 0;
  json.object((name, offset) => {
    if (name === metadataName) {
      json.object((key) => {
        json.spend(Cost.entry);
        metadata.set(key, json.string());
      });
      return;
    }
    json.spend(entryCost);
    const entry = parseEntry(json, name, offset);
    entries.push(entry);
    // Tensors that overlap are found before there are millions of them.
    total += entry.end - entry.begin;
    if (total > dataSize && entry.end <= dataSize) throw tensorError(entry, 'its bytes overlap those of other tensors');
  });
  json.end();
  return { entries, metadata };
}

function parseEntry(json: JsonReader, name: string, offset: number): SafetensorsEntry {
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let range: number[] | undefined;
  json.object((field) => {
    if (field === 'dtype') dtype = json.string();
    else if (field === 'shape') shape = integers(json);
    else if (field === 'data_offsets') range = integers(json);
    else throw json.error(`an entry has dtype, shape and data_offsets, and no ${JSON.stringify(field.slice(0, 100))}`);
  });
  const [begin, end] = range ?? [];
  if (dtype === undefined || shape === undefined || begin === undefined || end === undefined || range!.length !== 2)
    throw tensorError({ name, offset }, 'its entry must have dtype, shape and two data_offsets');
  const entry = { name, dtype: knownDType(name, dtype, offset), shape, begin, end, offset };
  checkSize(entry);
  return entry;
}

function integers(json: JsonReader): number[] {
  const values: number[] = [];
  json.array(() => {
    json.spend(Cost.item);
    values.push(json.integer());
  });
  return values;
}

function knownDType(name: string, dtype: string, offset: number): SafetensorsDType {
  const known = safetensorsDTypes.get(dtype);
  if (known === undefined)
    throw tensorError({ name, offset }, `its dtype ${JSON.stringify(dtype.slice(0, 40))} is unknown`);
  return known;
}

/** Arithmetic that cannot wrap: factors are below 2^53, and one product too many ends it. */
function checkSize(entry: SafetensorsEntry): void {
  const { dtype, shape, begin, end } = entry;
  const { bits } = dtype;
  if (shape.length > maxDimensions)
    throw tensorError(entry, `it has ${shape.length} dimensions; at most ${maxDimensions} are possible`);
  const shapeText = `shape [${shape.join(', ')}]`;
  // Zeros count as ones here, as strides do not know them.
  let most = bits;
  for (const size of shape) most *= Math.max(size, 1);
  if (most > Number.MAX_SAFE_INTEGER) throw tensorError(entry, `its ${shapeText} has too many elements`);
  const size = shape.includes(0) ? 0 : most / 8;
  if (end < begin || end - begin !== size)
    throw tensorError(entry, `${shapeText} of ${dtype.name} takes ${size} bytes, data_offsets are [${begin}, ${end}]`);
  const last = shape.at(-1) ?? 1;
  if (last % dtype.packed !== 0)
    throw tensorError(entry, `${dtype.name} needs a last dimension that is a multiple of ${dtype.packed}, not ${last}`);
}

function checkLayout(entries: readonly SafetensorsEntry[], dataOffset: number, fileSize: number): void {
  const sorted = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0;
  for (const entry of sorted) {
    if (entry.begin !== end) {
      const what = entry.begin < end ? 'overlaps the tensor before it' : 'leaves a gap behind the tensor before it';
      throw tensorError(entry, `it begins at ${entry.begin}, which ${what} (end ${end})`);
    }
    end = entry.end;
  }
  if (dataOffset + end === fileSize) return;
  const code = dataOffset + end > fileSize ? CheckpointCode.truncated : CheckpointCode.container;
  const message = `the tensors end at byte ${dataOffset + end} of a file of ${fileSize} bytes`;
  throw new CheckpointError(message, code, { offset: Math.min(fileSize, dataOffset + end) });
}

function tensorError({ name, offset }: Pick<SafetensorsEntry, 'name' | 'offset'>, message: string): CheckpointError {
  return new CheckpointError(`tensor ${JSON.stringify(name.slice(0, 200))}: ${message}`, CheckpointCode.tensor, {
    record: name.slice(0, 200),
    offset,
  });
}
