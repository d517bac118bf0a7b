import type { FoundSequence, TokenLogprobs, TokenSink } from './decoder';

/** The tokens of one sequence, from the sink that a decoder fills to a reader that waits for each. */
export class TokenQueue implements TokenSink {
  private readonly tokens: number[] = [];
  private readonly logprobs: TokenLogprobs[] = [];
  private sequences: FoundSequence[] | undefined;
  private ended = false;
  private failure: { error: unknown } | undefined;
  private wake: (() => void) | undefined;

  token(id: number, logprobs?: TokenLogprobs): void {
    this.tokens.push(id);
    if (logprobs !== undefined) this.logprobs.push(logprobs);
    this.wake?.();
  }

  found(sequences: FoundSequence[]): void {
    this.sequences = sequences;
  }

  end(): void {
    this.ended = true;
    this.wake?.();
  }

  fail(error: unknown): void {
    this.failure = { error };
    this.wake?.();
  }

  /**
   * The next token; undefined after the last one.
   *
   * @throws what the sequence failed with; the signal's reason when it is aborted before the token is there
   */
  async next(signal: AbortSignal | undefined): Promise<number | undefined> {
    if (this.isEmpty) await this.arrival(signal);
    if (this.isEmpty) signal?.throwIfAborted();
    const token = this.tokens.shift();
    if (token === undefined && this.failure !== undefined) throw this.failure.error;
    return token;
  }

  /**
   * What a search has found.
   *
   * @throws as `next` does
   */
  async result(signal: AbortSignal | undefined): Promise<FoundSequence[]> {
    await this.next(signal);
    return this.sequences!;
  }

  /** The log-probabilities of the token that `next` gave, where they were asked for. */
  takeLogprobs(): TokenLogprobs | undefined {
    return this.logprobs.shift();
  }

  private get isEmpty(): boolean {
    return this.tokens.length === 0 && !this.ended && this.failure === undefined;
  }

  /** Waits for the sink or the signal. The signal refers to this queue only while it waits. */
  private async arrival(signal: AbortSignal | undefined): Promise<void> {
    await new Promise<void>((resolve) => {
      this.wake = resolve;
      signal?.addEventListener('abort', resolve as () => void);
    });
    signal?.removeEventListener('abort', this.wake!);
    this.wake = undefined;
  }
}
