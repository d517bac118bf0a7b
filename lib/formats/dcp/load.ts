import { stat } from 'node:fs/promises';
import path from 'node:path';
import { CheckpointCode, CheckpointError, containerError, withPath } from '../../errors';
import { MemoryBudget } from '../../pickle/budget';
import { GlobalError } from '../../pickle/globals';
import { noGrad } from '../../tensor/autograd';
import { empty } from '../../tensor/creation';
import { copyTensors, isDense } from '../../tensor/off-loop';
import { dispose, keep, tidy } from '../../tensor/scope';
import { Tensor } from '../../tensor/tensor';
import { type ByteSource, withSource } from '../files/byte-source';
import { forEachConcurrent } from '../files/concurrent';
import { NotedTensor, type ValueOptions } from '../pt/archive';
import { TensorPlanner } from '../pt/planned-tensors';
import { readArchive } from '../pt/read-archive';
import { PtArchive } from '../pt/zip-archive';
import { ZipReader } from '../zip/reader';
import { type Chunk, type Entry, type Metadata, readMetadata, type Slice, type TensorEntry } from './metadata';
import { metadataFiles, metadataName } from './place';
import { nested } from './tree';
import type { DeviceName } from '../../tensor/schema-types';

export interface ReadDistributedOptions {
  /** Where the tensors go. Default `cpu`. */
  device?: DeviceName | undefined;
  values?: ValueOptions;
  /** Which entries are read; the others are left out of the dict. Default: all. */
  wants?: (entry: Entry) => boolean;
}

/** Slices that are read at a time, each of which may be as large as a chunk. */
const concurrentSlices = 4;

/** Slices up to this size are read directly: finding out more about them would cost more. */
const smallSlice = 64 * 1024;

/** What a distributed checkpoint holds, with every slice checked to be within its file. */
export async function openDistributed(directory: string, memory?: number): Promise<Metadata> {
  const found: Metadata = { version: null, entries: [] };
  for (const file of metadataFiles(directory)) {
    const read = await withSource(path.join(directory, file), (source) => readMetadata(source, memory));
    found.version ??= read.version;
    for (const entry of read.entries) found.entries.push(within(path.dirname(file), entry));
  }
  const ends = new Map<string, number>();
  for (const { slice } of placedSlices(found.entries))
    ends.set(slice.file, Math.max(ends.get(slice.file) ?? 0, slice.offset + slice.length));
  for (const [name, end] of ends) await checkSize(path.join(directory, name), end);
  return found;
}

/** The entry, with the names of its files as paths from the directory above. */
function within(inner: string, entry: Entry): Entry {
  if (inner === '.') return entry;
  const placed = (slice: Slice): Slice => ({ ...slice, file: path.join(inner, slice.file) });
  if (!('chunks' in entry)) return { ...entry, slice: placed(entry.slice) };
  return { ...entry, chunks: entry.chunks.map((chunk) => ({ ...chunk, slice: placed(chunk.slice) })) };
}

async function checkSize(file: string, end: number): Promise<void> {
  const info = await stat(file).catch((error: Error) => {
    const message = `${file} is missing, which ${metadataName} names: the checkpoint is not complete`;
    throw new CheckpointError(message, CheckpointCode.open, { cause: error });
  });
  if (!info.isFile()) throw new CheckpointError(`${file}: expected a regular file`, CheckpointCode.open);
  if (info.size >= end) return;
  const message = `${file} has ${info.size} bytes where ${metadataName} names ${end}: it was cut short`;
  throw new CheckpointError(message, CheckpointCode.truncated);
}

/**
 * Reads a distributed checkpoint: every tensor is put together from its chunks, which are read one after the other in the order
 * of the files, so that no more than a few chunks are in memory next to the tensors.
 *
 * @throws CheckpointError
 */
export async function loadDistributed(
  directory: string,
  options: ReadDistributedOptions = {},
): Promise<Map<string, unknown>> {
  return readEntries(directory, await openDistributed(directory, options.values?.memory), options);
}

/** Reads what `openDistributed` found. */
export async function readEntries(
  directory: string,
  { entries: all }: Metadata,
  { device = 'cpu', values = {}, wants = () => true }: ReadDistributedOptions = {},
): Promise<Map<string, unknown>> {
  const entries = all.filter(wants);
  const found = new Map<Entry, unknown>();
  const assembling = new Assembler(found, device);
  const size = entries.reduce((sum, entry) => ('chunks' in entry ? sum : sum + entry.slice.length), 0);
  const reading: ValueOptions = { ...values, budget: MemoryBudget.ofFile(size, values.memory) };
  try {
    for (const [name, placed] of byFile(entries)) {
      await withSource(path.join(directory, name), (source) =>
        forEachConcurrent(placed, concurrentSlices, ({ entry, slice, chunk }) =>
          naming(entry, async () => {
            if (chunk === undefined) found.set(entry, await readValue(source, slice, device, reading));
            else await assembling.add(entry as TensorEntry, chunk, source);
          }),
        ),
      );
    }
    return withPath(directory, () => tree(entries, found));
  } catch (error) {
    assembling.dispose();
    dispose([...found.values()]);
    throw error;
  }
}

function tree(entries: readonly Entry[], found: ReadonlyMap<Entry, unknown>): Map<string, unknown> {
  try {
    return nested(entries.map((entry) => [entry.path, found.get(entry)] as const));
  } catch (error) {
    if (error instanceof GlobalError) throw containerError(`planner_data: ${error.message}`, { cause: error });
    throw error;
  }
}

interface PlacedSlice {
  entry: Entry;
  slice: Slice;
  /** Of a tensor. */
  chunk: Chunk | undefined;
}

function placedSlices(entries: readonly Entry[]): PlacedSlice[] {
  return entries.flatMap((entry): PlacedSlice[] =>
    'chunks' in entry
      ? entry.chunks.map((chunk) => ({ entry, slice: chunk.slice, chunk }))
      : [{ entry, slice: entry.slice, chunk: undefined }],
  );
}

/** The slices of each file in its order. */
function byFile(entries: readonly Entry[]): Map<string, PlacedSlice[]> {
  const files = new Map<string, PlacedSlice[]>();
  for (const placed of placedSlices(entries)) {
    const { file } = placed.slice;
    const list = files.get(file);
    if (list === undefined) files.set(file, [placed]);
    else list.push(placed);
  }
  for (const list of files.values()) list.sort((a, b) => a.slice.offset - b.slice.offset);
  return files;
}

/** The part of a file that a slice is, as a file. */
export async function sliceOf(source: ByteSource, { offset, length }: Slice): Promise<ByteSource> {
  const part = source.section(offset, length);
  if (length <= smallSlice) await part.prefetch([[0, length]]);
  return part;
}

async function openSlice(source: ByteSource, slice: Slice, options: ValueOptions): Promise<PtArchive> {
  const part = await sliceOf(source, slice);
  const budget = options.budget ?? MemoryBudget.ofFile(slice.length, undefined);
  return PtArchive.fromZip(
    await ZipReader.open(part, budget),
    part,
    (bigEndian) => new TensorPlanner(bigEndian),
    options,
  );
}

async function readValue(source: ByteSource, slice: Slice, device: DeviceName, values: ValueOptions): Promise<unknown> {
  return readArchive(await openSlice(source, slice, values), { device });
}

/** Puts tensors together from their chunks. */
class Assembler {
  private readonly parts = new Map<TensorEntry, { target: Tensor; missing: number }>();

  constructor(
    private readonly finished: Map<Entry, unknown>,
    private readonly device: DeviceName,
  ) {}

  async add(entry: TensorEntry, chunk: Chunk, source: ByteSource): Promise<void> {
    if (entry.chunks.length === 1) {
      this.finished.set(entry, await readChunk(source, entry, chunk, this.device));
      return;
    }
    let part = this.parts.get(entry);
    if (part === undefined) {
      part = { target: keep(empty([...entry.shape], { dtype: entry.dtype.name })), missing: entry.chunks.length };
      this.parts.set(entry, part);
    }
    const { target } = part;
    const read = await readChunk(source, entry, chunk, 'cpu');
    const place = keep(tidy(() => placeOf(target, chunk)));
    try {
      await copyTensors([[place, read]]);
    } finally {
      dispose([place, read]);
    }
    if (--part.missing > 0) return;
    this.parts.delete(entry);
    this.finished.set(entry, target);
    if (this.device === 'cpu') return;
    this.finished.set(entry, keep(target.to(this.device)));
    target.dispose();
  }

  dispose(): void {
    for (const { target } of this.parts.values()) target.dispose();
  }
}

/** The part of a tensor that a chunk is for. */
function placeOf(target: Tensor, { offsets, sizes }: Chunk): Tensor {
  return noGrad(() => offsets.reduce((view, offset, dim) => view.narrow(dim, offset, sizes[dim]!), target.detach()));
}

/** Checks what a slice holds before its bytes are read. */
async function readChunk(source: ByteSource, entry: TensorEntry, chunk: Chunk, device: DeviceName): Promise<Tensor> {
  const archive = await openSlice(source, chunk.slice, {});
  const { value } = archive;
  const isRight =
    value instanceof NotedTensor && value.dtype === entry.dtype && value.shape.join() === chunk.sizes.join();
  if (!isRight) throw wrongChunk(entry, chunk, value);
  const tensor = await readArchive(archive, { device });
  if (tensor instanceof Tensor && isDense(tensor)) return tensor;
  dispose(tensor);
  throw wrongChunk(entry, chunk, value);
}

function wrongChunk({ dtype }: TensorEntry, { sizes }: Chunk, value: unknown): CheckpointError {
  const got = value instanceof NotedTensor ? `one of ${value.dtype.name} [${value.shape.join(', ')}]` : 'another value';
  return containerError(`expected a dense tensor of ${dtype.name} [${sizes.join(', ')}], got ${got}`);
}

/** Names the entry in what is wrong with its bytes. */
async function naming<T>({ key }: Entry, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    const message = `${JSON.stringify(key.slice(0, 200))}: ${error.message}`;
    throw new CheckpointError(message, error.code as CheckpointCode, { cause: error });
  }
}
