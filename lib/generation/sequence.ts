import { Context } from './context';
import type { DecodedSequence, DecodeRequest, TokenLogprobs, TokenSink } from './decoder';
import type { GPTModel } from '../models/gpt-model';
import { Sampler } from './sampler';
import type { SessionCaches } from './session-caches';

/** What takes turns in a `BatchDecoder`. */
export interface Waiting {
  /** Tokens that the model must see before it can give the next one. */
  readonly pending: number;
  remove(): void;
}

/** A text that is generated token by token. */
export class Sequence implements DecodedSequence, Waiting {
  readonly context: Context;
  readonly sampler: Sampler;
  /** Alternatives to give with each token's log-probability; undefined for none of both. */
  readonly alternatives: number | undefined;
  private readonly promptLength: number;
  private readonly stopTokens: ReadonlySet<number>;
  private readonly keepCache: (() => void) | undefined;
  private credit = 0;
  private remaining: number;
  private over = false;

  constructor(
    model: GPTModel,
    readonly number: number,
    { prompt, maxNewTokens, contextShift, sampling, stopTokens = [], logprobs, session }: DecodeRequest,
    private readonly sink: TokenSink,
    private readonly waiting: Set<Waiting>,
    caches: SessionCaches,
  ) {
    this.context = new Context(model, prompt, contextShift, maxNewTokens);
    this.sampler = new Sampler(sampling, model.device, model.config.vocabSize, stopTokens);
    this.promptLength = prompt.length;
    this.stopTokens = new Set(stopTokens);
    this.alternatives = logprobs;
    this.remaining = maxNewTokens;
    this.keepCache = session === undefined ? undefined : caches.begin(session, this.context);
  }

  grant(count: number): void {
    if (this.over) return;
    this.credit += count;
    if (this.credit > 0) this.waiting.add(this);
  }

  remove(): void {
    if (this.over) return;
    this.over = true;
    this.waiting.delete(this);
    this.keepCache?.();
    this.context.dispose();
  }

  get pending(): number {
    return this.context.pending;
  }

  get generatedCount(): number {
    return this.context.tokens.length - this.promptLength;
  }

  generated(token: number, logprobs?: TokenLogprobs): void {
    if (this.over) return;
    this.context.push(token);
    this.credit--;
    this.remaining = this.stopTokens.has(token) ? 0 : this.remaining - 1;
    if (this.credit === 0) this.waiting.delete(this);
    const isLast = this.remaining === 0;
    if (isLast) this.remove();
    this.sink.token(token, logprobs);
    if (isLast) this.sink.end();
  }

  failed(error: unknown): void {
    if (this.over) return;
    this.remove();
    this.sink.fail(error);
  }
}
