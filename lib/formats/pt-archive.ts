import { GlobalError, PickleGlobal } from '../pickle/globals';
import { readPickle } from '../pickle/reader';
import { OrderedDict } from '../pickle/types';
import type { ByteSource } from './byte-source';
import { type FileDType, isDifferentiable } from './dtypes';
import { CheckpointCode, CheckpointError } from './errors';
import { requireTensors, requireZip } from './sniff';
import { StorageRef, type TensorSpec } from './tensor-spec';
import { storageFromId, type TensorBuilder, torchGlobals } from './torch-globals';
import { ZipReader, type ZipRecord } from './zip-reader';

const pickleRecord = 'data.pkl';

/** Text of the pickle becomes strings, of which none can be longer than this in JavaScript. */
const maxPickleSize = 2 ** 29 - 1024;

/** The container versions that PyTorch 2.13 reads. */
const oldestVersion = 1;
const newestVersion = 10;

/**
 * A `.pt` file, opened: the pickle is in memory and has been read once to its end, with all that it claims of tensors
 * checked, before anything is made of it. The storages are still in the file.
 */
export class PtArchive {
  /** The storages that the pickle refers to, by key. */
  readonly storages = new Map<string, StorageRef>();

  private constructor(
    readonly source: ByteSource,
    readonly zip: ZipReader,
    private readonly pickle: Buffer,
    readonly bigEndian: boolean,
  ) {
    refuseReferences(this.build(new TensorChecker(bigEndian)));
  }

  static async open(source: ByteSource): Promise<PtArchive> {
    await requireZip(source);
    const zip = await ZipReader.open(source);
    requireTensors(zip, source.path);
    await checkVersion(zip);
    const bigEndian = await isBigEndian(zip);
    return new PtArchive(source, zip, await readPickleRecord(zip), bigEndian);
  }

  recordOf(storage: StorageRef): ZipRecord {
    return this.zip.records.get(`data/${storage.key}`)!;
  }

  /** Runs the pickle, with tensors made by `builder`. */
  build(builder: TensorBuilder, exact = false): unknown {
    const { value, end } = readPickle(this.pickle, {
      globals: torchGlobals(builder),
      persistentLoad: (id) => this.storage(id),
      exact,
      record: pickleRecord,
    });
    if (end === this.pickle.length) return value;
    throw new CheckpointError(`${this.pickle.length - end} bytes follow the end of the pickle`, CheckpointCode.pickle, {
      record: pickleRecord,
      offset: end,
    });
  }

  /** One StorageRef a key, so that what shares a key shares bytes. */
  private storage(id: unknown): StorageRef {
    const found = storageFromId(id, (key) => this.zip.records.get(`data/${key}`)?.size);
    const known = this.storages.get(found.key);
    if (known === undefined) {
      this.storages.set(found.key, found);
      return found;
    }
    if (known.dtype !== found.dtype)
      throw new GlobalError(`storage '${found.key}' is claimed as ${known.dtype.name} and as ${found.dtype.name}`);
    return known;
  }
}

/** Stands for a tensor while the pickle is only being checked. */
class NotedTensor {
  constructor(readonly dtype: FileDType) {}
}

/** Makes nothing, and refuses what could not be made. */
class TensorChecker implements TensorBuilder {
  constructor(private readonly bigEndian: boolean) {}

  tensor({ dtype, storage }: TensorSpec): NotedTensor {
    if (this.bigEndian && dtype.swapSize !== storage.dtype.swapSize) {
      throw new GlobalError(
        `a ${dtype.name} tensor over a ${storage.dtype.name} storage in big-endian order is not supported`,
      );
    }
    return new NotedTensor(dtype);
  }

  parameter(tensor: NotedTensor, requiresGrad: boolean): NotedTensor {
    if (requiresGrad && !isDifferentiable(tensor.dtype.name))
      throw new GlobalError(`a ${tensor.dtype.name} parameter that requires gradients`);
    return tensor;
  }

  isTensor(value: unknown): boolean {
    return value instanceof NotedTensor;
  }
}

/** A bare storage or class is of no use to JavaScript, and its bytes would be lost on the way: refused. */
function refuseReferences(root: unknown): void {
  const seen = new Set<object>();
  const todo: unknown[] = [root];
  while (todo.length > 0) {
    const node = todo.pop();
    if (node === null || typeof node !== 'object' || seen.has(node)) continue;
    seen.add(node);
    if (node instanceof StorageRef || node instanceof PickleGlobal) {
      const what = node instanceof StorageRef ? `the bare storage '${node.key}'` : `the class or function ${node.name}`;
      throw new CheckpointError(
        `the file holds ${what} as a value, which torchbind does not read`,
        CheckpointCode.unsupported,
        { record: pickleRecord },
      );
    }
    if (Array.isArray(node) || node instanceof Set) for (const item of node as Iterable<unknown>) todo.push(item);
    if (node instanceof Map) for (const item of node.values()) todo.push(item);
    if (node instanceof OrderedDict) for (const item of node.attributes.values()) todo.push(item);
  }
}

async function readPickleRecord(zip: ZipReader): Promise<Buffer> {
  const record = zip.records.get(pickleRecord)!;
  if (record.size <= maxPickleSize) return zip.read(record);
  const message = `the pickle has ${record.size} bytes; at most ${maxPickleSize} are read`;
  throw new CheckpointError(message, CheckpointCode.unsupported, { record: pickleRecord });
}

async function checkVersion(zip: ZipReader): Promise<void> {
  const text = await smallText(zip, 'version');
  if (text === undefined) throw new CheckpointError("the record 'version' is missing", CheckpointCode.container);
  const version = /^\d{1,4}\s*$/.test(text) ? Number(text) : NaN;
  if (version >= oldestVersion && version <= newestVersion) return;
  throw new CheckpointError(
    `the container's version is ${JSON.stringify(text.slice(0, 20))}; ${oldestVersion} to ${newestVersion} are read`,
    CheckpointCode.format,
    { record: 'version' },
  );
}

/** Files of PyTorch before 2.1 do not say; all of them that are in use are little-endian. */
async function isBigEndian(zip: ZipReader): Promise<boolean> {
  const text = await smallText(zip, 'byteorder');
  if (text === 'big') return true;
  if (text === undefined || text === 'little') return false;
  throw new CheckpointError(
    `the byte order is ${JSON.stringify(text.slice(0, 20))}, not little or big`,
    CheckpointCode.format,
    { record: 'byteorder' },
  );
}

async function smallText(zip: ZipReader, name: string): Promise<string | undefined> {
  const record = zip.records.get(name);
  if (record === undefined) return undefined;
  if (record.size > 100)
    throw new CheckpointError(`${record.size} bytes where a word is expected`, CheckpointCode.container, {
      record: name,
    });
  return (await zip.read(record)).toString('latin1');
}
