import { type GlobalEntry, GlobalError, type GlobalTable, PickleGlobal } from '../../pickle/globals';
import { readPickleSteps } from '../../pickle/reader';
import { MemoryBudget } from '../../pickle/budget';
import { Tuple } from '../../pickle/types';
import {
  type MakeBuilder,
  noteOfDict,
  resolveReferences,
  type StoredBytes,
  type TensorArchive,
  TensorChecker,
  type ValueOptions,
} from './archive';
import type { ByteSource } from '../files/byte-source';
import { CheckpointCode, CheckpointError, containerError } from '../../errors';
import { runInSlices } from '../../workers/slices';
import { classOfModule } from './legacy-archive';
import { readPickleAt, readPlain } from './pickles';
import { readTar, type TarMember } from './tar-reader';
import {
  checkGeometry,
  maxDimensions,
  StorageRef,
  StorageView,
  type TensorBuilder,
  type TensorPlace,
} from './tensor-spec';
import { claimedBytes, StorageClass, parseStorageId, torchGlobals } from './torch-globals';

/** How messages call the pickle of the object. */
const record = 'pickle';

/**
 * The tar that PyTorch 0.1 wrote: `storages` and `tensors`, each a count and then descriptions in pickles between raw
 * bytes, and `pickle`, the object, which refers to them by their numbers. Contents have no checksums.
 *
 * Files of other writers lack `tensors`, and have storages as in a zip in place of references: those are read too.
 */
export class TarArchive implements TensorArchive {
  readonly bigEndian = false;
  readonly pickleName = record;
  readonly notes: string[] = [];
  value: unknown = null;
  readonly storages = new Map<string, StorageRef>();
  private readonly offsets = new Map<string, number>();
  private readonly views = new Map<string, StorageView>();
  private readonly tensors = new Map<string, TensorPlace>();

  private constructor(
    readonly source: ByteSource,
    private readonly budget: MemoryBudget,
  ) {}

  static async open(source: ByteSource, makeBuilder: MakeBuilder, options: ValueOptions): Promise<TarArchive> {
    const budget = options.budget ?? MemoryBudget.ofFile(source.size, options.memory);
    const { members, trailing } = await readTar(source, budget);
    const [storages, pickle] = ['storages', 'pickle'].map((name) => {
      const member = members.get(name);
      if (member === undefined)
        throw new CheckpointError(`expected the tar of a checkpoint, got one without '${name}'`, CheckpointCode.format);
      return member;
    }) as [TarMember, TarMember];
    const { bytes, end } = await readPickleAt(source, pickle.offset, pickle.offset + pickle.size, record);
    if (end !== pickle.offset + pickle.size) throw containerError('bytes follow the pickle', end);
    const archive = new TarArchive(source, budget);
    if (trailing > 0) archive.notes.push(`${trailing} bytes follow the end of the tar, and are ignored`);
    await archive.readStorages(storages);
    const tensors = members.get('tensors');
    if (tensors !== undefined) await archive.readTensors(tensors);
    const builder = makeBuilder(false);
    archive.value = await runInSlices(archive.read(bytes, builder, options));
    return archive;
  }

  bytesOf({ key, nbytes }: StorageRef): StoredBytes {
    const offset = this.offsets.get(key)!;
    return {
      record: `storages, ${key}`,
      size: nbytes,
      offset,
      read: () => this.source.read(offset, nbytes),
      verify: () => undefined,
    };
  }

  private *read(pickle: Buffer, builder: TensorBuilder, options: ValueOptions): Generator<void, unknown, void> {
    const { exact, inert } = options;
    const made = new Map<string, unknown>();
    const persistentLoad = (id: unknown): unknown => {
      const type = classOfModule(id);
      if (type !== undefined) return type;
      const key = keyOf(id);
      const place = this.tensors.get(key);
      if (place === undefined) return this.storageOf(key);
      if (!made.has(key)) made.set(key, builder.tensor({ ...place, requiresGrad: false, conj: false, neg: false }));
      return made.get(key);
    };
    const globals = this.withStorageTuples(torchGlobals(builder, { exact, inert }));
    const settings = { globals, persistentLoad, exact, inert, record, budget: this.budget };
    const { value, dictSubclasses } = yield* readPickleSteps(pickle, settings);
    this.notes.push(...dictSubclasses.map(noteOfDict));
    return yield* resolveReferences(value, builder, record, options, this.budget);
  }

  /** Uses ('storage', class, key, location, size) as the storage itself. */
  private withStorageTuples(table: GlobalTable): GlobalTable {
    const name = 'torch._utils._rebuild_tensor_v2';
    const rebuild = table.get(name) as PickleGlobal;
    const call: PickleGlobal['call'] = (args, spend, keys) => {
      const [storage, ...rest] = args;
      return rebuild.call!(storage instanceof Tuple ? Tuple.of(this.fromTuple(storage), ...rest) : args, spend, keys);
    };
    return new Map<string, GlobalEntry>([...table, [name, new PickleGlobal(name, call)]]);
  }

  private fromTuple(id: Tuple): StorageRef | StorageView {
    const { type, key, numel } = parseStorageId(id, 5);
    const storage = this.storageOf(key);
    if (!(storage instanceof StorageRef) || storage.dtype !== type.dtype)
      throw new GlobalError(`storage '${key}' is not of ${type.name}`);
    if (claimedBytes(type, numel) !== BigInt(storage.nbytes))
      throw new GlobalError(`storage '${key}' has ${storage.nbytes} bytes, not ${String(numel)} elements`);
    return storage;
  }

  private storageOf(key: string): StorageRef | StorageView {
    const storage = this.storages.get(key) ?? this.views.get(key);
    if (storage === undefined) throw new GlobalError(`the file has no tensor or storage ${key.slice(0, 100)}`);
    return storage;
  }

  /** A count; for each (key, location, class), elements in 64 bits, the elements; last the views of storages. */
  private async readStorages(member: TarMember): Promise<void> {
    const reader = new MemberReader(this.source, member, 'storages', this.budget);
    const count = await reader.count();
    for (let i = 0; i < count; i++) {
      const at = reader.position;
      const [key, , type] = tupleOf(await reader.pickle(), 3, at);
      if (!(type instanceof StorageClass)) throw containerError('a storage has no class', at);
      const name = String(key);
      const elements = await reader.int64();
      const nbytes = elements * BigInt(type.dtype.itemSize);
      if (elements < 0n || nbytes > BigInt(reader.left))
        throw containerError(`storage '${name}' claims ${nbytes} bytes`, at);
      if (this.storages.has(name)) throw containerError(`two storages are named '${name}'`, at);
      this.budget.allowStorage();
      this.storages.set(name, new StorageRef(name, type.dtype, type.untyped, Number(nbytes)));
      this.offsets.set(name, reader.skip(Number(nbytes)));
    }
    if (reader.left === 0) return;
    const at = reader.position;
    const views = await reader.pickle();
    if (!Array.isArray(views) || reader.left > 0)
      throw containerError('the views of storages are not the last in place', at);
    for (const view of views as unknown[]) this.addView(tupleOf(view, 4, at), at);
  }

  private addView([key, root, offset, numel]: unknown[], at: number): void {
    const name = String(key);
    const storage = this.storages.get(String(root));
    const [start, length] = [offset, numel].map((value) => (typeof value === 'number' && value >= 0 ? value : NaN));
    if (storage === undefined || this.storages.has(name) || this.views.has(name))
      throw containerError(`the view '${name}' is not one of a storage`, at);
    const unit = storage.dtype.itemSize;
    if (!((start! + length!) * unit <= storage.nbytes))
      throw containerError(`the view '${name}' ends beyond its storage`, at);
    this.views.set(name, new StorageView(storage, start! * unit, length! * unit));
  }

  /** A count; for each (key, storage, class), dimensions in 32 bits and 4 bytes of none, sizes, strides, offset. */
  private async readTensors(member: TarMember): Promise<void> {
    const reader = new MemberReader(this.source, member, 'tensors', this.budget);
    const count = await reader.count();
    for (let i = 0; i < count; i++) {
      const at = reader.position;
      const [key, root, type] = tupleOf(await reader.pickle(), 3, at);
      const name = String(key);
      const found = this.storages.get(String(root)) ?? this.views.get(String(root));
      if (found === undefined || this.tensors.has(name)) throw containerError(`tensor '${name}' has no storage`, at);
      const view = found instanceof StorageView ? found : new StorageView(found, 0, found.nbytes);
      if (!(type instanceof TensorClass) || type.storageName !== view.storage.dtype.storageClass)
        throw containerError(`tensor '${name}' is not of the class of its storage`, at);
      this.tensors.set(name, await readPlace(reader, view, at));
    }
    if (reader.left > 0) throw containerError('bytes follow the last tensor', reader.position);
  }
}

async function readPlace(
  reader: MemberReader,
  { storage, start, nbytes }: StorageView,
  at: number,
): Promise<TensorPlace> {
  const dimensions = (await reader.int64()) & 0xffffffffn; // the upper half was never cleared
  if (dimensions > BigInt(maxDimensions)) throw containerError(`a tensor of ${dimensions} dimensions`, at);
  const values: number[] = [];
  for (let i = 0; i < Number(dimensions) * 2 + 1; i++) {
    const value = await reader.int64();
    if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER))
      throw containerError(`a size, stride or offset of ${value}`, at);
    values.push(Number(value));
  }
  const shape = values.slice(0, Number(dimensions));
  const strides = values.slice(Number(dimensions), -1);
  const offset = values.at(-1)!;
  try {
    checkGeometry(storage.dtype, nbytes, offset, shape, strides);
  } catch (error) {
    throw error instanceof GlobalError ? containerError(error.message, at) : error;
  }
  return { storage, dtype: storage.dtype, offset: offset + start / storage.dtype.itemSize, shape, strides };
}

/** `torch.FloatTensor`, as the description of a tensor names it. */
class TensorClass extends PickleGlobal {
  get storageName(): string {
    return `${/(\w+)Tensor$/.exec(this.name)![1]!}Storage`;
  }
}

const classes: GlobalTable = new Map<string, GlobalEntry>(
  [...torchGlobals(new TensorChecker(false))].flatMap(([name, entry]): [string, GlobalEntry][] => {
    if (entry instanceof StorageClass) return [[name, entry]];
    return /^torch\.(cuda\.)?\w+Tensor$/.test(name) ? [[name, new TensorClass(name)]] : [];
  }),
);

/** Reads a member of the tar from front to back. */
class MemberReader {
  position: number;
  private readonly end: number;

  constructor(
    private readonly source: ByteSource,
    { offset, size }: TarMember,
    private readonly name: string,
    private readonly budget: MemoryBudget,
  ) {
    this.position = offset;
    this.end = offset + size;
  }

  get left(): number {
    return this.end - this.position;
  }

  async pickle(): Promise<unknown> {
    const { bytes, end } = await readPickleAt(this.source, this.position, this.end, this.name);
    this.position = end;
    return readPlain(bytes, this.name, classes, this.budget);
  }

  async count(): Promise<number> {
    const value = await this.pickle();
    // Each takes a pickle of two bytes at least.
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= this.left) return value;
    throw containerError('a count is not one', this.position);
  }

  async int64(): Promise<bigint> {
    const at = this.skip(8);
    return (await this.source.read(at, 8)).readBigInt64LE();
  }

  /** Steps over bytes, and gives where they begin. */
  skip(length: number): number {
    if (length > this.left)
      throw new CheckpointError('a record of the tar is cut short', CheckpointCode.truncated, { record: this.name });
    const at = this.position;
    this.position += length;
    return at;
  }
}

function tupleOf(value: unknown, length: number, at: number): unknown[] {
  if (value instanceof Tuple && value.length === length) return value;
  throw containerError(`expected a tuple of ${length}`, at);
}

/** References are the numbers that objects had in the writer's memory, as int or as text. */
function keyOf(id: unknown): string {
  if (typeof id === 'number' || typeof id === 'bigint' || typeof id === 'string') return String(id);
  throw new GlobalError('expected the number of a tensor or storage');
}
