import { checkArgument, checkOptions, TorchBindError } from '../errors';
import { noGrad, withoutInferenceMode } from '../tensor/autograd/modes';
import { empty } from '../tensor/creation';
import type { DType } from '../tensor/dtype';
import { dispose, keep, tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import type { DeviceName } from '../tensor/schema-types';

export interface KVCacheSize {
  nLayer: number;
  /** Number of sequences, B. */
  batchSize: number;
  /** Number of key and value heads. */
  nHead: number;
  /** Maximum number of positions. Memory grows with those in use. */
  blockSize: number;
  headSize: number;
  dtype?: DType;
  device?: DeviceName;
}

/** Initial number of positions. It doubles when they are full. */
const FIRST_POSITIONS = 64;

const SIZE_NAMES = ['nLayer', 'batchSize', 'nHead', 'blockSize', 'headSize', 'dtype', 'device'];

/**
 * Keys and values of the positions that a model has seen, so that each further token computes one position.
 * `gpt.makeCache()` makes one. Its memory is outside `tidy()` scopes, until `dispose()`.
 */
export class KVCache {
  /** For each layer, (B, heads, positions, head size). */
  private readonly keys: Tensor[];
  private readonly values: Tensor[];
  private used = 0;
  private dropped = 0;
  /** Number of positions for which memory is allocated. */
  private capacity: number;

  constructor(readonly size: KVCacheSize) {
    checkOptions(size ?? null, SIZE_NAMES, 'KVCache');
    const { nLayer, batchSize, nHead, blockSize, headSize } = size;
    const sizes = { nLayer, batchSize, nHead, blockSize, headSize };
    for (const [name, value] of Object.entries(sizes))
      checkArgument(Number.isSafeInteger(value) && value > 0, `a whole number above 0 for '${name}'`, value, 'KVCache');
    checkArgument(nLayer < 2 ** 20, "fewer than 2^20 for 'nLayer'", nLayer, 'KVCache');
    this.capacity = Math.min(blockSize, FIRST_POSITIONS);
    const make = (): Tensor => this.allocate(this.capacity);
    this.keys = Array.from({ length: nLayer }, make);
    this.values = Array.from({ length: nLayer }, make);
  }

  private allocate(positions: number): Tensor {
    const { batchSize, nHead, headSize, dtype, device } = this.size;
    return keep(empty([batchSize, nHead, positions, headSize], { dtype, device }));
  }

  /** Number of positions in use. */
  get length(): number {
    return this.used;
  }

  /** Number of free positions. At zero, call `reset()` and run the model over the last tokens again. */
  get free(): number {
    return this.size.blockSize - this.used;
  }

  /**
   * Number of positions dropped from the front since the last reset. The position of the next token is this plus
   * `length`.
   */
  get start(): number {
    return this.dropped;
  }

  /** Clears all positions. */
  reset(): void {
    this.used = 0;
    this.dropped = 0;
  }

  /**
   * Drops the first positions and moves the rest to the front. The rest keep their rotation: RoPE's scores depend only
   * on distances.
   */
  drop(count: number): void {
    this.checkPositions(count, 'drop');
    const rest = this.used - count;
    if (count > 0 && rest > 0) noGrad(() => tidy(() => this.move(count, rest)));
    this.used = rest;
    this.dropped += count;
  }

  /** Keeps only the first `length` positions. */
  truncate(length: number): void {
    this.checkPositions(length, 'truncate');
    this.used = length;
  }

  private checkPositions(count: number, name: string): void {
    const isCount = Number.isSafeInteger(count) && count >= 0 && count <= this.used;
    checkArgument(isCount, `a number of positions from 0 to ${this.used}`, count, `KVCache.${name}()`);
  }

  /** An independent copy. */
  clone(): KVCache {
    const copy = new KVCache(this.size);
    copy.dispose();
    for (const [own, copies] of [
      [this.keys, copy.keys],
      [this.values, copy.values],
    ] as const)
      for (const [layer, cache] of own.entries()) copies[layer] = this.copied(cache, this.capacity);
    copy.capacity = this.capacity;
    copy.used = this.used;
    copy.dropped = this.dropped;
    return copy;
  }

  private move(from: number, count: number): void {
    for (const cache of [...this.keys, ...this.values]) {
      const source = cache.narrow(2, from, count);
      cache.narrow(2, 0, count).copy_(count <= from ? source : source.clone()); // they may overlap
    }
  }

  /**
   * @internal Stores the keys and values (B, heads, T, head size) of new positions in one layer.
   * @returns those of all positions so far, as views into the cache
   */
  append(layer: number, key: Tensor, value: Tensor): [Tensor, Tensor] {
    return [this.store(this.keys[layer]!, key), this.store(this.values[layer]!, value)];
  }

  private store(cache: Tensor, fresh: Tensor): Tensor {
    const count = fresh.size(2);
    cache.narrow(2, this.used, count).copy_(fresh);
    return cache.narrow(2, 0, this.used + count);
  }

  /** @internal Counts positions that all layers have stored. */
  advance(count: number): void {
    this.used += count;
  }

  /** @internal Takes memory for tokens (B, T). Refuses those that do not fit. */
  reserve(batchSize: number, count: number): void {
    if (batchSize !== this.size.batchSize) {
      throw new TorchBindError(
        `The cache is for ${this.size.batchSize} sequence(s), got ${batchSize}.`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    if (count > this.free) {
      throw new TorchBindError(
        `The cache has room for ${this.free} of ${this.size.blockSize} positions, got ${count} tokens. ` +
          'Reset it and run the model over the last tokens again.',
        'ERR_TORCHBIND_CONTEXT_FULL',
      );
    }
    const needed = this.used + count;
    if (needed > this.capacity) this.grow(Math.min(this.size.blockSize, Math.max(needed, 2 * this.capacity)));
  }

  private grow(positions: number): void {
    for (const caches of [this.keys, this.values]) {
      for (const [layer, old] of caches.entries()) {
        caches[layer] = this.copied(old, positions);
        old.dispose();
      }
    }
    this.capacity = positions;
  }

  /** A copy with memory for more positions. It may be filled outside inference mode, wherever it was made. */
  private copied(cache: Tensor, positions: number): Tensor {
    return withoutInferenceMode(() =>
      tidy(() => {
        const larger = this.allocate(positions);
        larger.narrow(2, 0, this.used).copy_(cache.narrow(2, 0, this.used));
        return larger;
      }),
    );
  }

  /** Frees the memory. */
  dispose(): void {
    dispose([this.keys, this.values]);
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
