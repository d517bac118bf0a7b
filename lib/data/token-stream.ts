import path from 'node:path';
import {
  checkArgument,
  checkOptions,
  checkText,
  describe,
  isAtLeast,
  type PathLike,
  toPath,
  TorchBindError,
} from '../errors';
import { encodeText, type Tokenizer } from '../tokenizers';
import { encodeDocuments, encodeDocumentsAsync, type Separator } from './documents';
import { TokenFile, type TokenFileOptions } from './token-file';

/** Token ids in memory or in a file. */
export type Tokens = Int32Array | Uint16Array | Uint32Array | TokenFile;

/** @internal Refuses what is not token ids. */
export function checkTokens(tokens: unknown, where: string): void {
  const kinds = [Int32Array, Uint16Array, Uint32Array, TokenFile];
  if (kinds.some((kind) => tokens instanceof kind)) return;
  throw new TorchBindError(
    `${where}: tokens must be an Int32Array, a Uint16Array, a Uint32Array or a TokenFile, got ${describe(tokens)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** Options of `TokenStream`. */
export interface TokenStreamOptions {
  /** Fraction of the tokens, at the end, that is held out for validation. Default 0.1. */
  validationFraction?: number;
}

/** A long sequence of tokens, split into a training and a validation part. */
export class TokenStream {
  readonly train: Tokens;
  readonly validation: Tokens;

  constructor(tokens: Tokens, options: TokenStreamOptions = {}) {
    checkTokens(tokens, 'TokenStream');
    checkOptions(options, ['validationFraction'], 'TokenStream');
    const { validationFraction = 0.1 } = options;
    if (!(isAtLeast(validationFraction, 0) && validationFraction < 1)) {
      throw new TorchBindError(
        `TokenStream: validationFraction must be at least 0 and below 1, got ${describe(validationFraction)}`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    const cut = Math.floor((1 - validationFraction) * tokens.length); // Python: int(0.9 * len(tokens))
    const part = (start: number, end: number): Tokens =>
      tokens instanceof TokenFile ? tokens.slice(start, end) : tokens.subarray(start, end);
    this.train = part(0, cut);
    this.validation = part(cut, tokens.length);
  }

  /** Makes a stream from separate training and validation tokens. */
  static of(train: Tokens, validation: Tokens): TokenStream {
    checkTokens(validation, 'TokenStream.of');
    const stream = new TokenStream(train, { validationFraction: 0 }) as { validation: Tokens };
    stream.validation = validation;
    return stream as TokenStream;
  }

  /**
   * Opens a data directory of nanoGPT: `train.bin` and `val.bin`, memory-mapped. `loadTokenizer(directory)` reads the
   * vocabulary of its `meta.pkl`; without one, the ids are GPT-2's.
   *
   * @throws ERR_TORCHBIND_DATA if one of the files is missing or invalid
   */
  static open(target: PathLike, options?: TokenFileOptions): TokenStream {
    const directory = toPath(target, 'TokenStream.open');
    const [train, validation] = ['train.bin', 'val.bin'].map((name) =>
      TokenFile.open(path.join(directory, name), options),
    );
    return TokenStream.of(train!, validation!);
  }

  /**
   * Encodes texts one after the other, each followed by a separator. Windows may span separators, as in GPT-2's and
   * nanoGPT's training: the model learns that a separator starts another text.
   */
  static fromDocuments(
    documents: Iterable<string>,
    tokenizer: Tokenizer,
    options: TokenStreamOptions & { separator?: Separator } = {},
  ): TokenStream {
    checkOptions(options, ['separator', 'validationFraction'], 'TokenStream.fromDocuments');
    const { separator, ...division } = options;
    return new TokenStream(encodeDocuments(documents, tokenizer, separator), division);
  }

  /** As `fromDocuments`, without blocking the event loop: long texts are encoded on a worker thread. */
  static async fromDocumentsAsync(
    documents: Iterable<string>,
    tokenizer: Tokenizer,
    options: TokenStreamOptions & { separator?: Separator } = {},
  ): Promise<TokenStream> {
    checkOptions(options, ['separator', 'validationFraction'], 'TokenStream.fromDocumentsAsync');
    const { separator, ...division } = options;
    return new TokenStream(await encodeDocumentsAsync(documents, tokenizer, separator), division);
  }

  /** Encodes a text synchronously: a megabyte takes GPT-2's tokenizer most of a second. */
  static fromText(text: string, tokenizer: Tokenizer, options?: TokenStreamOptions): TokenStream {
    checkEncoding(text, tokenizer, 'TokenStream.fromText()');
    return new TokenStream(tokenizer.encode(text), options);
  }

  /** As `fromText`, without blocking the event loop: a long text is encoded on a worker thread. */
  static async fromTextAsync(text: string, tokenizer: Tokenizer, options?: TokenStreamOptions): Promise<TokenStream> {
    checkEncoding(text, tokenizer, 'TokenStream.fromTextAsync()');
    return new TokenStream(await encodeText(tokenizer, text), options);
  }
}

function checkEncoding(text: unknown, tokenizer: unknown, where: string): void {
  checkText(text, where);
  const canEncode = typeof (tokenizer as Partial<Tokenizer> | null | undefined)?.encode === 'function';
  checkArgument(canEncode, 'a tokenizer', tokenizer, where);
}
