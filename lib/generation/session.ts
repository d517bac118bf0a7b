import { checkArgument, checkFunction, checkIterable, checkOptions, TorchBindError } from '../errors';
import type { Tokenizer } from '../tokenizers';
import type { Decoder } from './decoder';
import {
  endOf,
  type GenerateDetails,
  type GenerateOptions,
  type GenerateTokensOptions,
  type Reading,
  readPrompt,
  streamText,
  streamTokens,
  TEXT_OPTIONS,
  type TextGenerator,
  type ThreadOption,
} from './generate';
import { GPTModel } from '../models/gpt-model';
import { weightsVersion } from './session-caches';
import { decoderOf } from './turn-decoder';

let lastId = 0;

/** Frees the caches of garbage-collected sessions. */
const forgotten = new FinalizationRegistry<{ decoder: Decoder; id: number }>(({ decoder, id }) => decoder.forget(id));

/** The tokens of a turn. */
interface Turn {
  /** Tokens of the text up to the end of the prompt; undefined until they are encoded. */
  prompt: readonly number[] | undefined;
  written: number[];
}

/**
 * A conversation that the model and its user write in turns. The key-value cache is kept between turns, so that each
 * turn computes only its new tokens. Results equal those of calls without a session up to rounding, because the turns
 * are computed separately. After the weights change, the next turn recomputes the whole text.
 *
 * `gpt.session()` makes one. `dispose()` or the garbage collector frees its memory.
 */
export class GenerationSession {
  private readonly id = ++lastId;
  private ids: readonly number[] = [];
  private isBusy = false;
  private isDisposed = false;

  /** @internal */
  constructor(
    private readonly model: GPTModel,
    private readonly defaults: GenerateOptions = {},
    private readonly decoderOn: (thread: ThreadOption) => Decoder = () => decoderOf(model),
  ) {
    checkArgument(model instanceof GPTModel, 'a GPT', model, 'GenerationSession');
    checkFunction(decoderOn, 'GenerationSession: decoderOn');
    checkOptions(defaults, TEXT_OPTIONS, 'session');
    forgotten.register(this, { decoder: decoderOn('worker'), id: this.id }, this);
  }

  /** Token ids of the whole text so far, including prompts. */
  get tokens(): number[] {
    return [...this.ids];
  }

  /** The whole text so far, including prompts. */
  get text(): string {
    return this.model.tokenizer?.decode(this.ids) ?? '';
  }

  /**
   * Adds a prompt and generates the text after it. Resolves to the generated text. A stop text does not become part of
   * the conversation.
   *
   * @param options override those of `gpt.session(options)`
   * @throws ERR_TORCHBIND_BUSY during another turn, ERR_TORCHBIND_DISPOSED after `dispose()`; otherwise as
   *   `gpt.generate`
   */
  generate(prompt: string, options: GenerateOptions & { details: true }): Promise<GenerateDetails>;
  generate(prompt: string, options?: GenerateOptions): Promise<string>;
  async generate(prompt: string, options: GenerateOptions = {}): Promise<unknown> {
    const details = await endOf(this.write(prompt, options, true));
    return { ...this.defaults, ...options }.details === true ? details : details.text;
  }

  /**
   * As `generate`, but yields the text in pieces. Leaving the loop ends the turn; the conversation then has the text so
   * far.
   */
  stream(prompt: string, options: GenerateOptions = {}): TextGenerator {
    return this.write(prompt, options, false);
  }

  /** As `generate`, with token ids that are yielded one at a time. Needs no tokenizer. */
  generateTokens(
    prompt: ArrayLike<number>,
    options: GenerateTokensOptions = {},
  ): AsyncGenerator<number, void, undefined> {
    checkIterable(prompt, 'an array of token ids', 'generateTokens');
    const before = this.ids;
    const ids = readPrompt([...before, ...Array.from(prompt)], this.model);
    const turn: Turn = { prompt: ids, written: [] };
    const { details, ...defaults } = this.defaults;
    void details; // of texts
    const tokens = streamTokens(this.model, ids, { ...defaults, ...options }, this.reading(turn));
    return this.take(before, tokens, () => (this.ids = [...ids, ...turn.written]));
  }

  private write(prompt: string, options: GenerateOptions, all: boolean): TextGenerator {
    const before = this.ids;
    const turn: Turn = { prompt: undefined, written: [] };
    const reading: Reading = { ...this.reading(turn), all, before, onPrompt: (ids) => (turn.prompt = ids) };
    const settings = { ...this.defaults, ...options };
    const stream = streamText(this.model, prompt, settings, reading);
    return this.take(before, stream, (details) => {
      const { prompt: begun, written } = turn;
      if (begun === undefined) return;
      const endsInText = details?.finishReason === 'stop' && settings.stopTokens?.includes(written.at(-1)!) !== true;
      const kept = endsInText ? beforeStop(this.model.tokenizer!, begun, written, details.text) : written;
      this.ids = [...begun, ...kept];
    }) as TextGenerator;
  }

  private reading({ written }: Turn): Reading {
    return {
      decoderOn: this.decoderOn,
      session: () => ({ id: this.id, weights: weightsVersion(this.model) }),
      onToken: (token) => written.push(token),
    };
  }

  /** Yields the results of a turn. Only one turn runs at a time. */
  private async *take<T, R>(
    before: readonly number[],
    stream: AsyncGenerator<T, R, undefined>,
    onEnd: (result: R | undefined) => void,
  ): AsyncGenerator<T, R, undefined> {
    if (this.isDisposed) throw new TorchBindError('The session has been disposed.', 'ERR_TORCHBIND_DISPOSED');
    if (this.isBusy || this.ids !== before)
      throw new TorchBindError(
        'A session writes one turn at a time, and another turn has begun. Wait for its end, or fork() the session.',
        'ERR_TORCHBIND_BUSY',
      );
    this.isBusy = true;
    let result: R | undefined;
    try {
      result = yield* stream;
      return result;
    } finally {
      this.isBusy = false;
      onEnd(result);
      if (this.isDisposed) this.decoderOn('worker').forget(this.id);
    }
  }

  /**
   * Makes an independent session with the same text and a copy of the cache.
   *
   * @throws ERR_TORCHBIND_BUSY during a turn, ERR_TORCHBIND_DISPOSED
   */
  fork(): GenerationSession {
    if (this.isDisposed) throw new TorchBindError('The session has been disposed.', 'ERR_TORCHBIND_DISPOSED');
    if (this.isBusy) throw new TorchBindError('A session cannot be forked during a turn.', 'ERR_TORCHBIND_BUSY');
    const fork = new GenerationSession(this.model, this.defaults, this.decoderOn);
    fork.ids = this.ids;
    this.decoderOn('worker').fork(this.id, fork.id);
    return fork;
  }

  /** Frees the cache. A running turn may finish. */
  dispose(): void {
    this.isDisposed = true;
    forgotten.unregister(this);
    if (!this.isBusy) this.decoderOn('worker').forget(this.id);
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The tokens before a stop text. If the stop text begins within a token, the rest before it is re-encoded. */
function beforeStop(
  tokenizer: Tokenizer,
  prompt: readonly number[],
  written: readonly number[],
  text: string,
): readonly number[] {
  const decoder = tokenizer.decoder(prompt);
  let decoded = '';
  for (const [i, token] of written.entries()) {
    const piece = decoder.push(token);
    if (!text.startsWith(decoded + piece) || (decoded === text && piece === ''))
      return [...written.slice(0, i), ...tokenizer.encode(text.slice(decoded.length))];
    decoded += piece;
  }
  return written;
}
