import { checkOptions, describe, TorchBindError } from '../errors';
import type { Tokenizer } from '../tokenizers';

/** Token ids one after the other. */
export type Tokens = Int32Array | Uint16Array;

/** @internal Refuses what is no typed array of token ids. */
export function checkTokens(tokens: unknown, where: string): void {
  if (tokens instanceof Int32Array || tokens instanceof Uint16Array) return;
  throw new TorchBindError(
    `${where}: tokens must be an Int32Array or a Uint16Array, got ${describe(tokens)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

export interface TokenStreamOptions {
  /** Part of the tokens, at the end, that training never sees. Default 0.1. */
  validationFraction?: number;
}

/** One long sequence of tokens, cut into a part to train on and a part to validate on. */
export class TokenStream {
  readonly train: Tokens;
  readonly validation: Tokens;

  constructor(tokens: Tokens, options: TokenStreamOptions = {}) {
    checkTokens(tokens, 'TokenStream');
    checkOptions(options, ['validationFraction'], 'TokenStream');
    const { validationFraction = 0.1 } = options;
    if (!(validationFraction >= 0 && validationFraction < 1)) {
      throw new TorchBindError(
        `TokenStream: validationFraction must be at least 0 and below 1, got ${describe(validationFraction)}`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    const cut = Math.floor((1 - validationFraction) * tokens.length); // Python: int(0.9 * len(tokens))
    this.train = tokens.subarray(0, cut);
    this.validation = tokens.subarray(cut);
  }

  static fromText(text: string, tokenizer: Tokenizer, options?: TokenStreamOptions): TokenStream {
    return new TokenStream(tokenizer.encode(text), options);
  }
}
