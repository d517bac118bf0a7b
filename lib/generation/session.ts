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

/** Frees the caches of sessions that were forgotten. */
const forgotten = new FinalizationRegistry<{ decoder: Decoder; id: number }>(({ decoder, id }) => decoder.forget(id));

/** The tokens of a turn. */
interface Turn {
  /** Of the text up to the end of the prompt; undefined while it is not encoded. */
  prompt: readonly number[] | undefined;
  written: number[];
}

/**
 * A text that the model and its user write in turns. Between turns the keys and values of what the model has seen are kept, so that
 * each turn computes its new tokens only. What is written is what a call without a session writes, but for rounding: the parts of
 * the text are computed apart. After the weights have changed, the next turn computes the whole text anew.
 *
 * `gpt.session()` makes one. Its memory is freed by `dispose()`, or with the garbage.
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

  /** The token ids of the whole text so far, prompts included. */
  get tokens(): number[] {
    return [...this.ids];
  }

  /** The whole text so far. */
  get text(): string {
    return this.model.tokenizer?.decode(this.ids) ?? '';
  }

  /**
   * Adds a prompt to the text, and what the model writes after it, which is returned. A stop text does not become part of the text.
   *
   * @param options go before those of `gpt.session(options)`
   * @throws ERR_TORCHBIND_BUSY during another turn, ERR_TORCHBIND_DISPOSED after `dispose()`; otherwise as `gpt.generate`
   */
  generate(prompt: string, options: GenerateOptions & { details: true }): Promise<GenerateDetails>;
  generate(prompt: string, options?: GenerateOptions): Promise<string>;
  async generate(prompt: string, options: GenerateOptions = {}): Promise<unknown> {
    const details = await endOf(this.write(prompt, options, true));
    return { ...this.defaults, ...options }.details === true ? details : details.text;
  }

  /** The same in pieces, as they are written. Leaving the loop ends the turn; the text holds what was written until then. */
  stream(prompt: string, options: GenerateOptions = {}): TextGenerator {
    return this.write(prompt, options, false);
  }

  /** The same with token ids, one at a time. Needs no tokenizer. */
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

  /** Passes on what a turn writes, one turn at a time. */
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
   * Another session with the same text, which goes its own way from here. What the model has seen is copied.
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

  /** Frees the memory of what the model has seen; a turn under way may end. */
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

/** The tokens of a text that a stop text ended. Where that began within a token, the rest before it is encoded. */
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
