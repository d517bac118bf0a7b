import { checkOptions, describe, isAbove, isAtLeast, TorchBindError } from '../errors';
import { fullLike } from '../tensor/generated/functions';
import { Generator } from '../tensor/random';
import type { Tensor } from '../tensor/tensor';
import { type LogitsOptions, logitsOptionNames, LogitsProcessors } from './logits-processors';
import type { DeviceName } from '../tensor/schema-types';

/** How the next token is chosen. */
export interface SamplingOptions extends LogitsOptions {
  /** Logits are divided by it: below 1 likelier, above 1 more varied text; 0 always takes the likeliest token. Default 1. */
  temperature?: number;
  /** Choose among the k likeliest tokens only. */
  topK?: number;
  /** Choose among the fewest likeliest tokens whose probabilities sum to at least this (Holtzman et al. 2020). */
  topP?: number;
  /** Choose among tokens that are at least this times as likely as the likeliest one (Nguyen et al. 2024). Default 0. */
  minP?: number;
  /** Choose among the tokens of most typical information whose probabilities sum to at least this (Meister et al. 2022). Default 1. */
  typicalP?: number;
  /** Always take the likeliest token. Default false. */
  greedy?: boolean;
  /** Draw from a generator of its own, seeded so. Default: the device's default generator, see `manualSeed`. */
  seed?: number | bigint;
}

export const samplingOptionNames = [
  'temperature',
  'topK',
  'topP',
  'minP',
  'typicalP',
  'greedy',
  'seed',
  ...logitsOptionNames,
] as const;

/**
 * Draws tokens as PyTorch programs do, `torch.multinomial(softmax(logits / temperature, -1), 1)`: the same logits and
 * the same state of the generator give the same token.
 */
export class Sampler {
  private readonly temperature: number;
  private readonly greedy: boolean;
  private readonly topK: number;
  private readonly topP: number;
  private readonly minP: number;
  private readonly typicalP: number;
  private readonly processors: LogitsProcessors;
  private readonly generator: Generator | undefined;
  private readonly onCpu: boolean;

  /**
   * @param stopTokens ids that `minNewTokens` holds back
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_UNKNOWN_OPTION
   */
  constructor(options: SamplingOptions, device: DeviceName, vocabSize = Infinity, stopTokens: readonly number[] = []) {
    checkOptions(options, samplingOptionNames, 'sampling');
    const {
      temperature = 1,
      topK = Infinity,
      topP = 1,
      minP = 0,
      typicalP = 1,
      greedy = false,
      seed,
      ...rest
    } = options;
    check(
      isAtLeast(temperature, 0) && temperature < Infinity,
      'temperature',
      temperature,
      'a finite number of at least 0',
    );
    check(topK === Infinity || (Number.isInteger(topK) && topK >= 1), 'topK', topK, 'an integer of at least 1');
    check(isAbove(topP, 0) && topP <= 1, 'topP', topP, 'a number above 0 and at most 1');
    check(isAtLeast(minP, 0) && minP <= 1, 'minP', minP, 'a number from 0 to 1');
    check(isAbove(typicalP, 0) && typicalP <= 1, 'typicalP', typicalP, 'a number above 0 and at most 1');
    check(typeof greedy === 'boolean', 'greedy', greedy, 'true or false');
    this.onCpu = device === 'cpu';
    this.temperature = temperature;
    this.greedy = greedy || temperature === 0;
    this.topK = topK;
    this.topP = topP;
    this.minP = minP;
    this.typicalP = typicalP;
    this.processors = new LogitsProcessors(rest, stopTokens, vocabSize);
    this.generator = seed === undefined ? undefined : new Generator(device).manualSeed(seed);
  }

  /**
   * The next token, given its logits (1, V), the tokens so far and how many of these were generated.
   *
   * @throws ERR_TORCHBIND_NONFINITE_LOGITS where no token can be chosen. Some logits may be -Infinity: these tokens are
   *   never drawn.
   */
  next(given: Tensor, tokens: readonly number[] = [], generated = 0): number {
    const logits = this.process(given, tokens, generated);
    return this.reporting(logits, () => Number(this.choose(logits).item()));
  }

  /** The logits (1, V) of a token as the options change them. */
  process(given: Tensor, tokens: readonly number[], generated: number): Tensor {
    if (this.processors.isEmpty) return given;
    const logits = this.processors.apply(given, tokens, generated);
    if (Number(logits.max().item()) === -Infinity && Number(given.max().item()) > -Infinity)
      throw new TorchBindError(
        'generate: the options exclude every token. Exclude fewer by badWords, logitBias, noRepeatNgramSize or logitsProcessor.',
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    return logits;
  }

  /** A token for each row of processed logits (S, V), all of one draw. */
  chooseRows(logits: Tensor): number[] {
    return this.reporting(logits, () => (this.choose(logits).flatten().tolist() as (number | bigint)[]).map(Number));
  }

  /** Tokens (S) or (S, 1) for logits (S, V). */
  private choose(logits: Tensor): Tensor {
    if (!this.greedy) return this.draw(logits);
    const [largest, token] = logits.max(-1); // (S) each; NaN where one of the logits is
    checkFinite(largest);
    return token;
  }

  /** Runs `choose`, and explains the error if no token can be chosen. */
  private reporting<T>(logits: Tensor, choose: () => T): T {
    // On other devices, sampling from invalid probabilities ends the process. The CPU kernel throws.
    if (!this.onCpu && !this.greedy) checkFinite(logits.amax(-1));
    try {
      return choose();
    } catch (error) {
      if (!this.greedy) checkFinite(logits.amax(-1));
      throw error;
    }
  }

  /** (S, V) -> (S, 1) */
  private draw(logits: Tensor): Tensor {
    let scaled = this.temperature === 1 ? logits : logits.div(this.temperature);
    if (this.topK < logits.size(-1)) scaled = keepTopK(scaled, this.topK);
    if (this.topP < 1) scaled = keepTopP(scaled, this.topP);
    if (this.minP > 0) scaled = keepMinP(scaled, this.minP);
    if (this.typicalP < 1) scaled = keepTypical(scaled, this.typicalP);
    return scaled.softmax(-1).multinomial(1, { generator: this.generator });
  }
}

/** @param values the largest logit of each row, (S) */
function checkFinite(values: Tensor): void {
  const numbers = values.numel() === 1 ? [Number(values.item())] : (values.tolist() as number[]);
  const largest = numbers.find((value) => !Number.isFinite(value));
  if (largest === undefined) return;
  throw new TorchBindError(
    `generate: expected finite logits, but the largest is ${largest}. The model's weights hold NaN or infinite numbers, or ` +
      'lead to them: use a checkpoint from before training went wrong.',
    'ERR_TORCHBIND_NONFINITE_LOGITS',
  );
}

/** -Infinity for all but the k largest of the logits (S, V). */
function keepTopK(logits: Tensor, k: number): Tensor {
  const [largest] = logits.topk(k); // (S, k)
  return logits.maskedFill(logits.lt(largest.narrow(-1, k - 1, 1)), -Infinity);
}

/** -Infinity for every token (S, V) that those before it in the order of likelihood already outweigh. */
function keepTopP(logits: Tensor, p: number): Tensor {
  const [sorted, order] = logits.sort(-1, true);
  const probabilities = sorted.softmax(-1);
  const before = probabilities.cumsum(-1).sub(probabilities);
  return fullLike(logits, -Infinity).scatter(-1, order, sorted.maskedFill(before.ge(p), -Infinity));
}

/** -Infinity for all but tokens (S, V) at least `p` times as likely as the likeliest one. */
function keepMinP(logits: Tensor, p: number): Tensor {
  const probabilities = logits.softmax(-1);
  return logits.maskedFill(probabilities.lt(probabilities.amax(-1, true).mul(p)), -Infinity);
}

/** -Infinity for all but the tokens (S, V) whose information is nearest to the entropy and whose probabilities reach `mass`. */
function keepTypical(logits: Tensor, mass: number): Tensor {
  const logarithms = logits.logSoftmax(-1);
  const entropy = logarithms.mul(logarithms.exp()).nansum(-1, true).neg(); // (S, 1)
  const distance = logarithms.neg().sub(entropy).abs();
  const [sorted, order] = distance.sort(-1);
  const cumulative = logits.gather(-1, order).softmax(-1).cumsum(-1);
  const last = cumulative
    .lt(mass)
    .sum(-1, true)
    .clamp(0, logits.size(-1) - 1); // (S, 1)
  const remove = sorted.gt(sorted.gather(-1, last));
  return logits.maskedFill(remove.scatter(-1, order, remove), -Infinity);
}

function check(valid: boolean, name: string, value: unknown, expected: string): void {
  if (valid) return;
  throw new TorchBindError(`${name} must be ${expected}, got ${describe(value)}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
