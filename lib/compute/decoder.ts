import type { DecodedSequence, DecodeRequest, Decoder, SearchRequest, TokenSink } from '../generation/decoder';
import type { ThreadOption } from '../generation/generate';
import type { GPTModel } from '../models/gpt-model';
import { decoderOf } from '../generation/turn-decoder';
import { receiveError } from '../workers/errors';
import type { SequenceListener } from './compute-thread';
import { acquireReplica, releaseReplica } from './models';
import type { SequenceEvent } from './protocol';
import type { Replica } from './replica';
import { forkSession, holdSession, releaseSession } from './sessions';

/**
 * Tokens that a sequence with random numbers of its own, or none, generates before its reader asks for them. Others draw from the
 * default generator: alone, such a sequence draws no more than was asked for. Several share its numbers in no fixed order in any
 * case, so each is one token ahead, and nobody waits for a reader.
 */
const AHEAD = { own: 16, shared: 1 } as const;

/** Sequences that draw from the default generator now. */
let sharing = 0;

let lastNumber = 0;

/** What generates from a model: its compute thread, or this thread where that must be. */
export function decoderFor(model: GPTModel, thread: ThreadOption): Decoder {
  return thread === 'main' ? decoderOf(model) : new RemoteDecoder(model);
}

class RemoteDecoder implements Decoder {
  constructor(private readonly model: GPTModel) {}

  add(request: DecodeRequest | SearchRequest, sink: TokenSink): DecodedSequence {
    // A function of the program's own stays on its thread.
    if (request.sampling.logitsProcessor !== undefined) return decoderOf(this.model).add(request, sink);
    return new RemoteSequence(this.model, request, sink);
  }

  fork(from: number, to: number): void {
    decoderOf(this.model).fork(from, to); // where its turns were computed by this thread
    forkSession(this.model, from, to);
  }

  forget(session: number): void {
    decoderOf(this.model).forget(session);
    releaseSession(this.model, session);
  }
}

/** Ends sequences whose readers have left without a word. */
const forgotten = new FinalizationRegistry<{ model: GPTModel; replica: Replica; number: number; isShared: boolean }>(
  ({ model, replica, number, isShared }) => {
    if (isShared) sharing--;
    replica.post({ type: 'remove', sequence: number });
    replica.thread.listen(number, undefined);
    releaseReplica(model, replica, { keep: true });
  },
);

/** A sequence that a compute thread generates; it begins with the first token that is asked for. */
class RemoteSequence implements DecodedSequence, SequenceListener {
  private readonly number = ++lastNumber;
  private readonly isShared: boolean;
  private readonly stack = new Error().stack;
  private replica: Replica | undefined;
  /** On this thread, where no other can compute the model. */
  private local: DecodedSequence | undefined;
  private hasBegun = false;
  private isOver = false;
  private asked = 0;
  private granted = 0;
  private received = 0;
  private isWaiting = false;

  constructor(
    private readonly model: GPTModel,
    private readonly request: DecodeRequest | SearchRequest,
    private readonly sink: TokenSink,
  ) {
    const { seed, greedy, temperature } = request.sampling;
    this.isShared = seed === undefined && greedy !== true && temperature !== 0;
  }

  private get ahead(): number {
    if (this.local !== undefined) return 0;
    if (!this.isShared) return AHEAD.own;
    return sharing > 1 ? AHEAD.shared : 0;
  }

  grant(count: number): void {
    this.asked += count;
    if (this.isOver) return;
    if (!this.hasBegun) void this.begin();
    else this.passOn();
  }

  private async begin(): Promise<void> {
    this.hasBegun = true;
    try {
      const replica = await acquireReplica(this.model);
      if (this.isOver) return void (replica && releaseReplica(this.model, replica, { keep: true }));
      if (replica === undefined) this.local = decoderOf(this.model).add(this.request, this.sink);
      else this.listen(replica);
      this.passOn();
    } catch (error) {
      if (!this.isOver) this.sink.fail(error);
      this.remove();
    }
  }

  private listen(replica: Replica): void {
    this.replica = replica;
    if (this.isShared) sharing++;
    replica.thread.listen(this.number, this);
    if ('session' in this.request && this.request.session !== undefined)
      holdSession(this.model, this.request.session.id, replica);
    const { model, number, isShared } = this;
    forgotten.register(this, { model, replica, number, isShared }, this);
    replica.post({ type: 'add', sequence: this.number, request: this.request });
  }

  private passOn(): void {
    const { ahead } = this;
    const target = Math.min(this.request.maxNewTokens, this.asked + ahead);
    const count = target - this.granted;
    this.countReader();
    // Each message interrupts the thread that computes: while half of the tokens ahead are still granted, the next grant waits.
    const isEarly = this.granted - this.asked > ahead / 2 && target < this.request.maxNewTokens;
    if (count <= 0 || isEarly) return;
    this.granted = target;
    if (this.local !== undefined) this.local.grant(count);
    else this.replica?.post({ type: 'grant', sequence: this.number, count });
  }

  /** The process lives while a reader waits for a token, and no longer. */
  private countReader(): void {
    const waits = !this.isOver && this.replica !== undefined && this.received < this.asked;
    if (waits === this.isWaiting) return;
    this.isWaiting = waits;
    this.replica?.thread.setWaiting(this, waits);
  }

  take(event: SequenceEvent): void {
    if (this.isOver) return;
    if (event.token !== undefined) {
      this.received++;
      this.countReader();
      this.sink.token(event.token, event.logprobs);
      return;
    }
    this.end();
    if ('error' in event) return this.sink.fail(receiveError(event.error, this.stack));
    if (event.found !== undefined) this.sink.found?.(event.found);
    this.sink.end();
  }

  remove(): void {
    if (this.isOver) return;
    this.replica?.post({ type: 'remove', sequence: this.number });
    this.local?.remove();
    this.end();
  }

  private end(): void {
    this.isOver = true;
    this.countReader();
    if (this.replica === undefined) return;
    if (this.isShared) sharing--;
    forgotten.unregister(this);
    this.replica.thread.listen(this.number, undefined);
    releaseReplica(this.model, this.replica, { keep: true });
  }
}
