import { cat } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import type { Context } from './context';
import type { DecodedSequence, FoundSequence, TokenSink } from './decoder';
import type { GPTModel } from '../models/gpt-model';
import { forwardContexts } from './forward';
import { isPackable } from './packable';
import type { Waiting } from './sequence';

/** Texts in one pass. */
const MOST_PACKED = 64;

/** Texts that grow together, a token each a step. It is granted once, and gives all that it has found at the end. */
export abstract class Search implements DecodedSequence, Waiting {
  private over = false;

  constructor(
    protected readonly model: GPTModel,
    private readonly sink: TokenSink,
    private readonly waiting: Set<Waiting>,
  ) {}

  /** The contexts that hold memory now. */
  protected abstract contexts(): Iterable<Context>;

  /** One step of all texts. What is found at the last one is returned. */
  abstract step(): FoundSequence[] | undefined;

  get pending(): number {
    let most = 1;
    for (const { pending } of this.contexts()) most = Math.max(most, pending);
    return most;
  }

  grant(count: number): void {
    if (!this.over && count > 0) this.waiting.add(this);
  }

  remove(): void {
    this.over = true;
    this.waiting.delete(this);
    for (const context of this.contexts()) context.dispose();
  }

  end(found: FoundSequence[]): void {
    if (this.over) return;
    this.remove();
    this.sink.found?.(found);
    this.sink.end();
  }

  failed(error: unknown): void {
    if (this.over) return;
    this.remove();
    this.sink.fail(error);
  }

  /** Logits after the last token of each context, float32 (S, V). */
  protected forward(contexts: readonly Context[]): Tensor {
    const feeds = contexts.map((context) => ({ context, count: context.pending }));
    const packs = isPackable(this.model) && feeds.every(({ count }) => count === 1);
    const size = packs ? MOST_PACKED : 1;
    const logits: Tensor[] = [];
    for (let first = 0; first < feeds.length; first += size)
      logits.push(forwardContexts(this.model, feeds.slice(first, first + size)));
    return (logits.length === 1 ? logits[0]! : cat(logits, 0)).to('float32');
  }
}
