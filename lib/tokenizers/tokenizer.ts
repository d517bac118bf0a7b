import type { ChatMessage, ChatTemplateOptions, ChatTemplates } from './chat-template';

/** Converts text to token ids and back. A tokenizer is immutable, and several models may share it. */
export interface Tokenizer {
  /** Its kind: `char`, `gpt2`, `hugging-face`. */
  readonly kind: string;

  /** Ids are in [0, vocabSize). A model may have more rows (50,304 for the 50,257 of GPT-2). */
  readonly vocabSize: number;

  /** The token id from which text without a prompt starts: the end-of-text token, or else the first id. */
  readonly startId: number;

  /** The id of the end-of-text token; undefined if the tokenizer has none. */
  readonly endId?: number | undefined;

  /**
   * Encodes a text without adding special tokens. Throws `ERR_TORCHBIND_UNKNOWN_CHARACTER` for a character that the
   * vocabulary lacks.
   */
  encode(text: string): Int32Array;

  /**
   * As `encode`, without blocking the event loop: a text of more than 64 kB is encoded on a worker thread. Optional in
   * a tokenizer of your own; without it `encode` is called.
   */
  encodeAsync?(text: string): Promise<Int32Array>;

  /** False if the first `encode` on this thread must read or build the vocabulary. `encodeAsync` does that too. */
  readonly isReady?: boolean;

  /**
   * Decodes ids to text. Ids beyond the vocabulary, which a padded model can sample, and bytes that are not UTF-8
   * become U+FFFD. Throws `ERR_TORCHBIND_INVALID_ARGUMENT` for values that are not ids.
   */
  decode(ids: ArrayLike<number>): string;

  /**
   * Makes a decoder for ids that arrive one at a time.
   *
   * @param after the preceding ids, which some tokenizers need: they write a first word without its space
   */
  decoder(after?: ArrayLike<number>): StreamDecoder;

  /** The chat template; undefined without one. */
  readonly chatTemplate?: ChatTemplates | undefined;

  /**
   * Formats a conversation with the tokenizer's chat template. Missing in kinds of tokenizers without templates. Throws
   * `ERR_TORCHBIND_CHAT_TEMPLATE` if this one has none.
   */
  applyChatTemplate?(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;

  /** The contents of `tokenizer.json`. */
  toJson(): TokenizerJson | HuggingFaceJson;
}

/** Decodes a stream of ids to pieces of text, none of which ends within a character. */
export interface StreamDecoder {
  /** The text that is complete with this id; '' within a character. */
  push(id: number): string;
  /** The rest at the end: U+FFFD for an incomplete character, usually ''. */
  end(): string;
}

/** The contents of `tokenizer.json` in a bundle, with the names that the Python programs use. */
export interface TokenizerJson {
  token_kind: string;
  /** The vocabulary of a character tokenizer, by id; null for others. */
  chars: string[] | null;
  /** Further fields, which are kept. */
  [field: string]: unknown;
}

/** The contents of Hugging Face's `tokenizer.json`. */
export type HuggingFaceJson = Readonly<Record<string, unknown>>;

/** Fields of a bundle's `tokenizer.json` besides kind and vocabulary, which are kept and written back. */
export type TokenizerFields = Readonly<Record<string, unknown>>;
