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
   * The generation options from the model's `generation_config.json`, or those that were set; undefined without. They
   * are not applied automatically: pass `gpt.generate(prompt, { ...gpt.generationConfig })`. `export`, and `save` in
   * Hugging Face's form, write them.
   *
   * @throws ERR_TORCHBIND_CONFIG naming a field that changes the text and that torchbind does not support
   */
  get generationConfig(): GenerationConfig | undefined {
    return this.generationJson === undefined ? undefined : readGenerationConfig(this.generationJson);
  }

  set generationConfig(options: GenerationConfig | undefined) {
    this.generationJson = options === undefined ? undefined : writeGenerationConfig(options, this.generationJson);
  }

  /**
   * Generates text. Resolves to the prompt with the text after it. An empty prompt starts a new text. Several prompts
   * give an array of texts in their order, generated together, each as in a call of its own. With `details` each result
   * is an object with the text after the prompt, its tokens, the finish reason and usage; an abort is then a finish
   * reason.
   *
   * With `numBeams`, beam search finds the most likely text. With `numReturnSequences` each prompt gives this many
   * texts, and the result is an array, prompt by prompt; sampled texts are sampled together, as in a batch of
   * transformers.
   *
   * @throws ERR_TORCHBIND_NO_TOKENIZER, ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_NONFINITE_LOGITS; the signal's
   *   reason when it is aborted
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
   * Generates the text after the prompt and yields it in pieces. A piece never ends within a character. Leaving the
   * loop stops the generation. The generator returns the object of `generate` with `details`.
   */
  stream(prompt: string, options?: GenerateOptions): TextGenerator {
    return streamText(this, prompt, options, { decoderOn: this.#decoderOn });
  }

  /**
   * Generates token ids after a prompt and yields them one at a time. Needs no tokenizer.
   *
   * @param prompt token ids, at least one
   */
  generateTokens(prompt: ArrayLike<number>, options?: GenerateTokensOptions): AsyncGenerator<number, void, undefined> {
    return streamTokens(this, prompt, options, { decoderOn: this.#decoderOn });
  }

  /** @internal As `generateTokens`. `onToken` receives each token with its log-probabilities before it is yielded. */
  readTokens(
    prompt: ArrayLike<number>,
    options: GenerateTokensOptions,
    onToken: (token: number, logprobs?: TokenLogprobs) => void,
  ): AsyncGenerator<number, void, undefined> {
    return streamTokens(this, prompt, options, { decoderOn: this.#decoderOn, onToken });
  }

  /**
   * Generates several continuations of a prompt as token ids: sampled together, or the best of a beam search. Needs no
   * tokenizer. For several prompts the results follow prompt by prompt.
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
   * Starts a conversation in turns that keeps its key-value cache.
   *
   * @param options defaults for all turns
   */
  session(options: GenerateOptions = {}): GenerationSession {
    return new GenerationSession(this, options, this.#decoderOn);
  }

  /**
   * Evaluates the model on a text, token ids or a token file: mean loss in nats, perplexity, and bits per byte. Dropout
   * is off, and nothing is sampled.
   *
   * @throws ERR_TORCHBIND_NO_TOKENIZER, ERR_TORCHBIND_INVALID_ARGUMENT; the signal's reason when it is aborted
   */
  evaluate(data: string | ArrayLike<number> | TokenFile, options?: EvaluateOptions): Promise<EvaluateResult> {
    return evaluateText(this, data, options);
  }

  /** The perplexity of `evaluate`. Compare it before and after `quantize`. */
  perplexity(text: string | ArrayLike<number>, options?: EvaluateOptions): Promise<number> {
    return perplexity(this, text, options);
  }

  /**
   * Computes a vector for each text from the hidden states of its tokens. Texts may be token ids.
   *
   * @returns float32 (N, C) on the model's device
   * @throws ERR_TORCHBIND_CONTEXT_FULL for a text longer than the context, ERR_TORCHBIND_NO_TOKENIZER,
   *   ERR_TORCHBIND_INVALID_ARGUMENT
   */
  embed(texts: readonly (string | ArrayLike<number>)[], options?: EmbedOptions): Promise<Tensor> {
    return embed(this, texts, options);
  }
}
