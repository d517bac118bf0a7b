import { checkOptions, describe, isAbove, isAtLeast, TorchBindError } from '../errors';
import { fullLike } from '../tensor/generated/functions';
import { Generator } from '../tensor/random';
import type { Tensor } from '../tensor/tensor';

/** How the next token is chosen. */
export interface SamplingOptions {
  /** Logits are divided by it: below 1 likelier, above 1 more varied text; 0 always takes the likeliest token. Default 1. */
  temperature?: number;
  /** Choose among the k likeliest tokens only. */
  topK?: number;
  /** Choose among the fewest likeliest tokens whose probabilities sum to at least this (Holtzman et al. 2020). */
  topP?: number;
  /** Always take the likeliest token. Default false. */
  greedy?: boolean;
  /** Draw from a generator of its own, seeded so. Default: the device's default generator, see `manualSeed`. */
  seed?: number | bigint;
}

export const samplingOptionNames = ['temperature', 'topK', 'topP', 'greedy', 'seed'] as const;

/**
 * Draws tokens as PyTorch programs do, `torch.multinomial(softmax(logits / temperature, -1), 1)`: the same logits and
 * the same state of the generator give the same token.
 */
export class Sampler {
  private readonly temperature: number;
  private readonly greedy: boolean;
  private readonly topK: number;
  private readonly topP: number;
  private readonly generator: Generator | undefined;
  private readonly onCpu: boolean;

  constructor(options: SamplingOptions, device: string) {
    checkOptions(options, samplingOptionNames, 'sampling');
    const { temperature = 1, topK = Infinity, topP = 1, greedy = false, seed } = options;
    check(
      isAtLeast(temperature, 0) && temperature < Infinity,
      'temperature',
      temperature,
      'a finite number of at least 0',
    );
    check(topK === Infinity || (Number.isInteger(topK) && topK >= 1), 'topK', topK, 'an integer of at least 1');
    check(isAbove(topP, 0) && topP <= 1, 'topP', topP, 'a number above 0 and at most 1');
    check(typeof greedy === 'boolean', 'greedy', greedy, 'true or false');
    this.onCpu = device === 'cpu';
    this.temperature = temperature;
    this.greedy = greedy || temperature === 0;
    this.topK = topK;
    this.topP = topP;
    this.generator = seed === undefined ? undefined : new Generator(device).manualSeed(seed);
  }

  /**
   * The next token, given its logits (1, V).
   *
   * @throws ERR_TORCHBIND_NONFINITE_LOGITS where no token can be chosen. Some logits may be -Infinity: these tokens are
   *   never drawn.
   */
  next(logits: Tensor): number {
    if (this.greedy) {
      const [largest, token] = logits.max(-1); // (1) each; NaN where one of the logits is
      checkFinite(largest);
      return Number(token.item());
    }
    // On other devices a draw from probabilities that are none ends the process; the CPU's says so itself.
    if (!this.onCpu) checkFinite(logits.max());
    try {
      return this.draw(logits);
    } catch (error) {
      checkFinite(logits.max());
      throw error;
    }
  }

  private draw(logits: Tensor): number {
    let scaled = this.temperature === 1 ? logits : logits.div(this.temperature);
    if (this.topK < logits.size(-1)) scaled = keepTopK(scaled, this.topK);
    if (this.topP < 1) scaled = keepTopP(scaled, this.topP);
    return Number(scaled.softmax(-1).multinomial(1, { generator: this.generator }).item());
  }
}

function checkFinite(value: Tensor): void {
  const largest = Number(value.item());
  if (Number.isFinite(largest)) return;
  throw new TorchBindError(
    `generate: expected finite logits, but the largest is ${largest}. The model's weights hold NaN or infinite numbers, or ` +
      'lead to them: use a checkpoint from before training went wrong.',
    'ERR_TORCHBIND_NONFINITE_LOGITS',
  );
}

/** -Infinity for all but the k largest of the logits (1, V). */
function keepTopK(logits: Tensor, k: number): Tensor {
  const [largest] = logits.topk(k); // (1, k)
  return logits.maskedFill(logits.lt(largest.narrow(-1, k - 1, 1)), -Infinity);
}

/** -Infinity for every token (1, V) that those before it in the order of likelihood already outweigh. */
function keepTopP(logits: Tensor, p: number): Tensor {
  const [sorted, order] = logits.sort(-1, true);
  const probabilities = sorted.softmax(-1);
  const before = probabilities.cumsum(-1).sub(probabilities);
  return fullLike(logits, -Infinity).scatter(-1, order, sorted.maskedFill(before.ge(p), -Infinity));
}

function check(valid: boolean, name: string, value: unknown, expected: string): void {
  if (valid) return;
  throw new TorchBindError(`${name} must be ${expected}, got ${describe(value)}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
