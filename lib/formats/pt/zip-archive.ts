import { GlobalError } from '../../pickle/globals';
import { MemoryBudget } from '../../pickle/budget';
import { readPickleSteps } from '../../pickle/reader';
import {
  type MakeBuilder,
  noteOfDict,
  maxPickleSize,
  resolveReferences,
  type StoredBytes,
  type TensorArchive,
  type ValueOptions,
} from './archive';
import type { ByteSource } from '../files/byte-source';
import { CheckpointCode, CheckpointError } from '../../errors';
import { checkHoldsTensors } from './sniff';
import type { StorageRef, TensorBuilder } from './tensor-spec';
import { runInSlices } from '../../workers/slices';
import { storageFromId, torchGlobals } from './torch-globals';
import { isStored, ZipReader } from '../zip/reader';

export const pickleRecord = 'data.pkl';

/** The container versions that PyTorch 2.13 reads. */
const oldestVersion = 1;
const newestVersion = 10;

/** The zip that `torch.save` has written since PyTorch 1.6. */
export class PtArchive implements TensorArchive {
  readonly storages = new Map<string, StorageRef>();
  readonly pickleName = pickleRecord;
  readonly notes: string[] = [];
  value: unknown = undefined;

  private constructor(
    readonly source: ByteSource,
    private readonly zip: ZipReader,
    readonly bigEndian: boolean,
  ) {
    if (zip.trailing > 0) this.notes.push(`${zip.trailing} bytes follow the end of the zip, and are ignored`);
  }

  static async open(source: ByteSource, makeBuilder: MakeBuilder, options: ValueOptions = {}): Promise<PtArchive> {
    const budget = MemoryBudget.ofFile(source.size, options.memory);
    return PtArchive.fromZip(await ZipReader.open(source, budget), source, makeBuilder, options);
  }

  /** @param pickle the bytes of its record, where they were read already */
  static async fromZip(
    zip: ZipReader,
    source: ByteSource,
    makeBuilder: MakeBuilder,
    options: ValueOptions,
    pickle?: Buffer,
  ): Promise<PtArchive> {
    checkHoldsTensors(zip);
    await checkVersion(zip);
    const bigEndian = await isBigEndian(zip);
    const archive = new PtArchive(source, zip, bigEndian);
    const bytes = pickle ?? (await readPickleRecord(zip));
    archive.value = await runInSlices(archive.read(bytes, makeBuilder(bigEndian), options));
    return archive;
  }

  bytesOf({ key }: StorageRef): StoredBytes {
    const record = this.zip.records.get(`data/${key}`)!;
    return {
      record: record.name,
      size: record.size,
      offset: isStored(record) ? record.dataOffset : undefined,
      read: () => this.zip.read(record),
      verify: (crc32) => this.zip.verify(record, crc32),
    };
  }

  private *read(pickle: Buffer, builder: TensorBuilder, options: ValueOptions): Generator<void, unknown, void> {
    const { exact, inert } = options;
    const { value, end, dictSubclasses } = yield* readPickleSteps(pickle, {
      globals: torchGlobals(builder, { exact, inert }),
      persistentLoad: (id) => this.storage(id),
      exact,
      inert,
      budget: this.zip.budget,
      record: pickleRecord,
    });
    if (end < pickle.length) {
      const place = { record: pickleRecord, offset: end };
      throw new CheckpointError(
        `${pickle.length - end} bytes follow the end of the pickle`,
        CheckpointCode.pickle,
        place,
      );
    }
    this.notes.push(...dictSubclasses.map(noteOfDict));
    return yield* resolveReferences(value, builder, pickleRecord, options, this.zip.budget);
  }

  /** One StorageRef a key, so that what shares a key shares bytes. */
  private storage(id: unknown): StorageRef {
    const found = storageFromId(id, (key) => this.zip.records.get(`data/${key}`)?.size);
    const known = this.storages.get(found.key);
    if (known === undefined) {
      this.zip.budget.allowStorage();
      this.storages.set(found.key, found);
      return found;
    }
    if (known.dtype !== found.dtype)
      throw new GlobalError(`storage '${found.key}' is claimed as ${known.dtype.name} and as ${found.dtype.name}`);
    return known;
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
