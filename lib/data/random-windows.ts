import { checkArgument, checkOptions } from '../errors';
import { randint } from '../tensor/creation';
import { Generator, getRngState, setRngState } from '../tensor/random';
import type { Tensor } from '../tensor/tensor';
import { type Batch, type BatchSource, checkWindows, windowsAt } from './batch';
import type { Tokens } from './token-stream';
import type { DeviceName } from '../tensor/schema-types';

/** Options of `RandomWindows`. */
export interface RandomWindowsOptions {
  /** B, windows in a batch. */
  batchSize: number;
  /** T, tokens in a window. */
  blockSize: number;
  /** CPU generator that draws the windows. Default: the CPU's default generator. */
  generator?: Generator;
  /** Device of the batches. Default `cpu`. */
  device?: DeviceName;
  /** The model's vocabulary size: a larger id in a `TokenFile` is an error. Default: not checked. */
  vocabSize?: number;
}

/**
 * Batches of windows at random positions of a token sequence, drawn with `torch.randint(len(tokens) - block_size,
 * (batch_size,), generator=generator)`: the same generator state gives the same batches as in Python.
 */
export class RandomWindows implements BatchSource {
  private readonly options: RandomWindowsOptions;

  constructor(
    private readonly tokens: Tokens,
    options: RandomWindowsOptions,
  ) {
    checkOptions(options ?? null, ['batchSize', 'blockSize', 'generator', 'device', 'vocabSize'], 'RandomWindows');
    checkWindows('RandomWindows', tokens, options);
    const { generator } = options;
    const isGenerator = generator === undefined || generator instanceof Generator;
    checkArgument(isGenerator, "a Generator for 'generator'", generator, 'RandomWindows');
    this.options = options;
  }

  /** Returns the next batch, x and y (B, T) int64. */
  next(): Batch {
    const { batchSize, blockSize, generator } = this.options;
    const starts = randint(this.tokens.length - blockSize, [batchSize], { generator }); // (B)
    const places = Array.from(starts.toTypedArray() as BigInt64Array, Number);
    starts.dispose();
    return windowsAt(this.tokens, places, this.options);
  }

  /** The state of the generator, a uint8 tensor. */
  getState(): Tensor {
    return this.options.generator?.getState() ?? getRngState();
  }

  /** Continues from a state of `getState`. */
  setState(state: Tensor): void {
    if (this.options.generator === undefined) setRngState(state);
    else this.options.generator.setState(state);
  }
}
