import { crc32 } from 'node:zlib';
import type { Handle } from '../../native/binding';
import { native } from '../../native/native';
import { dtypeCode } from '../../tensor/dtype';
import type { StoredBytes, TensorArchive } from './archive';
import { forEachConcurrent } from '../files/concurrent';
import { combineCrc32 } from '../files/crc32';
import { CheckpointCode, CheckpointError } from '../../errors';
import type { StorageRef } from './tensor-spec';
import { turnTimer } from '../../workers/slices';

/**
 * Records up to this size are read together with their neighbours, and copied; larger ones go straight into their
 * tensor.
 */
const smallRecord = 16 * 1024;

/** Size of one read for them. */
const readTogether = 128 * 1024;

/** Larger ones are read in parts of this size, so that a single storage too is read by several threads. */
const partSize = 8 * 1024 * 1024;

/** libuv has four threads. */
const concurrentReads = 4;

/** Item sizes are powers of two up to this: what is at a multiple of it can be used in place. */
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
export async function readStorages(archive: TensorArchive, loaded: LoadedStorages): Promise<void> {
  await readEach(archive, [...archive.storages.values()], loaded);
}

/**
 * Maps the file and cuts the storages out of it; nothing is read until it is used, so checksums are not verified.
 * Storages that cannot be used in place (compressed, of the other byte order, not aligned) are read.
 */
export async function mapStorages(archive: TensorArchive, loaded: LoadedStorages): Promise<void> {
  const { source } = archive;
  const file = native().mapFile(source.fd, source.base + source.size);
  try {
    const unmappable: StorageRef[] = [];
    const turn = turnTimer();
    for (const storage of archive.storages.values()) {
      const turned = turn();
      if (turned) await turned;
      const { offset, size } = archive.bytesOf(storage);
      const position = offset === undefined ? undefined : source.base + offset;
      const inPlace = position !== undefined && !needsSwap(archive, storage) && position % mappedAlignment === 0;
      if (inPlace) loaded.set(storage, native().sliceBytes(file, position, size));
      else unmappable.push(storage);
    }
    await readEach(archive, unmappable, loaded);
  } finally {
    native().dispose(file);
  }
}

async function readEach(archive: TensorArchive, storages: StorageRef[], loaded: LoadedStorages): Promise<void> {
  const direct: DirectRead[] = [];
  const small: SmallRead[] = [];
  const turn = turnTimer();
  for (const storage of storages) {
    const turned = turn();
    if (turned) await turned;
    const bytes = archive.bytesOf(storage);
    if (bytes.offset === undefined || needsSwap(archive, storage)) {
      loaded.set(storage, copyOf(archive, storage, await bytes.read()));
    } else if (bytes.size <= smallRecord) small.push({ storage, offset: bytes.offset });
    else {
      const read = new DirectRead(archive.source.fd, bytes, archive.source.base + bytes.offset);
      loaded.set(storage, read.target);
      direct.push(read);
    }
  }
  await readSmall(archive, small, loaded);
  await forEachConcurrent(
    direct.flatMap((read) => read.parts),
    concurrentReads,
    (part) => part(),
  );
  for (const read of direct) read.verify();
}

interface SmallRead {
  storage: StorageRef;
  offset: number;
}

/** Reads storages in the order of the file, so that one read serves many. */
async function readSmall(archive: TensorArchive, reads: SmallRead[], loaded: LoadedStorages): Promise<void> {
  const { source } = archive;
  reads.sort((a, b) => a.offset - b.offset);
  const buffer = Buffer.allocUnsafeSlow(Math.min(readTogether, source.size));
  const turn = turnTimer();
  let [start, end] = [0, 0];
  for (const { storage, offset } of reads) {
    const turned = turn();
    if (turned) await turned;
    const bytes = archive.bytesOf(storage);
    if (offset < start || offset + bytes.size > end) {
      start = offset;
      end = Math.min(offset + buffer.length, source.size);
      await source.readInto(buffer.subarray(0, end - start), start);
    }
    const content = buffer.subarray(offset - start, offset - start + bytes.size);
    bytes.verify(crc32(content));
    loaded.set(storage, copyOf(archive, storage, content));
  }
}

function copyOf(archive: TensorArchive, storage: StorageRef, content: Buffer): Handle {
  const ordered = needsSwap(archive, storage) ? swapped(content, storage.dtype.swapSize) : content;
  return native().fromTypedArray(ordered, [ordered.length], dtypeCode.uint8);
}

/** A storage that is read straight into its memory, in parts that several threads may read at a time. */
class DirectRead {
  readonly target: Handle;
  /** What is to be done, in any order. */
  readonly parts: (() => Promise<void>)[];
  private readonly checksums: number[] = [];

  constructor(
    private readonly fd: number,
    readonly bytes: StoredBytes,
    private readonly offset: number,
  ) {
    this.target = native().allocateBytes(bytes.size);
    this.parts = Array.from({ length: Math.ceil(bytes.size / partSize) }, (_, i) => () => this.readPart(i));
  }

  /** @throws CheckpointError where all that was read is not what the file's checksum says */
  verify(): void {
    this.bytes.verify(this.checksums.reduce((crc, part, i) => combineCrc32(crc, part, this.lengthOf(i))));
  }

  private async readPart(index: number): Promise<void> {
    const start = index * partSize;
    const [position, length] = [this.offset + start, this.lengthOf(index)];
    try {
      this.checksums[index] = await native().readInto(this.fd, position, this.target, start, length);
    } catch (error) {
      throw new CheckpointError(`cannot read ${length} bytes: ${(error as Error).message}`, CheckpointCode.truncated, {
        record: this.bytes.record,
        offset: position,
        cause: error,
      });
    }
  }

  private lengthOf(index: number): number {
    return Math.min(partSize, this.bytes.size - index * partSize);
  }
}

function needsSwap(archive: TensorArchive, storage: StorageRef): boolean {
  return archive.bigEndian && storage.dtype.swapSize > 1;
}

function swapped(bytes: Buffer, unit: number): Buffer {
  const copy = Buffer.from(bytes);
  if (unit === 2) return copy.swap16();
  return unit === 4 ? copy.swap32() : copy.swap64();
}
