import { checkFlags, checkOptions, describe, requireOptions, TorchBindError } from '../errors';
import { randperm } from '../tensor/creation';
import { Generator } from '../tensor/random';
import { type Batch, type BatchSource, checkWindows, windowsAt } from './batch';
import type { Tokens } from './token-stream';
import type { DeviceName } from '../tensor/schema-types';

/** Options of `EpochWindows`. */
export interface EpochWindowsOptions {
  /** B, windows in a batch. */
  batchSize: number;
  /** T, tokens in a window. */
  blockSize: number;
  /** Seed of the order: epoch e uses `torch.randperm` of a generator seeded with `seed + e`. Default 0. */
  seed?: number;
  /** Whether to shuffle. Default true. */
  shuffle?: boolean;
  /** Device of the batches. Default `cpu`. */
  device?: DeviceName;
  /** The model's vocabulary size: a larger id in a `TokenFile` is an error. Default: not checked. */
  vocabSize?: number;
}

/** Position of an `EpochWindows`. */
export interface EpochPosition {
  /** Number of completed epochs. */
  epoch: number;
  /** Number of batches used in this epoch. */
  batch: number;
}

/**
 * Batches of windows that do not overlap. Each window occurs once per epoch, in a new order. Windows that do not fill a
 * last batch are left out of that epoch.
 */
export class EpochWindows implements BatchSource {
  /** Number of batches in an epoch. */
  readonly batchesPerEpoch: number;
  private readonly windows: number;
  private position: EpochPosition = { epoch: 0, batch: 0 };
  private order: { epoch: number; starts: number[] } | undefined;

  constructor(
    private readonly tokens: Tokens,
    private readonly options: EpochWindowsOptions,
  ) {
    checkOptions(options ?? null, ['batchSize', 'blockSize', 'seed', 'shuffle', 'device', 'vocabSize'], 'EpochWindows');
    checkWindows('EpochWindows', tokens, options);
    checkFlags({ shuffle: options.shuffle }, 'EpochWindows');
    const { seed = 0 } = options;
    if (!Number.isSafeInteger(seed)) throw invalid(`seed must be an integer, got ${describe(seed)}`);
    this.windows = Math.floor((tokens.length - 1) / options.blockSize);
    this.batchesPerEpoch = Math.floor(this.windows / options.batchSize);
    if (this.batchesPerEpoch > 0) return;
    throw invalid(
      `a batch of ${options.batchSize} windows of ${options.blockSize} tokens does not fit into ${tokens.length} tokens. ` +
        'Give more text, or a smaller batchSize or blockSize.',
    );
  }

  /** Returns the next batch, x and y (B, T) int64. */
  next(): Batch {
    const { batchSize } = this.options;
    const { epoch, batch } = this.position;
    const starts = this.startsOf(epoch).slice(batch * batchSize, (batch + 1) * batchSize);
    const isLast = batch + 1 === this.batchesPerEpoch;
    this.position = isLast ? { epoch: epoch + 1, batch: 0 } : { epoch, batch: batch + 1 };
    return windowsAt(this.tokens, starts, this.options);
  }

  getState(): EpochPosition {
    return { ...this.position };
  }

  /** Continues at a position. */
  setState(position: EpochPosition): void {
    requireOptions(position, ['epoch', 'batch'], 'EpochWindows.setState()');
    const { epoch, batch } = position;
    const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
    if (!isCount(epoch) || !isCount(batch) || batch >= this.batchesPerEpoch) {
      throw invalid(
        `a position is an epoch and a batch below ${this.batchesPerEpoch}, got epoch ${describe(epoch)} and batch ${describe(batch)}`,
      );
    }
    this.position = { epoch, batch };
  }

  private startsOf(epoch: number): number[] {
    if (this.order?.epoch === epoch) return this.order.starts;
    const starts = this.permutation(epoch).map((window) => window * this.options.blockSize);
    this.order = { epoch, starts };
    return starts;
  }

  private permutation(epoch: number): number[] {
    const { seed = 0, shuffle = true } = this.options;
    if (!shuffle) return Array.from({ length: this.windows }, (_, i) => i);
    const order = randperm(this.windows, { generator: new Generator().manualSeed(seed + epoch) });
    const windows = Array.from(order.toTypedArray() as BigInt64Array, Number);
    order.dispose();
    return windows;
  }
}

function invalid(reason: string): TorchBindError {
  return new TorchBindError(`EpochWindows: ${reason}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
