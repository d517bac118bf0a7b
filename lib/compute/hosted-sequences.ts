import { BatchDecoder } from '../generation/batch-decoder';
import type {
  DecodedSequence,
  DecodeRequest,
  FoundSequence,
  SearchRequest,
  TokenLogprobs,
} from '../generation/decoder';
import type { GPTModel } from '../models/gpt-model';
import { withThreads } from '../generation/threads';
import { getNumThreads } from '../tensor/device';
import { postError } from '../workers/errors';
import type { Notice, SequenceEvent } from './protocol';

/** The longest wait for readers, in milliseconds. */
const LONGEST_WAIT = 2;

/** Bytes of weights above which all cores compute, whatever the readers do. */
const LARGE_MODEL = 128 * 2 ** 20;

interface HostedSequence {
  decoded: DecodedSequence;
  /** Tokens that it may still generate. */
  credit: number;
}

/** The sequences that a compute thread generates from one model. */
export class HostedSequences {
  private readonly decoder: BatchDecoder;
  private readonly sequences = new Map<number, HostedSequence>();
  /** Sequences whose reader has a token and has not asked for the next one yet. */
  private readonly reading = new Set<number>();
  /** When the last step began and ended. */
  private began = 0;
  private ended = 0;

  constructor(
    model: GPTModel,
    private readonly emit: (event: SequenceEvent) => void,
  ) {
    this.decoder = new BatchDecoder(model);
  }

  /** Whether there is something to compute. */
  get isActive(): boolean {
    return this.decoder.ready;
  }

  get size(): number {
    return this.sequences.size;
  }

  /** Whether the readers of the last step's tokens may still be expected to ask for the next ones. */
  get awaitsReaders(): boolean {
    return this.reading.size > 0 && performance.now() - this.ended < LONGEST_WAIT;
  }

  notice(notice: Exclude<Notice, { type: 'release' }>): void {
    switch (notice.type) {
      case 'add':
        return this.add(notice.sequence, notice.request);
      case 'grant':
        return this.grant(notice.sequence, notice.count);
      case 'remove':
        return this.remove(notice.sequence);
      case 'fork':
        return this.decoder.fork(notice.from, notice.to);
      case 'forget':
        return this.decoder.forget(notice.session);
    }
  }

  /**
   * One step. Readers that take a token at a time ask for the next one a moment later, and then all are generated in one step
   * again: for these it waits a little.
   */
  step(): void {
    const wait = Math.min(LONGEST_WAIT, (this.ended - this.began) / 4);
    if (this.reading.size > 0 && performance.now() - this.ended < wait) return;
    this.reading.clear();
    this.began = performance.now();
    this.decode();
    this.ended = performance.now();
  }

  /**
   * Several sequences usually have readers that pass the tokens on over the network. Their thread gets a core: it would stop one of
   * ours, and the others would wait for it at the end of every operator. The operators of a large model take so long that this does
   * not matter.
   */
  private decode(): void {
    const threads = getNumThreads();
    const { decoder } = this;
    const sparesOne =
      threads > 1 && this.sequences.size > 1 && !decoder.readsPrompts && decoder.weightBytes <= LARGE_MODEL;
    withThreads(sparesOne ? threads - 1 : threads, () => decoder.step());
  }

  private add(number: number, request: DecodeRequest | SearchRequest): void {
    let found: FoundSequence[] | undefined;
    const sink = {
      token: (token: number, logprobs?: TokenLogprobs): void => {
        if (--this.sequences.get(number)!.credit === 0) this.reading.add(number);
        this.emit({ sequence: number, token, logprobs });
      },
      found: (sequences: FoundSequence[]): void => {
        found = sequences;
      },
      end: (): void => {
        this.forget(number);
        this.emit({ sequence: number, isEnd: true, found });
      },
      fail: (error: unknown): void => {
        this.forget(number);
        this.emit({ sequence: number, error: postError(error) });
      },
    };
    try {
      this.sequences.set(number, { decoded: this.decoder.add(request, sink), credit: 0 });
    } catch (error) {
      sink.fail(error);
    }
  }

  private grant(number: number, count: number): void {
    const sequence = this.sequences.get(number);
    if (sequence === undefined) return; // it ended meanwhile
    sequence.credit += count;
    this.reading.delete(number);
    sequence.decoded.grant(count);
  }

  private remove(number: number): void {
    this.sequences.get(number)?.decoded.remove();
    this.forget(number);
  }

  private forget(number: number): void {
    this.sequences.delete(number);
    this.reading.delete(number);
  }

  close(): void {
    for (const { decoded } of this.sequences.values()) decoded.remove();
    this.decoder.dispose();
  }
}
