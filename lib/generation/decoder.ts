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
  /** The turn of a conversation whose cache is kept: see `Decoder.forget`. */
  readonly session?: SessionTurn | undefined;
}

export interface SessionTurn {
  /** A number that no other session of this process has. */
  readonly id: number;
  /** Of the caller's weights: a cache that was filled with others is of no use. */
  readonly weights: number;
}

/** Texts to continue together: several for each prompt, or the best of a beam search. */
export interface SearchRequest extends Omit<DecodeRequest, 'prompt' | 'session'> {
  /** Token ids of each prompt, one or more. One prompt only for beams. */
  readonly prompts: readonly (readonly number[])[];
  /** Texts for each prompt. */
  readonly returned: number;
  /** Absent: texts are drawn. */
  readonly beams?: Beams | undefined;
}

export interface Beams {
  /** Texts that are kept at each step. */
  readonly count: number;
  /** A text's score is the sum of its log-probabilities divided by its length to the power of this. */
  readonly lengthPenalty: number;
  /**
   * When the search ends: `true` with as many ended texts as beams; `false` when no better one is likely; `never` when no better
   * one is possible.
   */
  readonly earlyStopping: boolean | 'never';
}

/** A text that a search has found: the tokens after its prompt. */
export interface FoundSequence {
  tokens: number[];
  /** Of a beam search. */
  score?: number;
  logprobs?: TokenLogprobs[];
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

/** Receives the tokens of one sequence from a decoder. Its functions return immediately and never throw. */
export interface TokenSink {
  token(id: number, logprobs?: TokenLogprobs): void;
  /** Of a search, all that it has found: prompt by prompt, the best first. */
  found?(sequences: FoundSequence[]): void;
  /** After the last token. The sequence's memory is freed then. */
  end(): void;
  /** Instead of `end`: this sequence cannot continue. Its memory is freed then. */
  fail(error: unknown): void;
}

/** A sequence that a decoder generates. */
export interface DecodedSequence {
  /** Lets the sequence generate `count` more tokens. Without this it generates none, and takes no memory. A search needs it once. */
  grant(count: number): void;
  /** Ends the sequence and frees its memory, without calling its sink. Does nothing if the sequence has ended. */
  remove(): void;
}

/** Generates the tokens of any number of sequences of one model, on whatever thread. */
export interface Decoder {
  /** @throws what `Sampler` throws for sampling options that make no sense */
  add(request: DecodeRequest | SearchRequest, sink: TokenSink): DecodedSequence;
  /** Gives one session a copy of another one's cache. */
  fork(from: number, to: number): void;
  /** Frees the cache of a session. It is kept until this is called. */
  forget(session: number): void;
}
