import { Dropout } from '../nn/dropout';
import { Embedding } from '../nn/embedding';
import { LayerNorm } from '../nn/layer-norm';
import { Linear } from '../nn/linear';
import type { Module } from '../nn/module';
import { ModuleList } from '../nn/module-list';
import { OnePlusRMSNorm, RMSNorm } from '../nn/rms-norm';
import { QuantizedLinear } from '../nn/quantized-linear';
import { inferenceMode } from '../tensor/autograd';
import { tensor } from '../tensor/creation';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import type { ContextShift, DecodedSequence, DecodeRequest, Decoder, TokenLogprobs, TokenSink } from './decoder';
import { Block, CausalSelfAttention, GPTModel, MLP } from './gpt-model';
import type { KVCache } from './kv-cache';
import { LoraLinear } from './lora';
import { evaluation } from './mode';
import { logprobsOf } from './logprobs';
import { Sampler } from './sampler';

/** Prompt tokens in one pass, over all sequences, while others wait: a long prompt is read in parts of at most so many. */
const PROMPT_TOKENS = 64;

/** Sequences in one pass. More take turns. */
const SEQUENCES = 64;

/** A sequence and how many of its tokens a pass feeds to the model. */
interface Turn {
  sequence: Sequence;
  count: number;
}

/** What a pass gave for a sequence whose next token was due. */
type Outcome = { sequence: Sequence } & ({ token: number; logprobs?: TokenLogprobs } | { error: unknown });

/**
 * Generates the tokens of several sequences of one model together (continuous batching; Yu et al., "Orca", 2022). Each
 * `step()` is one forward pass in which the tokens of all sequences that have credit are packed: one token of each that
 * generates, and a part of the prompts of those that begin (chunked prefill; Agrawal et al., "Sarathi", 2023).
 *
 * It knows of no promises and no event loop: whoever owns it calls `step()` while it is `ready`. Sequences without credit
 * are not referred to from here, so that the garbage collector frees those that were forgotten.
 */
export class BatchDecoder implements Decoder {
  /** Sequences that have credit. Those that had their turn go to the end. */
  private readonly waiting = new Set<Sequence>();
  private evaluating: ReturnType<typeof evaluation> | undefined;
  private added = 0;

  constructor(private readonly model: GPTModel) {}

  add(request: DecodeRequest, sink: TokenSink): DecodedSequence {
    const { model } = this;
    this.evaluating = undefined; // Modules may have been replaced since the last sequence came.
    const sampler = new Sampler(request.sampling, model.device, model.config.vocabSize, request.stopTokens);
    return new Sequence(model, this.added++, request, sampler, sink, this.waiting);
  }

  /** Whether a sequence has work that it may do. */
  get ready(): boolean {
    return this.waiting.size > 0;
  }

  /** Whether a sequence has more than its last token to compute: a prompt, or a context that moved on. */
  get readsPrompts(): boolean {
    for (const { pending } of this.waiting) if (pending > 1) return true;
    return false;
  }

  /** One forward pass for the sequences whose turn it is. Never throws: errors go to the sinks of their sequences. */
  step(): void {
    const turns = this.takeTurns();
    for (const outcome of this.pass(turns)) {
      if ('token' in outcome) outcome.sequence.generated(outcome.token, outcome.logprobs);
      else outcome.sequence.failed(outcome.error);
    }
  }

  /** Removes all sequences that have credit. Others free their memory by their own `remove()`, or as garbage. */
  dispose(): void {
    for (const sequence of [...this.waiting]) sequence.remove();
  }

  /** Who takes part in the next pass, in the order in which the sequences were added. */
  private takeTurns(): Turn[] {
    const packs = this.waiting.size > 1 && isPackable(this.model);
    const mostSequences = packs ? SEQUENCES : 1;
    // Alone, a prompt is read in one pass, as `forwardCached` reads it: in parts its products would be rounded otherwise.
    let room = packs ? PROMPT_TOKENS : Infinity;
    const turns: Turn[] = [];
    for (const sequence of this.waiting) {
      if (turns.length === mostSequences) break;
      const { pending } = sequence;
      const count = pending === 1 ? 1 : Math.min(pending, room);
      if (count === 0) continue;
      if (pending > 1) room -= count;
      turns.push({ sequence, count });
    }
    for (const { sequence } of turns) {
      this.waiting.delete(sequence);
      this.waiting.add(sequence);
    }
    return turns.sort((a, b) => a.sequence.number - b.sequence.number);
  }

  private pass(turns: readonly Turn[]): Outcome[] {
    try {
      this.evaluating ??= evaluation(this.model);
      return this.evaluating(() => inferenceMode(() => tidy(() => this.compute(turns))));
    } catch (error) {
      // Caches count only what a whole pass has stored, so each can try again alone: the error is that of those who fail.
      if (turns.length > 1) return turns.flatMap((turn) => this.pass([turn]));
      return turns.map(({ sequence }) => ({ sequence, error }));
    }
  }

  private compute(turns: readonly Turn[]): Outcome[] {
    const due = turns.map(({ sequence, count }) => count === sequence.pending);
    const logits = this.forward(turns); // (S, V)
    const outcomes: Outcome[] = [];
    turns.forEach(({ sequence }, i) => {
      if (!due[i]) return;
      try {
        const own = turns.length === 1 ? logits : logits.narrow(0, i, 1); // (1, V)
        const token = sequence.sampler.next(own, sequence.tokens, sequence.generatedCount);
        const { alternatives } = sequence;
        const logprobs = alternatives === undefined ? undefined : logprobsOf(own, token, alternatives);
        outcomes.push({ sequence, token, logprobs });
      } catch (error) {
        outcomes.push({ sequence, error });
      }
    });
    return outcomes;
  }

  /** Logits after the tokens that each sequence feeds, (S, V). */
  private forward(turns: readonly Turn[]): Tensor {
    const { model } = this;
    const segments = turns.map(({ sequence, count }) => ({ cache: sequence.cache(), count }));
    const fresh = turns.flatMap(({ sequence, count }) => sequence.next(count));
    const idx = tensor([fresh], { dtype: 'int64', device: model.device }); // (1, N)
    return turns.length === 1 ? model.forwardCached(idx, segments[0]!.cache) : model.forwardPacked(idx, segments);
  }
}

class Sequence implements DecodedSequence {
  private credit = 0;
  private memory: KVCache | undefined;
  private over = false;
  readonly tokens: number[];
  /** Alternatives to give with each token's log-probability; undefined for none of both. */
  readonly alternatives: number | undefined;
  private readonly promptLength: number;
  private readonly stopTokens: ReadonlySet<number>;
  private remaining: number;
  private readonly contextShift: ContextShift;
  /** Index of the first token that the model sees: beyond the context it moves, with every token or by half a context. */
  private start: number;
  /** Positions that the next pass drops from the cache before it begins. */
  private toDrop = 0;

  constructor(
    private readonly model: GPTModel,
    readonly number: number,
    { prompt, maxNewTokens, contextShift, stopTokens = [], logprobs }: DecodeRequest,
    readonly sampler: Sampler,
    private readonly sink: TokenSink,
    private readonly waiting: Set<Sequence>,
  ) {
    this.tokens = [...prompt];
    this.promptLength = prompt.length;
    this.stopTokens = new Set(stopTokens);
    this.alternatives = logprobs;
    this.remaining = maxNewTokens;
    this.contextShift = contextShift;
    this.start = Math.max(0, prompt.length - model.config.blockSize);
  }

  grant(count: number): void {
    if (this.over) return;
    this.credit += count;
    if (this.credit > 0) this.waiting.add(this);
  }

  remove(): void {
    this.over = true;
    this.waiting.delete(this);
    this.memory?.dispose();
    this.memory = undefined;
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

  cache(): KVCache {
    const memory = (this.memory ??= this.makeCache());
    memory.drop(this.toDrop);
    this.toDrop = 0;
    return memory;
  }

  /** On the CPU with room for all tokens, so that nothing is moved later: memory takes no space until it is written to. */
  private makeCache(): KVCache {
    const { model, tokens, start, remaining } = this;
    const cache = model.makeCache();
    if (model.device === 'cpu') cache.reserve(1, Math.min(cache.free, tokens.length - start + remaining));
    return cache;
  }

  get generatedCount(): number {
    return this.tokens.length - this.promptLength;
  }

  generated(token: number, logprobs?: TokenLogprobs): void {
    if (this.over) return;
    this.tokens.push(token);
    this.credit--;
    this.remaining = this.stopTokens.has(token) ? 0 : this.remaining - 1;
    if (this.credit === 0) this.waiting.delete(this);
    this.moveWindow();
    this.changeFrequencies();
    if (this.remaining === 0) this.remove();
    this.sink.token(token, logprobs);
    if (this.remaining === 0) this.sink.end();
  }

  failed(error: unknown): void {
    if (this.over) return;
    this.remove();
    this.sink.fail(error);
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
}

/** Modules that compute each token apart from the others; attention knows the sequences. */
const PACKABLE = new Set<unknown>([
  Block,
  CausalSelfAttention,
  Dropout,
  Embedding,
  LayerNorm,
  Linear,
  LoraLinear,
  MLP,
  ModuleList,
  QuantizedLinear,
  RMSNorm,
  OnePlusRMSNorm,
]);

/**
 * Whether tokens of several sequences may be packed in one pass. Not where a program has replaced a part of the model:
 * nobody knows what that does with neighbours of another sequence.
 */
function isPackable(model: GPTModel): boolean {
  const own = GPTModel.prototype;
  if ((['forwardCached', 'makeCache'] as const).some((name) => model[name] !== own[name])) return false;
  // LongRoPE rotates by the length of the longest sequence.
  if (model.config.ropeScaling?.type === 'longrope') return false;
  return model.modules().every((module) => module === model || computesTokensApart(module));
}

function computesTokensApart(module: Module): boolean {
  return PACKABLE.has(module.constructor) && !Object.hasOwn(module, 'forward');
}
