import { GlobalError, nameOf, PickleGlobal } from '../../pickle/globals';
import { MemoryBudget } from '../../pickle/budget';
import { readPickleSteps } from '../../pickle/reader';
import { GlobalName, Tuple } from '../../pickle/types';
import {
  type MakeBuilder,
  noteOfDict,
  resolveReferences,
  type StoredBytes,
  type TensorArchive,
  type ValueOptions,
} from './archive';
import type { ByteSource } from '../files/byte-source';
import { CheckpointCode, CheckpointError, containerError } from '../../errors';
import { nonNegative, StorageRef, StorageView, type TensorBuilder } from './tensor-spec';
import { readPickleAt, readPlain } from './pickles';
import { runInSlices } from '../../workers/slices';
import { claimedBytes, parseStorageId, torchGlobals } from './torch-globals';

/** What such a file begins with, as a pickled int. */
export const legacyMagic = 0x1950a86a20f9469cfc6cn;
const legacyProtocol = 1001;

const record = 'object';

/** A storage's bytes are in the file as a count of elements, in 64 bits, and the elements. */
const countSize = 8;

/**
 * The one-stream format that `torch.save` wrote before PyTorch 1.6, and writes still on request: five pickles (magic,
 * protocol, facts about the writer, the object, the keys of the storages in their order), then the storages. All of it is
 * little-endian, whatever the machine was. The format has no checksums.
 */
export class LegacyArchive implements TensorArchive {
  readonly storages = new Map<string, StorageRef>();
  readonly bigEndian = false;
  readonly pickleName = record;
  readonly notes: string[] = [];
  value: unknown = undefined;
  private readonly offsets = new Map<string, number>();
  /** Views by their own key, which must say the same each time. */
  private readonly views = new Map<string, StorageView>();

  private constructor(
    readonly source: ByteSource,
    private readonly budget: MemoryBudget,
  ) {}

  static async open(source: ByteSource, makeBuilder: MakeBuilder, options: ValueOptions): Promise<LegacyArchive> {
    const header = await readHeader(source);
    const budget = options.budget ?? MemoryBudget.ofFile(source.size, options.memory);
    const object = await readPickleAt(source, header, source.size, record);
    const archive = new LegacyArchive(source, budget);
    archive.value = await runInSlices(archive.read(object.bytes, makeBuilder(false), options));
    const keys = await readPickleAt(source, object.end, source.size, 'storage keys');
    await archive.locate(readPlain(keys.bytes, 'storage keys', undefined, archive.budget), keys.end);
    return archive;
  }

  bytesOf({ key, nbytes }: StorageRef): StoredBytes {
    const offset = this.offsets.get(key)!;
    return {
      record: key,
      size: nbytes,
      offset,
      read: () => this.source.read(offset, nbytes),
      verify: () => undefined,
    };
  }

  private *read(pickle: Buffer, builder: TensorBuilder, options: ValueOptions): Generator<void, unknown, void> {
    const { exact, inert } = options;
    const globals = torchGlobals(builder, { exact, inert });
    const persistentLoad = (id: unknown): unknown => this.referred(id);
    const settings = { globals, exact, inert, record, budget: this.budget, persistentLoad };
    const { value, dictSubclasses } = yield* readPickleSteps(pickle, settings);
    this.notes.push(...dictSubclasses.map(noteOfDict));
    return yield* resolveReferences(value, builder, record, options, this.budget);
  }

  private referred(id: unknown): unknown {
    return classOfModule(id, 'module') ?? this.storage(id);
  }

  /** ('storage', class, key, location, number of elements, None or (view key, offset, number of elements)) */
  private storage(id: unknown): StorageRef | StorageView {
    const { type, key, numel, rest } = parseStorageId(id, 6);
    const nbytes = claimedBytes(type, numel);
    if (nbytes > BigInt(this.source.size))
      throw new GlobalError(`storage '${key}' claims ${nbytes} bytes in a file of ${this.source.size}`);
    let storage = this.storages.get(key);
    if (storage === undefined) {
      this.budget.allowStorage();
      storage = new StorageRef(key, type.dtype, type.untyped, Number(nbytes));
      this.storages.set(key, storage);
    }
    if (storage.dtype !== type.dtype || BigInt(storage.nbytes) !== nbytes)
      throw new GlobalError(`storage '${key}' is claimed in two ways`);
    return rest[0] === null ? storage : this.view(storage, rest[0]);
  }

  private view(storage: StorageRef, metadata: unknown): StorageView {
    const [key, offset, numel] = metadata instanceof Tuple && metadata.length === 3 ? metadata : [];
    if (typeof key !== 'string') throw new GlobalError('expected (view key, offset, size)');
    const unit = storage.dtype.itemSize;
    const start = nonNegative(offset, 'view offset') * unit;
    const view = new StorageView(storage, start, nonNegative(numel, 'view size') * unit);
    if (view.start + view.nbytes > storage.nbytes)
      throw new GlobalError(`a view of storage '${storage.key}' ends beyond its ${storage.nbytes} bytes`);
    const known = this.views.get(key) ?? view;
    if (known.storage !== storage || known.start !== view.start || known.nbytes !== view.nbytes)
      throw new GlobalError(`the view '${key}' is claimed in two ways`);
    this.views.set(key, known);
    return known;
  }

  /** Finds the bytes of each storage: there must be just those that the object needs, each once, to the file's end. */
  private async locate(keys: unknown, start: number): Promise<void> {
    // A tuple is an array in JavaScript too.
    if (!Array.isArray(keys) || keys.constructor !== Array)
      throw containerError('the keys of the storages are not a list', start);
    let position = start;
    for (const key of keys as unknown[]) {
      const storage = typeof key === 'string' ? this.storages.get(key) : undefined;
      if (storage === undefined)
        throw containerError(`the file has a storage ${JSON.stringify(key)} that nothing needs`, position);
      if (this.offsets.has(storage.key)) throw containerError(`the storage '${storage.key}' occurs twice`, position);
      position = await this.checkCount(storage, position);
    }
    const missing = [...this.storages.keys()].find((key) => !this.offsets.has(key));
    if (missing !== undefined) throw containerError(`the storage '${missing}' is not in the file`, position);
    const trailing = this.source.size - position;
    if (trailing > 0) this.notes.push(`${trailing} bytes follow the last storage, and are ignored`);
  }

  private async checkCount(storage: StorageRef, position: number): Promise<number> {
    const count = (await this.source.read(position, countSize)).readBigInt64LE();
    if (count * BigInt(storage.dtype.itemSize) !== BigInt(storage.nbytes))
      throw containerError(
        `storage '${storage.key}' claims ${storage.nbytes} bytes and has ${count} elements`,
        position,
      );
    const end = position + countSize + storage.nbytes;
    if (end > this.source.size)
      throw new CheckpointError(`storage '${storage.key}' is cut short`, CheckpointCode.truncated, {
        offset: this.source.size,
      });
    this.offsets.set(storage.key, position + countSize);
    return end;
  }
}

/** The class that ('module', class, file, source) of a whole pickled module stands for; undefined for other ids. */
export function classOfModule(id: unknown, ...start: string[]): GlobalName | undefined {
  if (!(id instanceof Tuple) || id.length !== start.length + 3 || start.some((word, i) => id[i] !== word))
    return undefined;
  const type: unknown = id[start.length];
  return type instanceof PickleGlobal ? nameOf(type) : type instanceof GlobalName ? type : undefined;
}

/** The three pickles before the object; gives where they end. */
async function readHeader(source: ByteSource): Promise<number> {
  const next = async (start: number, name: string): Promise<{ value: unknown; end: number }> => {
    const { bytes, end } = await readPickleAt(source, start, source.size, name);
    return { value: readPlain(bytes, name), end };
  };
  const magic = await next(0, 'magic number');
  if (magic.value !== legacyMagic) throw containerError('the magic number is not that of a checkpoint', 0);
  const protocol = await next(magic.end, 'protocol');
  if (protocol.value !== legacyProtocol)
    throw new CheckpointError(
      `the stream's protocol is ${String(protocol.value)}; ${legacyProtocol} is read`,
      CheckpointCode.format,
      { offset: magic.end },
    );
  const system = await next(protocol.end, 'sys_info');
  if (!(system.value instanceof Map)) throw containerError('the facts about the writer are not a dict', protocol.end);
  return system.end;
}
