import { CheckpointCode, CheckpointError, containerError } from '../../errors';
import { defaultMemory, MemoryBudget } from '../../pickle/budget';
import { type GlobalEntry, GlobalError, type GlobalTable, PickleConstant } from '../../pickle/globals';
import { readPickleSteps } from '../../pickle/reader';
import { DTypeValue, GlobalName, InertObject } from '../../pickle/types';
import { runInSlices } from '../../workers/slices';
import type { ByteSource } from '../files/byte-source';
import { maxPickleSize, TensorChecker } from '../pt/archive';
import { type FileDType, fileDTypes } from '../pt/dtypes';
import { checkShape, maxDimensions, nonNegative, sizes } from '../pt/tensor-spec';
import { torchGlobals } from '../pt/torch-globals';
import { metadataName } from './place';
import { type Box, coversOnce, maxSplitDimensions, splitDimensions } from './tiling';

/** Where bytes are: a zip of torch.save within a part file. */
export interface Slice {
  /** Name of the file in the directory. */
  file: string;
  offset: number;
  length: number;
}

export interface Chunk extends Box {
  slice: Slice;
}

/** Keys of dicts, and indices of lists, that lead to a value. */
export type KeyPath = readonly (string | number)[];

/** A tensor, in parts that cover each of its elements once. */
export interface TensorEntry {
  key: string;
  path: KeyPath;
  dtype: FileDType;
  shape: number[];
  chunks: Chunk[];
}

/** Any other value, as torch.save wrote it. */
export interface ValueEntry {
  key: string;
  path: KeyPath;
  slice: Slice;
}

export type Entry = TensorEntry | ValueEntry;

export interface Metadata {
  /** As the file states it; null in old ones. */
  version: string | null;
  entries: Entry[];
}

/** The module of most classes; those of the first releases lie elsewhere. */
export const metadataModule = 'torch.distributed.checkpoint.metadata';
export const storageModule = 'torch.distributed.checkpoint.filesystem';
const shardModule = 'torch.distributed._shard.sharded_tensor.metadata';

const classes: readonly [module: string, names: string][] = [
  [
    metadataModule,
    'Metadata TensorStorageMetadata BytesStorageMetadata ChunkStorageMetadata MetadataIndex TensorProperties StorageMeta _MEM_FORMAT_ENCODING',
  ],
  [shardModule, 'TensorProperties MEM_FORMAT_ENCODING'],
  [storageModule, '_StorageInfo'],
  ['pathlib', 'PosixPath PurePosixPath WindowsPath PureWindowsPath'],
  ['pathlib._local', 'PosixPath PurePosixPath WindowsPath PureWindowsPath'],
];

/** What the pickle may name: its objects become data, whose classes are not looked for. */
export const metadataGlobals: GlobalTable = new Map<string, GlobalEntry>([
  ...torchGlobals(new TensorChecker(false)),
  ...classes.flatMap(([module, names]) =>
    names
      .split(' ')
      .map((name): [string, GlobalEntry] => [`${module}.${name}`, new PickleConstant(new GlobalName(module, name))]),
  ),
]);

/** What is made of a pickle of many chunks, as a multiple of its size, and the most of that. */
const growth = 15;
const mostGrowth = 512 * 2 ** 20;

/** Nested dicts and lists; a state dict has about four. */
const maxDepth = 256;

/**
 * Reads what a distributed checkpoint holds, as data: names of classes are never looked up. Checks that every slice is one of
 * a file in the directory and shares no byte with another, and that the parts of each tensor cover it once.
 *
 * @param memory as `limits.memory` of `load`
 */
export async function readMetadata(source: ByteSource, memory?: number): Promise<Metadata> {
  if (source.size > maxPickleSize) {
    const message = `the metadata has ${source.size} bytes; at most ${maxPickleSize} are read`;
    throw new CheckpointError(message, CheckpointCode.unsupported, { record: metadataName });
  }
  const bytes = await source.read(0, source.size);
  const budget = new MemoryBudget(memory ?? defaultMemory + Math.min(growth * source.size, mostGrowth));
  const { value, end } = await runInSlices(
    readPickleSteps(bytes, {
      globals: metadataGlobals,
      objectKeys: true,
      persistentLoad: () => {
        throw new GlobalError('nothing to refer to');
      },
      budget,
      record: metadataName,
    }),
  );
  if (end < bytes.length) throw wrong(`${bytes.length - end} bytes follow the end of the pickle`);
  return runInSlices(metadataFrom(value));
}

function* metadataFrom(value: unknown): Generator<void, Metadata, void> {
  try {
    const root = fieldsOf(value, 'Metadata');
    const slices = slicesByKey(root.get('storage_data'));
    const paths = root.get('planner_data') ?? new Map<unknown, unknown>();
    if (!(paths instanceof Map)) throw new GlobalError('planner_data: expected a dict');
    const entries: Entry[] = [];
    for (const [key, described] of dict(root.get('state_dict_metadata'), 'state_dict_metadata')) {
      yield;
      if (typeof key !== 'string') throw new GlobalError('state_dict_metadata: expected str keys');
      entries.push(about(key, () => entryFrom(key, pathFrom(key, paths as Map<unknown, unknown>), described, slices)));
    }
    checkApart(entries);
    const version = root.get('version') ?? null;
    return { version: typeof version === 'string' ? version.slice(0, 40) : null, entries };
  } catch (error) {
    if (!(error instanceof GlobalError)) throw error;
    throw wrong(error.message, error);
  }
}

function entryFrom(key: string, path: KeyPath, described: unknown, slices: SlicesByKey): Entry {
  const found = slices.get(key);
  if (isA(described, 'BytesStorageMetadata')) {
    const slice = found?.get(noOffset);
    if (slice === undefined) throw new GlobalError('storage_data does not say where it is');
    return { key, path, slice };
  }
  const fields = fieldsOf(described, 'TensorStorageMetadata');
  const dtype = dtypeFrom(fields.get('properties'));
  const shape = sizes(fields.get('size'), 'size');
  checkShape(dtype, shape);
  const list = fields.get('chunks');
  if (!Array.isArray(list)) throw new GlobalError('chunks: expected a list');
  const chunks = (list as unknown[]).map((chunk) => chunkFrom(chunk, dtype, shape, found));
  const split = splitDimensions(shape, chunks).length;
  if (split > maxSplitDimensions)
    throw new GlobalError(`it is cut along ${split} dimensions; at most ${maxSplitDimensions} are read`);
  if (!coversOnce(shape, chunks))
    throw new GlobalError(`its ${chunks.length} chunks do not cover a shape of [${shape.join(', ')}] once`);
  return { key, path, dtype, shape, chunks };
}

function dtypeFrom(properties: unknown): FileDType {
  if (!isA(properties, 'TensorProperties')) throw new GlobalError('properties: expected TensorProperties');
  const [dtype] = Array.isArray(properties.state) ? (properties.state as unknown[]) : [];
  const known = dtype instanceof DTypeValue ? fileDTypes.get(dtype.name) : undefined;
  if (known !== undefined) return known;
  throw new GlobalError(dtype instanceof DTypeValue ? `tensors of ${dtype.name} are not read` : 'it has no dtype');
}

function chunkFrom(
  value: unknown,
  dtype: FileDType,
  shape: readonly number[],
  slices: ReadonlyMap<string, Slice> | undefined,
): Chunk {
  const fields = fieldsOf(value, 'ChunkStorageMetadata');
  const [offsets, lengths] = [sizes(fields.get('offsets'), 'offsets'), sizes(fields.get('sizes'), 'sizes')];
  const isInside =
    offsets.length === shape.length &&
    lengths.length === shape.length &&
    shape.every((size, dim) => offsets[dim]! + lengths[dim]! <= size);
  const text = `chunk of [${lengths.join(', ')}] at [${offsets.join(', ')}]`;
  if (!isInside) throw new GlobalError(`a ${text} is not within its shape of [${shape.join(', ')}]`);
  const slice = slices?.get(offsets.join());
  if (slice === undefined) throw new GlobalError(`storage_data does not say where its ${text} is`);
  const nbytes = lengths.reduce((product, size) => product * size, dtype.itemSize);
  if (nbytes <= slice.length) return { offsets, sizes: lengths, slice };
  throw new GlobalError(`its ${text} has ${nbytes} bytes, more than the ${slice.length} in ${slice.file} for it`);
}

/** Key of an entry, then offsets of a chunk as text, or `noOffset` for a value that is not a tensor. */
type SlicesByKey = ReadonlyMap<string, ReadonlyMap<string, Slice>>;

const noOffset = 'none';

function slicesByKey(storage: unknown): SlicesByKey {
  const found = new Map<string, Map<string, Slice>>();
  for (const [index, info] of dict(storage, 'storage_data')) {
    const fields = fieldsOf(index, 'MetadataIndex');
    const [key, offset = null] = [fields.get('fqn'), fields.get('offset')];
    if (typeof key !== 'string') throw new GlobalError('MetadataIndex: expected a str as fqn');
    if (Array.isArray(offset) && offset.length > maxDimensions)
      throw new GlobalError(`MetadataIndex: ${offset.length} dimensions; at most ${maxDimensions} are possible`);
    const place = offset === null ? noOffset : sizes(offset, 'MetadataIndex: offset').join();
    let slices = found.get(key);
    if (slices === undefined) found.set(key, (slices = new Map<string, Slice>()));
    if (slices.has(place)) throw new GlobalError(`storage_data has ${quoted(key)} at [${place}] twice`);
    slices.set(
      place,
      about(key, () => sliceFrom(info)),
    );
  }
  return found;
}

function sliceFrom(info: unknown): Slice {
  const fields = fieldsOf(info, '_StorageInfo');
  const file = fields.get('relative_path');
  // A file in the directory and nothing else: no other directory, drive, device name or stream.
  if (typeof file !== 'string' || file.length > 255 || !/^[^/\\:\0]+$/.test(file) || file === '.' || file === '..')
    throw new GlobalError(`its bytes are in ${quoted(file)}, which is not the plain name of a file`);
  if ((fields.get('transform_descriptors') ?? null) !== null)
    throw new GlobalError('its bytes are transformed (compressed or the like), which is not read');
  const [offset, length] = [nonNegative(fields.get('offset'), 'offset'), nonNegative(fields.get('length'), 'length')];
  return { file, offset, length };
}

/** The keys that lead to an entry; files without planner data have one level. */
function pathFrom(key: string, paths: ReadonlyMap<unknown, unknown>): KeyPath {
  const path = paths.get(key) ?? [key];
  const isPath =
    Array.isArray(path) &&
    path.length > 0 &&
    path.length <= maxDepth &&
    path.every((part) => typeof part === 'string' || (Number.isSafeInteger(part) && (part as number) >= 0));
  if (isPath && typeof path[0] === 'string') return Array.from(path as KeyPath);
  throw new GlobalError('planner_data: expected a tuple of keys and indices');
}

/** Bytes that several entries share would make more of a file than it holds. */
function checkApart(entries: readonly Entry[]): void {
  const slices = entries.flatMap((entry) => slicesOf(entry).map((slice) => ({ slice, key: entry.key })));
  slices.sort(({ slice: a }, { slice: b }) => (a.file === b.file ? a.offset - b.offset : a.file < b.file ? -1 : 1));
  for (let i = 1; i < slices.length; i++) {
    const [before, next] = [slices[i - 1]!, slices[i]!];
    if (before.slice.file !== next.slice.file || next.slice.offset >= before.slice.offset + before.slice.length)
      continue;
    throw new GlobalError(`${quoted(before.key)} and ${quoted(next.key)} share bytes of ${next.slice.file}`);
  }
}

export function slicesOf(entry: Entry): Slice[] {
  return 'chunks' in entry ? entry.chunks.map(({ slice }) => slice) : [entry.slice];
}

function isA(value: unknown, name: string): value is InertObject {
  return value instanceof InertObject && value.name === name;
}

/** The attributes of an object of a class of the metadata. */
function fieldsOf(value: unknown, name: string): ReadonlyMap<unknown, unknown> {
  if (isA(value, name) && value.state instanceof Map) return value.state;
  throw new GlobalError(`expected an object of class ${name}`);
}

function dict(value: unknown, what: string): ReadonlyMap<unknown, unknown> {
  if (value instanceof Map) return value;
  throw new GlobalError(`${what}: expected a dict`);
}

/** Names the entry in what is wrong with it. */
function about<T>(key: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof GlobalError) throw new GlobalError(`${quoted(key)}: ${error.message}`);
    throw error;
  }
}

function quoted(name: unknown): string {
  return JSON.stringify(typeof name === 'string' ? name.slice(0, 200) : null);
}

function wrong(message: string, cause?: unknown): CheckpointError {
  return containerError(message, { record: metadataName, cause });
}
