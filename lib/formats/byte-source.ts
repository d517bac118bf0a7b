import { constants } from 'node:buffer';
import { constants as fsConstants, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { CheckpointCode, CheckpointError } from './errors';

/** Reads go to the file in pieces of at least this size, as a container's headers lie close to one another. */
const windowSize = 64 * 1024;

/** The operating system takes no more than 2^31 - 1 bytes in one read. */
const largestRead = 2 ** 30;

/** A file that is open for reading at any place, with the last piece read kept. */
export class ByteSource {
  private windowStart = 0;
  private window: Buffer = Buffer.alloc(0);

  private constructor(
    readonly path: string,
    private readonly file: FileHandle,
    readonly size: number,
  ) {}

  /** @throws CheckpointError where the path is not a regular file with something in it */
  static async open(path: string): Promise<ByteSource> {
    const file = await openFile(path);
    try {
      const stats = await file.stat();
      checkRegularFile(path, stats);
      return new ByteSource(path, file, stats.size);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get fd(): number {
    return this.file.fd;
  }

  close(): Promise<void> {
    return this.file.close();
  }

  /** The bytes [offset, offset + length). Do not write into them. */
  async read(offset: number, length: number): Promise<Buffer> {
    if (offset < 0 || length < 0 || offset + length > this.size) {
      throw new CheckpointError(
        `${length} bytes are needed in a file of ${this.size} bytes`,
        CheckpointCode.truncated,
        { offset },
      );
    }
    if (length > windowSize) return this.readFile(offset, length);
    if (offset < this.windowStart || offset + length > this.windowStart + this.window.length) {
      this.window = await this.readFile(offset, Math.min(windowSize, this.size - offset));
      this.windowStart = offset;
    }
    const start = offset - this.windowStart;
    return this.window.subarray(start, start + length);
  }

  private async readFile(offset: number, length: number): Promise<Buffer> {
    if (length > constants.MAX_LENGTH) {
      throw new CheckpointError(`${length} bytes are too many for one buffer`, CheckpointCode.unsupported, { offset });
    }
    const buffer = Buffer.allocUnsafe(length);
    for (let done = 0; done < length;) {
      const { bytesRead } = await this.file.read(buffer, done, Math.min(length - done, largestRead), offset + done);
      if (bytesRead === 0)
        throw new CheckpointError('the file became shorter while it was read', CheckpointCode.truncated, {
          offset: offset + done,
        });
      done += bytesRead;
    }
    return buffer;
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    // Never blocks: opening a FIFO for reading would wait for a writer.
    return await open(path, fsConstants.O_RDONLY | (fsConstants.O_NONBLOCK ?? 0));
  } catch (error) {
    const reason =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw new CheckpointError(`cannot open '${path}': ${reason}`, CheckpointCode.open, { cause: error });
  }
}

function checkRegularFile(path: string, stats: Stats): void {
  if (stats.isDirectory())
    throw new CheckpointError(`'${path}' is a directory; give the path of a file in it`, CheckpointCode.open);
  if (!stats.isFile()) throw new CheckpointError(`'${path}' is not a regular file`, CheckpointCode.open);
  if (stats.size === 0) throw new CheckpointError(`'${path}' is empty`, CheckpointCode.truncated);
}

/** Opens a file for as long as `use` takes. */
export async function withSource<T>(path: string, use: (source: ByteSource) => Promise<T>): Promise<T> {
  const source = await ByteSource.open(path);
  try {
    return await use(source);
  } finally {
    await source.close();
  }
}
