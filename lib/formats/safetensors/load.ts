import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkOptions, CheckpointCode, CheckpointError, checkWatchers, type PathLike, toPath } from '../../errors';
import type { Handle } from '../../native/binding';
import { native } from '../../native/native';
import { dtypeCode } from '../../tensor/dtype';
import { withoutCollections } from '../../tensor/off-loop';
import { type Tensor, wrap } from '../../tensor/tensor';
import { type ByteSource, withSource } from '../files/byte-source';
import { forEachConcurrent } from '../files/concurrent';
import { existing, isShardIndex, loadShards, NamedTensors } from './shards';
import { readHeader, type SafetensorsEntry, type SafetensorsHeader } from './header';
import { type LoadLimits, memoryLimit } from '../../pickle/budget';
import { contiguousStrides } from '../pt/tensor-spec';
import type { DeviceName } from '../../tensor/schema-types';

/** Options of `loadSafetensors`. */
export interface LoadSafetensorsOptions {
  /** Device of the tensors: `cpu`, `cuda:0`, ... Default `cpu`. */
  device?: DeviceName;
  /**
   * Memory-map the file instead of reading it: opening is immediate, and bytes are read when used. Writes to such a
   * tensor do not change the file. Do not change the file while its tensors are alive. Default false.
   */
  mmap?: boolean;
  /**
   * Restore names that `saveSafetensors(..., { tied: 'drop' })` or Python's `save_model` left out and recorded in the
   * metadata. Default false: only the tensors of the file, as Python's `load_file`.
   */
  tied?: boolean;
  /**
   * `memory`: estimated bytes that the contents may take besides the size of the file. More is refused
   * (ERR_TORCHBIND_CHECKPOINT_LIMIT). Default 48 MB, enough for some 30,000 tensors.
   */
  limits?: LoadLimits;
  /** Cancels the load. */
  signal?: AbortSignal;
}

export const loadSafetensorsOptions = ['device', 'mmap', 'tied', 'limits', 'signal'] as const;

/**
 * Reads a safetensors file (Python's `safetensors.torch.load_file`), or all shards of an index file
 * (`model.safetensors.index.json`).
 *
 * @returns the tensors by name, each with its own memory, and the file's metadata
 * @throws CheckpointError with a stable `code`, the byte `offset` and the tensor's name as `record`, if the file is
 *   invalid; the signal's reason if it was aborted
 */
export async function loadSafetensors(target: PathLike, options: LoadSafetensorsOptions = {}): Promise<NamedTensors> {
  const path = toPath(target, 'loadSafetensors');
  checkOptions(options, loadSafetensorsOptions, 'loadSafetensors');
  checkWatchers(options, 'loadSafetensors');
  options.signal?.throwIfAborted();
  const tensors = await withSource(existing(path), async (source) =>
    (await isShardIndex(source))
      ? loadShards(source, (file) => withSource(file, (shard) => readSafetensors(shard, options)))
      : readSafetensors(source, options),
  );
  if (options.tied === true) restoreTied(tensors);
  return tensors;
}

/** The tensors of one file that is open. */
export async function readSafetensors(
  source: ByteSource,
  { device = 'cpu', mmap = false, limits, signal }: LoadSafetensorsOptions = {},
): Promise<NamedTensors> {
  const header = await readHeader(source, { memory: memoryLimit(limits) });
  for (const { name, dtype, offset } of header.entries) {
    if (dtype.torch === null) {
      const message = `tensor ${JSON.stringify(name)} is ${dtype.name}, which PyTorch has no dtype for`;
      throw new CheckpointError(message, CheckpointCode.unsupported, { record: name, offset });
    }
  }
  await nextTurn(); // the first header of a process takes 10 ms, in code that has just been compiled
  return readPlaced(source, header, { device, mmap, signal });
}

/** The tensors at places in a file. */
export async function readPlaced(
  source: ByteSource,
  header: SafetensorsHeader,
  { device = 'cpu', mmap = false, signal }: Pick<LoadSafetensorsOptions, 'device' | 'mmap' | 'signal'>,
): Promise<NamedTensors> {
  const handles = new Map<SafetensorsEntry, Handle>();
  try {
    await (mmap ? mapEntries(source, header, handles) : readEntries(source, header, header.entries, handles, signal));
    return withoutCollections(() => toTensors(header, handles, device));
  } finally {
    for (const handle of handles.values()) native().dispose(handle);
  }
}

/** Takes what it wraps out of `handles`. */
function toTensors(
  { entries, metadata }: SafetensorsHeader,
  handles: Map<SafetensorsEntry, Handle>,
  device: DeviceName,
): NamedTensors {
  const tensors = new NamedTensors();
  try {
    for (const entry of entries) {
      const tensor = wrap(handles.get(entry)!);
      handles.delete(entry);
      tensors.set(entry.name, tensor);
      if (device === 'cpu') continue;
      const moved = tensor.to(device);
      if (moved !== tensor) tensor.dispose();
      tensors.set(entry.name, moved);
    }
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  }
  for (const [key, value] of metadata) tensors.metadata.set(key, value);
  return tensors;
}

/** Entries up to this size are read together with their neighbours, and copied. */
const smallEntry = 64 * 1024;
const readTogether = 4 * 1024 * 1024;

/** libuv has four threads. */
const concurrentReads = 4;

/** Reads larger entries straight into their tensors, and runs of small ones in one read. */
async function readEntries(
  source: ByteSource,
  header: SafetensorsHeader,
  entries: readonly SafetensorsEntry[],
  handles: Map<SafetensorsEntry, Handle>,
  signal?: AbortSignal,
): Promise<void> {
  const isSmall = ({ begin, end }: SafetensorsEntry): boolean => end - begin <= smallEntry;
  for (const run of runsOf(entries.filter(isSmall))) {
    signal?.throwIfAborted();
    const { begin } = run[0]!;
    const bytes = await source.read(header.dataOffset + begin, run.at(-1)!.end - begin);
    for (const entry of run) {
      const data = bytes.subarray(entry.begin - begin, entry.end - begin);
      handles.set(entry, native().fromTypedArray(data, torchShape(entry), codeOf(entry)));
    }
  }
  const large = entries.filter((entry) => !isSmall(entry));
  await forEachConcurrent(large, concurrentReads, async (entry) => {
    signal?.throwIfAborted();
    const bytes = await readBytes(source, header.dataOffset + entry.begin, entry);
    handles.set(entry, viewBytes(bytes, entry));
  });
}

/** Small entries that follow one another in the file. */
function runsOf(entries: SafetensorsEntry[]): SafetensorsEntry[][] {
  const runs: SafetensorsEntry[][] = [];
  let run: SafetensorsEntry[] = [];
  for (const entry of entries.sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    const joins = run.length > 0 && entry.begin === run.at(-1)!.end && entry.end - run[0]!.begin <= readTogether;
    if (!joins) runs.push((run = []));
    run.push(entry);
  }
  return runs;
}

async function readBytes(
  source: ByteSource,
  position: number,
  { name, begin, end }: SafetensorsEntry,
): Promise<Handle> {
  try {
    return (await native().readBytes(source.fd, source.base + position, end - begin, false)).handle;
  } catch (error) {
    const message = `cannot read ${end - begin} bytes: ${(error as Error).message}`;
    throw new CheckpointError(message, CheckpointCode.truncated, { record: name, offset: position, cause: error });
  }
}

/**
 * Cuts the entries out of the mapped file, each as a storage of its own; nothing is read until it is used. What does not
 * lie at a multiple of its item size, as older writers leave it, is read.
 */
async function mapEntries(
  source: ByteSource,
  header: SafetensorsHeader,
  handles: Map<SafetensorsEntry, Handle>,
): Promise<void> {
  const file = native().mapFile(source.fd, source.base + source.size);
  const unaligned: SafetensorsEntry[] = [];
  try {
    for (const entry of header.entries) {
      const position = source.base + header.dataOffset + entry.begin;
      if (position % (Math.max(entry.dtype.bits, 8) / 8) !== 0) unaligned.push(entry);
      else handles.set(entry, viewBytes(native().sliceBytes(file, position, entry.end - entry.begin), entry));
    }
  } finally {
    native().dispose(file);
  }
  await readEntries(source, header, unaligned, handles);
}

/** The tensor over its bytes, in place of them. */
function viewBytes(bytes: Handle, entry: SafetensorsEntry): Handle {
  try {
    const shape = torchShape(entry);
    return native().viewStorage(bytes, codeOf(entry), 0, shape, contiguousStrides(shape));
  } finally {
    native().dispose(bytes);
  }
}

function codeOf({ dtype }: SafetensorsEntry): number {
  return dtypeCode[dtype.torch!];
}

/** PyTorch counts two 4-bit numbers as one element. */
function torchShape({ shape, dtype }: SafetensorsEntry): number[] {
  return dtype.packed === 1 ? shape : [...shape.slice(0, -1), shape.at(-1)! / dtype.packed];
}

/** Gives the names that were left out as tied, and noted in the metadata, the tensors that they are tied to. */
export function restoreTied(tensors: NamedTensors): void {
  for (const [dropped, kept] of tensors.metadata) {
    const tensor: Tensor | undefined = tensors.get(kept);
    if (tensor !== undefined && !tensors.has(dropped)) tensors.set(dropped, tensor);
  }
}
