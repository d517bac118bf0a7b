import { closeSync, fstatSync, openSync } from 'node:fs';
import { checkArgument, checkOptions, describe, type PathLike, toPath, TorchBindError } from '../errors';
import { native } from '../native/native';
import { unwrap, wrap } from '../tensor/core';
import { keep } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';

/** Type of the ids in a token file: unsigned, little-endian. */
export type TokenDType = 'uint16' | 'uint32';

/** Options of `TokenFile`. */
export interface TokenFileOptions {
  /** Default `uint16`, as nanoGPT writes it. */
  dtype?: TokenDType;
}

/** Number of ids that a scan of the file reads at a time. */
const piece = 2 ** 20;

/**
 * Token ids in a file, such as nanoGPT's `train.bin` (`np.memmap(path, dtype=np.uint16, mode='r')`). The file is
 * memory-mapped: opening is immediate at any size, and bytes are read when used. Do not change the file while it is
 * open.
 */
export class TokenFile implements Iterable<number> {
  readonly path: string;
  readonly dtype: TokenDType;
  /** Number of tokens. */
  readonly length: number;
  private readonly bytes: Tensor; // (file size) uint8
  /** In tokens. */
  private readonly start: number;

  private constructor(path: string, dtype: TokenDType, bytes: Tensor, start: number, length: number) {
    this.path = path;
    this.dtype = dtype;
    this.bytes = bytes;
    this.start = start;
    this.length = length;
  }

  /** @throws ERR_TORCHBIND_DATA if the file does not exist, is empty, or its size is not a whole number of ids */
  static open(target: PathLike, options: TokenFileOptions = {}): TokenFile {
    const path = toPath(target, 'TokenFile.open');
    checkOptions(options, ['dtype'], 'TokenFile.open');
    const { dtype = 'uint16' } = options;
    const size = sizeOf(dtype, 'TokenFile.open');
    const fd = existing(path);
    try {
      const info = fstatSync(fd);
      if (!info.isFile()) throw wrongData(`${path} is not a file`);
      if (info.size === 0) throw wrongData(`${path} is empty: it holds no tokens`);
      if (info.size % size !== 0) {
        throw wrongData(
          `${path} has ${info.size} bytes, which is not a whole number of ${dtype} ids of ${size} bytes each. It was cut ` +
            'short, or holds ids of another type (option dtype), or no ids at all',
        );
      }
      return new TokenFile(path, dtype, keep(wrap(native().mapFile(fd, info.size))), 0, info.size / size);
    } finally {
      closeSync(fd);
    }
  }

  /** A copy of the ids from `start` to `end`; negative indices count from the end, as in typed arrays. */
  subarray(start = 0, end = this.length): Uint16Array | Uint32Array {
    const [from, to] = [this.index(start), this.index(end)];
    const size = sizeOf(this.dtype, '');
    if (to <= from) return this.dtype === 'uint16' ? new Uint16Array(0) : new Uint32Array(0);
    const handle = native().sliceBytes(
      unwrap(this.bytes, `TokenFile '${this.path}', which was closed`),
      (this.start + from) * size,
      (to - from) * size,
    );
    try {
      const buffer = native().toArrayBuffer(handle);
      return this.dtype === 'uint16' ? new Uint16Array(buffer) : new Uint32Array(buffer);
    } finally {
      native().dispose(handle);
    }
  }

  /** A part of the file as a `TokenFile`; nothing is copied. */
  slice(start = 0, end = this.length): TokenFile {
    const from = this.index(start);
    const length = Math.max(0, this.index(end) - from);
    return new TokenFile(this.path, this.dtype, this.bytes, this.start + from, length);
  }

  /** Index in the whole file of the token at `index`. */
  placeOf(index: number): number {
    checkIndex(index);
    return this.start + index;
  }

  *[Symbol.iterator](): Generator<number, void, undefined> {
    for (let at = 0; at < this.length; at += piece) yield* this.subarray(at, Math.min(this.length, at + piece));
  }

  /** Unmaps the file, also for all its parts. */
  close(): void {
    this.bytes.dispose();
  }

  private index(at: number): number {
    checkIndex(at);
    return at < 0 ? Math.max(0, this.length + at) : Math.min(this.length, at);
  }
}

function checkIndex(at: unknown): void {
  checkArgument(Number.isSafeInteger(at), 'an index of a token', at, 'TokenFile');
}

function existing(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw wrongData(`cannot open ${path}: ${(error as Error).message}`, error);
  }
}

/** @internal Number of bytes of an id. */
export function sizeOf(dtype: TokenDType, where: string): 2 | 4 {
  if (dtype === 'uint16') return 2;
  if (dtype === 'uint32') return 4;
  throw new TorchBindError(
    `${where}: dtype must be 'uint16' or 'uint32', got ${describe(dtype)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** @internal */
export function wrongData(message: string, cause?: unknown): TorchBindError {
  return new TorchBindError(`${message}.`, 'ERR_TORCHBIND_DATA', cause === undefined ? undefined : { cause });
}
