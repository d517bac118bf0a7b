import { inferenceMode } from '../tensor/autograd';
import { tidy } from '../tensor/scope';
import { BeamSearch } from './beam-search';
import type {
  DecodedSequence,
  DecodeRequest,
  Decoder,
  FoundSequence,
  SearchRequest,
  TokenLogprobs,
  TokenSink,
} from './decoder';
import type { GPTModel } from '../models/gpt-model';
import { forwardContexts } from './forward';
import { logprobsOf } from './logprobs';
import { evaluation } from '../models/mode';
import { isPackable } from './packable';
import { SampleGroup } from './sample-group';
import { Search } from './search';
import { Sequence, type Waiting } from './sequence';
import { SessionCaches } from './session-caches';
import { fastestThreads, weightBytes, withThreads } from './threads';

/**
 * Maximum number of prompt tokens in one pass, over all sequences, while others wait: a long prompt is read in parts.
 */
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
  /** Sequences and searches that have credit. Those that had their turn go to the end. */
  private readonly waiting = new Set<Waiting>();
  private readonly caches: SessionCaches;
  private evaluating: ReturnType<typeof evaluation> | undefined;
  private bytes: number | undefined;
  private added = 0;

  constructor(private readonly model: GPTModel) {
    this.caches = new SessionCaches(model);
  }

  add(request: DecodeRequest | SearchRequest, sink: TokenSink): DecodedSequence {
    const { model, waiting } = this;
    // The program may have replaced modules since the last sequence was added.
    this.evaluating = undefined;
    this.bytes = undefined;
    if (!('prompts' in request)) return new Sequence(model, this.added++, request, sink, waiting, this.caches);
    return new (request.beams === undefined ? SampleGroup : BeamSearch)(model, request, sink, waiting);
  }

  fork(from: number, to: number): void {
    this.caches.fork(from, to);
  }

  forget(session: number): void {
    this.caches.forget(session);
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

  /** Bytes of the model's weights. */
  get weightBytes(): number {
    return (this.bytes ??= weightBytes(this.model));
  }

  /**
   * One forward pass for the sequences whose turn it is, or a step of a search. Never throws: errors go to the sinks of their
   * sequences.
   */
  step(): void {
    const [first] = this.waiting;
    if (first instanceof Search) return this.search(first);
    const turns = this.takeTurns();
    for (const outcome of this.pass(turns)) {
      if ('token' in outcome) outcome.sequence.generated(outcome.token, outcome.logprobs);
      else outcome.sequence.failed(outcome.error);
    }
  }

  private search(search: Search): void {
    this.waiting.delete(search);
    this.waiting.add(search);
    let found: FoundSequence[] | undefined;
    try {
      found = this.evaluate(() => search.step());
    } catch (error) {
      return search.failed(error);
    }
    if (found !== undefined) search.end(found);
  }

  /**
   * Removes all sequences that have credit, and the caches of sessions. Other sequences free their memory by their own `remove()`,
   * or as garbage.
   */
  dispose(): void {
    for (const waiting of [...this.waiting]) waiting.remove();
    this.caches.dispose();
  }

  /** Who takes part in the next pass, in the order in which the sequences were added. */
  private takeTurns(): Turn[] {
    const sequences = [...this.waiting].filter((waiting) => waiting instanceof Sequence);
    const packs = sequences.length > 1 && isPackable(this.model);
    const mostSequences = packs ? SEQUENCES : 1;
    // Alone, a prompt is read in one pass, as `forwardCached` reads it: in parts its products would be rounded otherwise.
    let room = packs ? PROMPT_TOKENS : Infinity;
    const turns: Turn[] = [];
    for (const sequence of sequences) {
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
      const tokens = turns.reduce((sum, { count }) => sum + count, 0);
      const threads = fastestThreads(this.weightBytes, tokens, turns.length > 1);
      return withThreads(threads, () => this.evaluate(() => this.compute(turns)));
    } catch (error) {
      // Caches count only what a whole pass has stored, so each can try again alone: the error is that of those who fail.
      if (turns.length > 1) return turns.flatMap((turn) => this.pass([turn]));
      return turns.map(({ sequence }) => ({ sequence, error }));
    }
  }

  private evaluate<T>(fn: () => T): T {
    this.evaluating ??= evaluation(this.model);
    return this.evaluating(() => inferenceMode(() => tidy(fn)));
  }

  private compute(turns: readonly Turn[]): Outcome[] {
    const due = turns.map(({ sequence, count }) => count === sequence.pending);
    const feeds = turns.map(({ sequence: { context }, count }) => ({ context, count }));
    const logits = forwardContexts(this.model, feeds); // (S, V)
    const outcomes: Outcome[] = [];
    turns.forEach(({ sequence }, i) => {
      if (!due[i]) return;
      try {
        const own = turns.length === 1 ? logits : logits.narrow(0, i, 1); // (1, V)
        const token = sequence.sampler.next(own, sequence.context.tokens, sequence.generatedCount);
        const { alternatives } = sequence;
        const logprobs = alternatives === undefined ? undefined : logprobsOf(own, token, alternatives);
        outcomes.push({ sequence, token, logprobs });
      } catch (error) {
        outcomes.push({ sequence, error });
      }
    });
    return outcomes;
  }
}
