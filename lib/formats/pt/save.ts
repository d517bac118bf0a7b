import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { checkFlags, checkOptions, checkWatchers, type PathLike, toPath } from '../../errors';
import { native } from '../../native/native';
import { dtypeCode } from '../../tensor/dtype';
import { writePickle } from '../../pickle/writer';
import { writeFileAtomically } from '../files/atomic-file';
import { forEachConcurrent } from '../files/concurrent';
import { combineCrc32 } from '../files/crc32';
import { type SavedStorage, SavedStorages } from './saved-storages';
import { alignment, ZipWriter } from '../zip/writer';

/** Progress of `save`, in bytes. */
export interface SaveProgress {
  /** Bytes of tensors written so far. */
  bytes: number;
  totalBytes: number;
}

/** Options of `save`. */
export interface SaveOptions {
  /** Called after each part is written. */
  onProgress?: (progress: SaveProgress) => void;
  /** Cancels the save; the old file stays. */
  signal?: AbortSignal;
  /**
   * Sync the file to disk, so that a power failure leaves the old file or the new one. `false` is faster, like Python's
   * writers, which do not sync; a crash of the program is harmless either way. Default true.
   */
  durable?: boolean;
}

/** Storages up to this size go into the file together with the headers around them. */
const smallStorage = 64 * 1024;

/** Larger ones are written in parts, several at a time. */
const partSize = 16 * 1024 * 1024;
const concurrentWrites = 4;

/**
 * Saves a value so that `torch.load(path)` reads it with `weights_only=True` (PyTorch's `torch.save`). The save is
 * atomic.
 *
 * Accepts all values that `load` returns, and plain objects as dicts. A plain number is written as int if it is a safe
 * integer, else as float; `new Float(1)` is written as 1.0. Tensors that share memory share it in the file, and only
 * bytes in use are written. Tensors on other devices are written as CPU tensors.
 *
 * The file gets the values that the tensors have at the call: the program may change or dispose them during the save.
 * Their memory is copy-on-write; memory of mapped files, of other devices, and of tensors shared with a typed array or
 * another thread is copied at the call.
 *
 * @throws TorchBindError ERR_TORCHBIND_UNSUPPORTED_VALUE for a value that a checkpoint cannot hold, with the path to
 *   it; ERR_TORCHBIND_SAVE if the file cannot be written; the signal's reason if it was aborted
 */
export async function save(value: unknown, target: PathLike, options: SaveOptions = {}): Promise<void> {
  const file = toPath(target, 'save');
  checkOptions(options, ['onProgress', 'signal', 'durable'], 'save');
  checkFlags({ durable: options.durable }, 'save');
  checkWatchers(options, 'save');
  options.signal?.throwIfAborted();
  const storages = new SavedStorages();
  try {
    writePickle(value, { reduce: (object) => storages.collect(object) });
    const pickle = writePickle(value, { reduce: (object) => storages.reduce(object) });
    storages.freeze();
    const write = async (handle: FileHandle): Promise<void> => {
      await new PtWriter(handle, file, options).write(pickle, storages.all);
    };
    await writeFileAtomically(file, write, options.durable !== false);
  } finally {
    storages.dispose();
  }
}

/** Writes one checkpoint into a file, at `base`. */
export class PtWriter {
  private readonly zip: ZipWriter;
  private readonly base: number;
  private written = 0;
  private total = 0;

  constructor(
    private readonly file: FileHandle,
    target: string,
    private readonly options: SaveOptions,
    base = 0,
  ) {
    this.base = base;
    this.zip = new ZipWriter({ write: (position, bytes) => this.writeBytes(position, bytes) }, rootName(target));
  }

  /** Writes the records of a checkpoint, in PyTorch's order. Returns its length in bytes. */
  async write(pickle: Uint8Array, storages: SavedStorage[]): Promise<number> {
    this.total = storages.reduce((sum, storage) => sum + storage.size, 0);
    await this.zip.add('data.pkl', pickle);
    await this.zip.add('.format_version', Buffer.from('1'));
    await this.zip.add('.storage_alignment', Buffer.from(String(alignment)));
    await this.zip.add('byteorder', Buffer.from('little'));
    for (const storage of storages) {
      if (storage.size <= smallStorage) await this.addSmall(storage);
      else
        await this.zip.addExternal(`data/${storage.key}`, storage.size, (position) =>
          this.writeParts(storage, position),
        );
    }
    await this.zip.add('version', Buffer.from('3\n'));
    return this.zip.close();
  }

  private async addSmall(storage: SavedStorage): Promise<void> {
    const { handle, start } = storage.source;
    const span = native().viewStorage(handle, dtypeCode.uint8, start, [storage.size], [1]);
    const bytes = new Uint8Array(native().toArrayBuffer(span));
    native().dispose(span);
    await this.zip.add(`data/${storage.key}`, bytes);
    this.advance(storage.size);
  }

  /** Writes a storage straight from its memory, and gives back the CRC-32 of all of it. */
  private async writeParts(storage: SavedStorage, position: number): Promise<number> {
    const { handle, start: first } = storage.source;
    const starts = Array.from({ length: Math.ceil(storage.size / partSize) }, (_, i) => i * partSize);
    const length = (start: number): number => Math.min(partSize, storage.size - start);
    const checksums: number[] = [];
    await forEachConcurrent(starts, concurrentWrites, async (start, i) => {
      this.options.signal?.throwIfAborted();
      checksums[i] = await native().writeStorage(
        this.file.fd,
        this.base + position + start,
        handle,
        first + start,
        length(start),
      );
      this.advance(length(start));
    });
    return checksums.reduce((crc, part, i) => combineCrc32(crc, part, length(starts[i]!)));
  }

  private async writeBytes(position: number, bytes: Uint8Array): Promise<void> {
    this.options.signal?.throwIfAborted();
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await this.file.write(bytes, done, bytes.length - done, this.base + position + done);
      done += bytesWritten;
    }
  }

  private advance(bytes: number): void {
    this.written += bytes;
    this.options.onProgress?.({ bytes: this.written, totalBytes: this.total });
  }
}

/**
 * The folder of the records: the file's name without its extension. As in PyTorch, other than ASCII names become
 * `archive`.
 */
function rootName(target: string): string {
  const base = path.basename(target);
  const dot = base.lastIndexOf('.');
  const stem = dot === -1 ? base : base.slice(0, dot);
  // eslint-disable-next-line no-control-regex
  return stem === '' || !/^[\x00-\x7f]*$/.test(stem) ? 'archive' : stem;
}
