import { checkOptions, describe, TorchBindError } from '../errors';
import { fromTypedArray, randint } from '../tensor/creation';
import { type Generator, getRngState, setRngState } from '../tensor/random';
import type { Tensor } from '../tensor/tensor';
import type { Tokens } from './token-stream';

/** Inputs and targets of one step: `y` is `x` one token later. Both (B, T) int64. */
export interface Batch {
  x: Tensor;
  y: Tensor;
}

export interface RandomWindowsOptions {
  /** B, windows a batch. */
  batchSize: number;
  /** T, tokens a window. */
  blockSize: number;
  /** Where the windows' places are drawn from; a CPU generator. Default: the CPU's default generator. */
  generator?: Generator;
  /** Where the batches go. Default `cpu`. */
  device?: string;
}

/**
 * Batches of windows at random places of a token sequence.
 *
 * The places are those of `torch.randint(len(tokens) - block_size, (batch_size,), generator=generator)`: the same
 * generator state gives the same batches as in Python.
 */
export class RandomWindows {
  private readonly options: RandomWindowsOptions;

  constructor(
    private readonly tokens: Tokens,
    options: RandomWindowsOptions,
  ) {
    checkOptions(options, ['batchSize', 'blockSize', 'generator', 'device'], 'RandomWindows');
    checkPositiveInteger(options.batchSize, 'batchSize');
    checkPositiveInteger(options.blockSize, 'blockSize');
    if (tokens.length <= options.blockSize) {
      throw new TorchBindError(
        `RandomWindows: windows of ${options.blockSize} tokens and their targets need at least ${options.blockSize + 1} ` +
          `tokens, but there are ${tokens.length}. Give more text, or a model with a smaller blockSize.`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    this.options = options;
  }

  /** The next batch. */
  next(): Batch {
    const { batchSize, blockSize, generator, device } = this.options;
    const starts = randint(this.tokens.length - blockSize, [batchSize], { generator }); // (B)
    const x = new Int32Array(batchSize * blockSize);
    const y = new Int32Array(batchSize * blockSize);
    (starts.toTypedArray() as BigInt64Array).forEach((value, row) => {
      const start = Number(value);
      x.set(this.tokens.subarray(start, start + blockSize), row * blockSize);
      y.set(this.tokens.subarray(start + 1, start + 1 + blockSize), row * blockSize);
    });
    starts.dispose();
    return { x: this.batch(x, device), y: this.batch(y, device) };
  }

  /** Where the sequence of batches stands: the generator's state, a uint8 tensor. */
  getState(): Tensor {
    return this.options.generator?.getState() ?? getRngState();
  }

  /** Goes on where `getState` was taken. */
  setState(state: Tensor): void {
    if (this.options.generator === undefined) setRngState(state);
    else this.options.generator.setState(state);
  }

  private batch(ids: Int32Array, device = 'cpu'): Tensor {
    const { batchSize, blockSize } = this.options;
    return fromTypedArray(ids, [batchSize, blockSize]).to({ dtype: 'int64', device }); // (B, T)
  }
}

function checkPositiveInteger(value: unknown, name: string): void {
  if (Number.isSafeInteger(value) && (value as number) > 0) return;
  throw new TorchBindError(
    `RandomWindows: ${name} must be a positive integer, got ${describe(value)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
