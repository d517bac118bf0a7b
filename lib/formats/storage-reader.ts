import type { Handle } from '../native/binding';
import { native } from '../native/native';
import { dtypeCode } from '../tensor/dtype';
import { forEachConcurrent } from './concurrent';
import { CheckpointCode, CheckpointError } from './errors';
import type { PtArchive } from './pt-archive';
import type { StorageRef } from './tensor-spec';
import { isStored, type ZipRecord } from './zip-reader';

/**
 * Records up to this size are read together with their neighbours, and copied; larger ones go straight into their
 * tensor.
 */
const smallRecord = 16 * 1024;

/** libuv has four threads. */
const concurrentReads = 4;

/** Item sizes are powers of two up to this: what lies at a multiple of it can be used in place. */
const mappedAlignment = 16;

/** The bytes of storages in memory, as uint8 tensors, until `dispose()`; tensors made over them live on. */
export class LoadedStorages {
  private readonly handles = new Map<string, Handle>();

  set(storage: StorageRef, handle: Handle): void {
    this.handles.set(storage.key, handle);
  }

  get(storage: StorageRef): Handle {
    return this.handles.get(storage.key)!;
  }

  dispose(): void {
    for (const handle of this.handles.values()) native().dispose(handle);
    this.handles.clear();
  }
}

/** Reads every storage that the archive's pickle refers to, once, with its checksum verified. */
export async function readStorages(archive: PtArchive, loaded: LoadedStorages): Promise<void> {
  await readEach(archive, [...archive.storages.values()], loaded);
}

/**
 * Maps the file and cuts the storages out of it; nothing is read until it is used, so checksums are not verified.
 * Records that cannot be used in place (compressed, of the other byte order, not aligned) are read.
 */
export async function mapStorages(archive: PtArchive, loaded: LoadedStorages): Promise<void> {
  const file = native().mapFile(archive.source.fd, archive.source.size);
  try {
    const unmappable: StorageRef[] = [];
    for (const storage of archive.storages.values()) {
      const record = archive.recordOf(storage);
      const inPlace = isStored(record) && !needsSwap(archive, storage) && record.dataOffset % mappedAlignment === 0;
      if (inPlace) loaded.set(storage, native().sliceBytes(file, record.dataOffset, record.size));
      else unmappable.push(storage);
    }
    await readEach(archive, unmappable, loaded);
  } finally {
    native().dispose(file);
  }
}

async function readEach(archive: PtArchive, storages: StorageRef[], loaded: LoadedStorages): Promise<void> {
  const direct: StorageRef[] = [];
  const copied: StorageRef[] = [];
  for (const storage of storages) {
    const record = archive.recordOf(storage);
    const plain = isStored(record) && !needsSwap(archive, storage);
    (plain && record.size > smallRecord ? direct : copied).push(storage);
  }
  // In the order of the file, so that one read serves many.
  copied.sort((a, b) => archive.recordOf(a).dataOffset - archive.recordOf(b).dataOffset);
  for (const storage of copied) loaded.set(storage, await copyRecord(archive, storage));
  await forEachConcurrent(direct, concurrentReads, async (storage) => {
    loaded.set(storage, await readRecord(archive, archive.recordOf(storage)));
  });
}

async function copyRecord(archive: PtArchive, storage: StorageRef): Promise<Handle> {
  const bytes = await archive.zip.read(archive.recordOf(storage));
  const ordered = needsSwap(archive, storage) ? swapped(bytes, storage.dtype.swapSize) : bytes;
  return native().fromTypedArray(ordered, [ordered.length], dtypeCode.uint8);
}

async function readRecord(archive: PtArchive, record: ZipRecord): Promise<Handle> {
  let handle: Handle;
  let crc32: number;
  try {
    ({ handle, crc32 } = await native().readBytes(archive.source.fd, record.dataOffset, record.size));
  } catch (error) {
    throw new CheckpointError(
      `cannot read ${record.size} bytes: ${(error as Error).message}`,
      CheckpointCode.truncated,
      {
        record: record.name,
        offset: record.dataOffset,
        cause: error,
      },
    );
  }
  try {
    archive.zip.verify(record, crc32);
    return handle;
  } catch (error) {
    native().dispose(handle);
    throw error;
  }
}

function needsSwap(archive: PtArchive, storage: StorageRef): boolean {
  return archive.bigEndian && storage.dtype.swapSize > 1;
}

function swapped(bytes: Buffer, unit: number): Buffer {
  const copy = Buffer.from(bytes);
  if (unit === 2) return copy.swap16();
  return unit === 4 ? copy.swap32() : copy.swap64();
}
