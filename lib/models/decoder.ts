import type { SamplingOptions } from './sampler';

/** A text to continue. */
export interface DecodeRequest {
  /** Token ids, one or more. */
  readonly prompt: readonly number[];
  /** Tokens to generate at most: 1 or more. */
  readonly maxNewTokens: number;
  readonly sampling: SamplingOptions;
  /** Token ids after which the sequence ends. Default: none. */
  readonly stopTokens?: readonly number[];
  /** Alternatives to give with the log-probability of each token; undefined for no log-probabilities. */
  readonly logprobs?: number | undefined;
  readonly contextShift: ContextShift;
}

/**
 * What the model sees of a text that is longer than its context. `exact`: the last blockSize tokens, as in PyTorch's programs.
 * `half`: when the context is full, its last half is kept, and filled up again.
 */
export type ContextShift = 'exact' | 'half';

/** How likely a generated token was: natural logarithms of the model's own probabilities, before any sampling option. */
export interface TokenLogprobs {
  token: number;
  logprob: number;
  /** The likeliest tokens, the likeliest first. */
  top: { token: number; logprob: number }[];
}

/** Where a decoder puts the tokens of one sequence. Its functions return at once and never throw. */
export interface TokenSink {
  token(id: number, logprobs?: TokenLogprobs): void;
  /** After the last token. The sequence's memory is freed then. */
  end(): void;
  /** Instead of `end`: this sequence cannot continue. Its memory is freed then. */
  fail(error: unknown): void;
}

/** A sequence that a decoder generates. */
export interface DecodedSequence {
  /** Lets the sequence generate `count` more tokens. Without this it generates none, and takes no memory. */
  grant(count: number): void;
  /** Ends the sequence, frees its memory, and leaves its sink alone. Does nothing for a sequence that has ended. */
  remove(): void;
}

/** Generates the tokens of any number of sequences of one model, on whatever thread. */
export interface Decoder {
  /** @throws what `Sampler` throws for sampling options that make no sense */
  add(request: DecodeRequest, sink: TokenSink): DecodedSequence;
}
