import { decoderFor } from '../compute';
import type { Decoder, TokenLogprobs } from '../generation/decoder';
import {
  type GenerateDetails,
  type GenerateOptions,
  generateText,
  type GenerateTokensOptions,
  streamText,
  streamTokens,
  type TextGenerator,
  type ThreadOption,
} from '../generation/generate';
import {
  asksForSearch,
  type BeamOptions,
  type GeneratedSequence,
  type GenerateSequencesOptions,
  searchText,
  searchTokens,
  type SequencesOption,
  withoutSearch,
} from '../generation/generate-search';
import { type GenerationConfig, readGenerationConfig, writeGenerationConfig } from '../generation/config';
import { GPTModel } from '../models/gpt-model';
import { GenerationSession } from '../generation/session';
import type { TokenFile } from '../data';
import type { Tensor } from '../tensor/tensor';
import { evaluateText, type EvaluateOptions, type EvaluateResult, perplexity } from '../train';
import { embed, type EmbedOptions } from './embed';

/** A GPT that reads and writes text. */
export class TextModel extends GPTModel {
  readonly #decoderOn = (thread: ThreadOption): Decoder => decoderFor(this, thread);

  /**
   * The options that came with the model in Hugging Face's `generation_config.json`, or that were set; undefined without. Nothing uses
   * them by itself: `gpt.generate(prompt, { ...gpt.generationConfig })`. `export` writes them, and so does `save` in the form of
   * Hugging Face.
   *
   * @throws ERR_TORCHBIND_CONFIG naming a field that changes the text and that torchbind does not have
   */
  get generationConfig(): GenerationConfig | undefined {
    return this.generationJson === undefined ? undefined : readGenerationConfig(this.generationJson);
  }

  set generationConfig(options: GenerationConfig | undefined) {
    this.generationJson = options === undefined ? undefined : writeGenerationConfig(options, this.generationJson);
  }

  /**
   * The prompt and the text that the model writes after it. An empty prompt begins a new text. Several prompts give
   * several texts, in their order, each as a call of its own would give it; they are generated together. With `details` each
   * is an object with the text after the prompt, its tokens, how it ended, and usage; an abort is one of the ends then.
   *
   * With `numBeams` the likeliest text is searched for. With `numReturnSequences` each prompt gives so many texts, and the result is a
   * list, prompt by prompt; texts that are drawn are drawn together, as transformers draws a batch.
   *
   * @throws ERR_TORCHBIND_NO_TOKENIZER, ERR_TORCHBIND_INVALID_ARGUMENT; the signal's reason when it is aborted
   */
  generate(
    prompt: string | readonly string[],
    options: GenerateOptions & BeamOptions & SequencesOption & { details: true },
  ): Promise<GenerateDetails[]>;
  generate(
    prompt: string | readonly string[],
    options: GenerateOptions & BeamOptions & SequencesOption,
  ): Promise<string[]>;
  generate(prompt: string, options: GenerateOptions & BeamOptions & { details: true }): Promise<GenerateDetails>;
  generate(
    prompts: readonly string[],
    options: GenerateOptions & BeamOptions & { details: true },
  ): Promise<GenerateDetails[]>;
  generate(prompt: string, options?: GenerateOptions & BeamOptions): Promise<string>;
  generate(prompts: readonly string[], options?: GenerateOptions & BeamOptions): Promise<string[]>;
  generate(prompt: string | readonly string[], options: GenerateOptions & BeamOptions = {}): Promise<unknown> {
    if (asksForSearch(options)) return searchText(this, prompt, options, this.#decoderOn);
    return generateText(this, prompt, withoutSearch(options), this.#decoderOn);
  }

  /**
   * The text after the prompt, in pieces as it is written. Leaving the loop ends the generation. The generator returns what
   * `generate` gives with `details`.
   */
  stream(prompt: string, options?: GenerateOptions): TextGenerator {
    return streamText(this, prompt, options, { decoderOn: this.#decoderOn });
  }

  /** Token ids that the model writes after those of the prompt, one at a time. Needs no tokenizer. */
  generateTokens(prompt: ArrayLike<number>, options?: GenerateTokensOptions): AsyncGenerator<number, void, undefined> {
    return streamTokens(this, prompt, options, { decoderOn: this.#decoderOn });
  }

  /** @internal As `generateTokens`; `onToken` takes each token with its log-probabilities before it is given. */
  readTokens(
    prompt: ArrayLike<number>,
    options: GenerateTokensOptions,
    onToken: (token: number, logprobs?: TokenLogprobs) => void,
  ): AsyncGenerator<number, void, undefined> {
    return streamTokens(this, prompt, options, { decoderOn: this.#decoderOn, onToken });
  }

  /**
   * Several continuations of a prompt as token ids: drawn together, or the best of a beam search. Needs no tokenizer. Several prompts
   * give those of each, prompt by prompt.
   *
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT; the signal's reason when it is aborted
   */
  async generateSequences(
    prompt: ArrayLike<number> | readonly ArrayLike<number>[],
    options: GenerateSequencesOptions = {},
  ): Promise<GeneratedSequence[]> {
    const isList = Array.isArray(prompt) && typeof prompt[0] === 'object';
    const prompts = (isList ? prompt : [prompt]) as readonly ArrayLike<number>[];
    return searchTokens(this, prompts, options, this.#decoderOn);
  }

  /**
   * A text that is written in turns, whose keys and values are kept between them.
   *
   * @param options of all its turns
   */
  session(options: GenerateOptions = {}): GenerationSession {
    return new GenerationSession(this, options, this.#decoderOn);
  }

  /**
   * How well the model predicts a text, token ids or a file of them: mean loss, perplexity, and bits for each byte. Nothing is drawn,
   * and dropout is off.
   *
   * @throws ERR_TORCHBIND_NO_TOKENIZER, ERR_TORCHBIND_INVALID_ARGUMENT; the signal's reason when it is aborted
   */
  evaluate(data: string | ArrayLike<number> | TokenFile, options?: EvaluateOptions): Promise<EvaluateResult> {
    return evaluateText(this, data, options);
  }

  /** The perplexity that `evaluate` gives. Compare it before and after `quantize`. */
  perplexity(text: string | ArrayLike<number>, options?: EvaluateOptions): Promise<number> {
    return perplexity(this, text, options);
  }

  /**
   * A vector for each text: hidden states of its tokens, made one. Texts may be token ids.
   *
   * @returns float32 (N, C) on the model's device
   * @throws ERR_TORCHBIND_CONTEXT_FULL for a text longer than the context, ERR_TORCHBIND_NO_TOKENIZER, ERR_TORCHBIND_INVALID_ARGUMENT
   */
  embed(texts: readonly (string | ArrayLike<number>)[], options?: EmbedOptions): Promise<Tensor> {
    return embed(this, texts, options);
  }
}
