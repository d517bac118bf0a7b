import { constants } from 'node:buffer';
import { closeSync, constants as fsConstants, fstatSync, openSync, read, type Stats } from 'node:fs';
import { promisify } from 'node:util';
import { CheckpointCode, CheckpointError, systemReason, withPath } from '../../errors';
import { turnTimer } from '../../workers/slices';

/** Reads go to the file in pieces of at least this size, as a container's headers lie close to one another. */
const windowSize = 64 * 1024;

/** The operating system takes no more than 2^31 - 1 bytes in one read. */
const largestRead = 2 ** 30;

const readAt = promisify(read);

/** Ranges that lie nearer to one another than this are read as one. */
const smallGap = 4096;

/** What is prefetched at most; what is beyond is read in its turn. */
const maxPrefetch = 8 * 2 ** 20;
const maxPieces = 2048;
/** A thousand read requests in one turn of the event loop take 10 ms. */
const readsAtOnce = 128;

/** Bytes [start, start + bytes.length) of the file. */
interface Piece {
  start: number;
  bytes: Buffer;
}

const nothing: Piece = { start: 0, bytes: Buffer.alloc(0) };

/**
 * A file that is open for reading at any place, with the last piece read kept. Opening and closing do not wait for a thread of
 * the pool, which would take longer than they do.
 */
export class ByteSource {
  private window = nothing;
  /** In the order of the file. */
  private prefetched: Piece[] = [];
  private nextPiece = 0;

  private constructor(
    readonly path: string,
    readonly fd: number,
    readonly size: number,
    /** Where the bytes begin in the file: not 0 in a section of a larger one. */
    readonly base = 0,
  ) {}

  /** @throws CheckpointError where the path is not a regular file with something in it */
  static open(path: string): ByteSource {
    const fd = openFile(path);
    try {
      const stats = fstatSync(fd);
      checkRegularFile(stats);
      return new ByteSource(path, fd, stats.size);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** The bytes [offset, offset + size) as a source of their own. It reads through this one's descriptor and is not closed. */
  section(offset: number, size: number): ByteSource {
    return new ByteSource(this.path, this.fd, size, this.base + offset);
  }

  close(): void {
    closeSync(this.fd);
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
    const known = this.peek(offset, length);
    if (known !== undefined) return known;
    if (length > windowSize) return this.readFile(offset, length);
    this.window = { start: offset, bytes: await this.readFile(offset, Math.min(windowSize, this.size - offset)) };
    return within(this.window, offset, length);
  }

  /** As `read`, where the bytes are in memory already: to wait for a promise takes longer than to look at a header. */
  peek(offset: number, length: number): Buffer | undefined {
    const piece = this.prefetchedAt(offset, length) ?? this.window;
    return covers(piece, offset, length) ? within(piece, offset, length) : undefined;
  }

  /** Reads the bytes [offset, offset + target.length) into `target`. */
  async readInto(target: Buffer, offset: number): Promise<void> {
    for (let done = 0; done < target.length;) {
      const length = Math.min(target.length - done, largestRead);
      const { bytesRead } = await readAt(this.fd, target, done, length, this.base + offset + done);
      if (bytesRead === 0)
        throw new CheckpointError('the file became shorter while it was read', CheckpointCode.truncated, {
          offset: offset + done,
        });
      done += bytesRead;
    }
  }

  /** Forgets what was read. */
  forget(): void {
    this.window = nothing;
    this.prefetched = [];
    this.nextPiece = 0;
  }

  /**
   * Reads ranges [start, end) at once, for `read` to find: to wait for a thread of the pool takes longer than a small read.
   *
   * @param ranges in ascending order of their starts
   */
  async prefetch(ranges: Iterable<readonly [start: number, end: number]>): Promise<void> {
    const joined: [number, number][] = [];
    let total = 0;
    const turn = turnTimer();
    for (const [start, wanted] of ranges) {
      const turned = turn();
      if (turned) await turned;
      const end = Math.min(wanted, this.size);
      const last = joined.at(-1);
      const isNear = last !== undefined && start - last[1] <= smallGap;
      total += isNear ? Math.max(end - last[1], 0) : Math.max(end - start, 0);
      if (total > maxPrefetch || joined.length === maxPieces) break;
      if (isNear) last[1] = Math.max(last[1], end);
      else if (end > start) joined.push([start, end]);
    }
    const pieces: Piece[] = [];
    for (let i = 0; i < joined.length; i += readsAtOnce) {
      const reads = joined
        .slice(i, i + readsAtOnce)
        .map(async ([start, end]) => ({ start, bytes: await this.readFile(start, end - start) }));
      pieces.push(...(await Promise.all(reads)));
    }
    this.prefetched = pieces;
    this.nextPiece = 0;
  }

  /** Reads go up through the file, so that the piece is the one of the last read or one soon after it. */
  private prefetchedAt(offset: number, length: number): Piece | undefined {
    const { prefetched } = this;
    while (this.nextPiece > 0 && prefetched[this.nextPiece]!.start > offset) this.nextPiece--;
    while (this.nextPiece + 1 < prefetched.length && prefetched[this.nextPiece + 1]!.start <= offset) this.nextPiece++;
    const piece = prefetched[this.nextPiece];
    return piece !== undefined && covers(piece, offset, length) ? piece : undefined;
  }

  private async readFile(offset: number, length: number): Promise<Buffer> {
    if (length > constants.MAX_LENGTH) {
      throw new CheckpointError(`${length} bytes are too many for one buffer`, CheckpointCode.unsupported, { offset });
    }
    const buffer = Buffer.allocUnsafeSlow(length);
    await this.readInto(buffer, offset);
    return buffer;
  }
}

function covers({ start, bytes }: Piece, offset: number, length: number): boolean {
  return offset >= start && offset + length <= start + bytes.length;
}

function within({ start, bytes }: Piece, offset: number, length: number): Buffer {
  return bytes.subarray(offset - start, offset - start + length);
}

function openFile(path: string): number {
  try {
    // Never blocks: opening a FIFO for reading would wait for a writer.
    return openSync(path, fsConstants.O_RDONLY | (fsConstants.O_NONBLOCK ?? 0));
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const reason = isMissing ? 'no such file' : systemReason(error);
    throw new CheckpointError(`cannot open the file: ${reason}`, CheckpointCode.open, { cause: error });
  }
}

function checkRegularFile(stats: Stats): void {
  if (stats.isDirectory())
    throw new CheckpointError('expected a file, got a directory; give the path of a file in it', CheckpointCode.open);
  if (!stats.isFile())
    throw new CheckpointError('expected a regular file, got a device or socket', CheckpointCode.open);
  if (stats.size === 0) throw new CheckpointError('the file is empty', CheckpointCode.truncated);
}

/** Opens a file for as long as `use` takes, and names it in the errors of that. */
export async function withSource<T>(path: string, use: (source: ByteSource) => Promise<T>): Promise<T> {
  return withPath(path, async () => {
    const source = ByteSource.open(path);
    try {
      return await use(source);
    } finally {
      source.close();
    }
  });
}
