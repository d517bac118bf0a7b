import type { ContextShift } from './decoder';
import type { GPTModel } from '../models/gpt-model';
import type { KVCache } from '../models/kv-cache';

/** A cache between the turns of a session, and the tokens whose keys and values it holds. */
export interface KeptCache {
  readonly cache: KVCache;
  readonly tokens: readonly number[];
  /** Index of the first of them in the session's text. */
  readonly start: number;
}

/** The tokens of a growing text, and the key-value cache of those that were computed. */
export class Context {
  readonly tokens: number[];
  private memory: KVCache | undefined;
  /** Index of the first token that the model sees. In a text longer than blockSize it moves, with every token or by half a context. */
  private start: number;
  /** Positions that the next pass drops from the cache before it begins. */
  private toDrop = 0;

  /** @param room tokens that are added at most */
  constructor(
    private readonly model: GPTModel,
    prompt: readonly number[],
    private readonly contextShift: ContextShift,
    private readonly room: number,
  ) {
    this.tokens = [...prompt];
    this.start = Math.max(0, prompt.length - model.config.blockSize);
  }

  /** Tokens that the model must see before it can give the next one. */
  get pending(): number {
    return this.tokens.length - this.start - ((this.memory?.length ?? 0) - this.toDrop);
  }

  /** The first of the pending tokens. */
  next(count: number): number[] {
    const first = this.tokens.length - this.pending;
    return this.tokens.slice(first, first + count);
  }

  /** The cache of the tokens before the pending ones. */
  cache(): KVCache {
    const memory = (this.memory ??= this.makeCache());
    memory.drop(this.toDrop);
    this.toDrop = 0;
    return memory;
  }

  /** On the CPU, with room for all tokens, so that nothing moves later. Untouched memory takes no space. */
  private makeCache(): KVCache {
    const { model, tokens, start, room } = this;
    const cache = model.makeCache();
    if (model.device === 'cpu') cache.reserve(1, Math.min(cache.free, tokens.length - start + room));
    return cache;
  }

  push(token: number): void {
    this.tokens.push(token);
    this.moveWindow();
    this.changeFrequencies();
  }

  /**
   * Beyond the context the last blockSize tokens count, each at a new position for every token, so that nothing in the
   * cache can be used again. By halves that happens once in half a context; with rotary positions the cache serves on.
   */
  private moveWindow(): void {
    const { blockSize, positionEncoding } = this.model.config;
    const first = this.tokens.length - blockSize; // the first token that the model may see
    if (this.contextShift === 'exact') {
      if (first <= 0) return;
      this.start = first;
      this.memory?.reset();
    } else if (this.start < first) {
      const start = this.tokens.length - Math.ceil(blockSize / 2);
      if (positionEncoding === 'rope') this.toDrop = start - this.start;
      else this.memory?.reset();
      this.start = start;
    }
  }

  /** From one length on LongRoPE rotates by other frequencies, and nothing in the cache can be used again. */
  private changeFrequencies(): void {
    const { ropeScaling } = this.model.config;
    if (ropeScaling?.type !== 'longrope') return;
    if (this.tokens.length - this.start === ropeScaling.originalBlockSize + 1) this.memory?.reset();
  }

  /**
   * Takes over a cache whose tokens this text begins with, as far as they are the same, and frees it where they are not. One token
   * stays pending: the next one follows from its logits.
   */
  reuse({ cache, tokens, start }: KeptCache): void {
    const { blockSize, ropeScaling } = this.model.config;
    const visible = this.tokens.length - start;
    const mostSame = Math.min(cache.length, visible - 1);
    let same = 0;
    while (same < mostSame && tokens[same] === this.tokens[start + same]) same++;
    const isSeen = start === this.start || this.contextShift === 'half';
    if (!isSeen || visible > blockSize || same <= 0 || ropeScaling?.type === 'longrope') return cache.dispose();
    cache.truncate(same);
    this.memory = cache;
    this.start = start;
  }

  /** Gives up the cache for another turn; undefined where nothing is in it. */
  keep(): KeptCache | undefined {
    const { memory, tokens, start } = this;
    if (memory === undefined || memory.length - this.toDrop <= 0) return undefined;
    const cache = this.cache();
    this.memory = undefined;
    return { cache, tokens: tokens.slice(start, start + cache.length), start };
  }

  /** The same text, with a copy of the cache. */
  fork(): Context {
    const { model, tokens, contextShift, room } = this;
    const copy = new Context(model, tokens, contextShift, room);
    copy.start = this.start;
    copy.toDrop = this.toDrop;
    copy.memory = this.memory?.clone();
    return copy;
  }

  dispose(): void {
    this.memory?.dispose();
    this.memory = undefined;
  }
}
