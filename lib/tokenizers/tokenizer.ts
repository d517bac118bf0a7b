import type { ChatMessage, ChatTemplateOptions, ChatTemplates } from './chat-template';

/** Turns text into token ids and back. A tokenizer is immutable: one may serve any number of models. */
export interface Tokenizer {
  /** Its kind: `char`, `gpt2`, `hugging-face`. */
  readonly kind: string;

  /** Ids lie in [0, vocabSize). A model may have more rows than that (50,304 for the 50,257 of GPT-2). */
  readonly vocabSize: number;

  /** What text without a prompt starts from: the end of the text before, or else the first id. */
  readonly startId: number;

  /** The token that ends a text; undefined if the tokenizer has none. */
  readonly endId?: number | undefined;

  /**
   * The ids of a text, and no others: nothing is put before or after it. Throws `ERR_TORCHBIND_UNKNOWN_CHARACTER` where the
   * vocabulary lacks a character.
   */
  encode(text: string): Int32Array;

  /**
   * The same without holding the event loop: a text of more than 64 kB is encoded on a worker thread. Where it is missing,
   * as it may be in a tokenizer of your own, `encode` is called.
   */
  encodeAsync?(text: string): Promise<Int32Array>;

  /** False where the first `encode` of this thread must read or make the vocabulary before. `encodeAsync` does that too. */
  readonly isReady?: boolean;

  /**
   * The text of ids. Ids past the vocabulary, which a padded model can sample, and bytes that are not UTF-8 become
   * U+FFFD. Throws `ERR_TORCHBIND_INVALID_ARGUMENT` for what is not an id at all.
   */
  decode(ids: ArrayLike<number>): string;

  /**
   * Decodes ids one at a time, as they are generated.
   *
   * @param after the ids that come before, which some tokenizers need: a first word is written without its space
   */
  decoder(after?: ArrayLike<number>): StreamDecoder;

  /** How a conversation is written; undefined where nothing says it. */
  readonly chatTemplate?: ChatTemplates | undefined;

  /**
   * The text of a conversation, as the tokenizer's chat template writes it. Missing where a kind of tokenizer has no templates;
   * throws `ERR_TORCHBIND_CHAT_TEMPLATE` where this one has none.
   */
  applyChatTemplate?(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;

  /** What `tokenizer.json` holds. */
  toJson(): TokenizerJson | HuggingFaceJson;
}

/** Decodes a stream of ids to pieces of text, none of which ends within a character. */
export interface StreamDecoder {
  /** The text that became complete with this id; '' where it ends within a character. */
  push(id: number): string;
  /** What is left at the end: U+FFFD for an incomplete character, mostly ''. */
  end(): string;
}

/** The contents of `tokenizer.json` in a bundle, with the names that the Python programs use. */
export interface TokenizerJson {
  token_kind: string;
  /** The vocabulary of a character tokenizer, by id; null for others. */
  chars: string[] | null;
  /** Fields of newer programs, which are kept. */
  [field: string]: unknown;
}

/** The contents of Hugging Face's `tokenizer.json`. */
export type HuggingFaceJson = Readonly<Record<string, unknown>>;

/** Fields of a bundle's `tokenizer.json` besides kind and vocabulary, which are kept and written back. */
export type TokenizerFields = Readonly<Record<string, unknown>>;
