import { checkArgument, checkOptions, checkText, describe, TorchBindError } from '../errors';
import { checkId, decodeAll } from './decode';
import { encodeLong } from './encode-async';
import { isObject } from './json-checks';
import type { StreamDecoder, Tokenizer, TokenizerFields, TokenizerJson } from './tokenizer';

/** What to do with a character that the vocabulary lacks: throw, or leave it out. */
export type UnknownCharacters = 'error' | 'skip';

/** Number of Unicode code points. */
const CODE_POINTS = 0x110000;

/**
 * One id for each character of a vocabulary. Characters are Unicode code points, as in Python, not UTF-16 units; an unpaired
 * surrogate is a character of its own.
 *
 * `new CharTokenizer(chars)` takes a vocabulary by id; `CharTokenizer.fromText(text)` makes one as Python's
 * `sorted(set(text))` does.
 */
export class CharTokenizer implements Tokenizer {
  readonly kind = 'char';
  readonly startId = 0;
  /** The vocabulary: `chars[id]`. */
  readonly chars: readonly string[];
  private readonly ids: ReadonlyMap<string, number>;
  private readonly unknown: UnknownCharacters;
  private readonly fields: TokenizerFields;

  /**
   * @param chars the vocabulary by id
   * @param options `unknown`: what to do with unknown characters; `fields`: other fields of `tokenizer.json`, kept for
   *   `toJson`
   */
  constructor(chars: readonly string[], options: { unknown?: UnknownCharacters; fields?: TokenizerFields } = {}) {
    const given: unknown = chars;
    if (!Array.isArray(given) || given.length > CODE_POINTS)
      throw invalid(`chars must be an array of characters, got ${describe(given)}`);
    checkOptions(options, ['unknown', 'fields'], 'CharTokenizer');
    this.chars = Object.freeze([...chars]);
    this.ids = new Map(chars.map((char, id) => [checkCharacter(char, id), id]));
    if (this.ids.size !== chars.length) {
      const repeated = chars.find((char, id) => this.ids.get(char) !== id)!;
      throw invalid(`chars holds ${JSON.stringify(repeated)} twice: each character has one id`);
    }
    const { unknown = 'error', fields = {} } = options;
    if (unknown !== 'error' && unknown !== 'skip')
      throw invalid(`unknown must be 'error' or 'skip', got ${describe(unknown)}`);
    checkArgument(isObject(fields), "an object for 'fields'", fields, 'CharTokenizer');
    this.unknown = unknown;
    this.fields = fields;
  }

  /** Makes a tokenizer of a text's characters, in the order of their code points. */
  static fromText(text: string): CharTokenizer {
    checkText(text, 'CharTokenizer.fromText()');
    const chars = [...new Set(text)].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
    return new CharTokenizer(chars);
  }

  get vocabSize(): number {
    return this.chars.length;
  }

  encode(text: string): Int32Array {
    checkText(text, 'encode()');
    const ids = new Int32Array(text.length);
    let count = 0;
    let position = 0;
    for (const char of text) {
      const id = this.ids.get(char);
      if (id !== undefined) ids[count++] = id;
      else if (this.unknown === 'error') throw unknownCharacter(char, position);
      position++;
    }
    return ids.slice(0, count);
  }

  async encodeAsync(text: string): Promise<Int32Array> {
    checkText(text, 'encodeAsync()');
    const source = { kind: 'char', chars: this.chars, unknown: this.unknown } as const;
    return (await encodeLong(this, CharTokenizer.prototype, () => source, text)) ?? this.encode(text);
  }

  decode(ids: ArrayLike<number>): string {
    return decodeAll(this.decoder(), ids);
  }

  decoder(): StreamDecoder {
    return {
      push: (id) => {
        checkId(id);
        return this.chars[id] ?? '\u{fffd}';
      },
      end: () => '',
    };
  }

  toJson(): TokenizerJson {
    return { token_kind: this.kind, chars: [...this.chars], ...this.fields };
  }
}

function checkCharacter(char: unknown, id: number): string {
  if (typeof char === 'string' && char.length > 0 && String.fromCodePoint(char.codePointAt(0)!) === char) return char;
  throw invalid(`chars[${id}] must be a string of one character, got ${describe(char)}`);
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(`CharTokenizer: ${message}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}

function unknownCharacter(char: string, position: number): TorchBindError {
  const codePoint = char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
  return new TorchBindError(
    `encode: character ${JSON.stringify(char)} (U+${codePoint}) at position ${position} is not in the vocabulary. ` +
      `The model cannot represent it: take it out of the text, or make the tokenizer with { unknown: 'skip' }.`,
    'ERR_TORCHBIND_UNKNOWN_CHARACTER',
  );
}
