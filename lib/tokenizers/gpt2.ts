import { checkArgument, checkOptions, checkText } from '../errors';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { bytePairEncode } from './bpe';
import { runAtOnce, runInSlices } from '../workers/slices';
import { ByteDecoder, decodeAll } from './decode';
import { encodeLong } from './encode-async';
import { isObject } from './json-checks';
import { SpecialTokens } from './special-tokens';
import type { StreamDecoder, Tokenizer, TokenizerFields, TokenizerJson } from './tokenizer';
import { exactWhiteSpace } from './regex';
import type { TokenizerSource } from './worker-client';

/** Number of GPT-2's own tokens. */
const gpt2Tokens = 50257;

/** Options of `Gpt2Tokenizer`. */
export interface Gpt2TokenizerOptions {
  /** Special tokens with their ids, which follow those of GPT-2. Default: none. */
  specialTokens?: Readonly<Record<string, number>>;
  /** Other fields of `tokenizer.json`, kept for `toJson`. */
  fields?: TokenizerFields;
}

/**
 * GPT-2's byte-pair encoding with 50,257 tokens. Encodes like `tiktoken.get_encoding('gpt2').encode_ordinary(text)`:
 * `<|endoftext|>` in a text is ordinary text. `endOfText` is the id that separates documents. Unpaired surrogates
 * become U+FFFD.
 *
 * The vocabulary comes from the js-tiktoken package and is read on first use.
 */
export class Gpt2Tokenizer implements Tokenizer {
  readonly kind = 'gpt2';
  readonly vocabSize: number;
  /** The id of `<|endoftext|>`, which `encode` never returns. */
  readonly endOfText = 50256;
  readonly startId = this.endOfText;
  readonly endId = this.endOfText;
  private readonly special: SpecialTokens;
  private readonly fields: TokenizerFields;

  constructor(options: Gpt2TokenizerOptions = {}) {
    checkOptions(options, ['specialTokens', 'fields'], 'Gpt2Tokenizer');
    const { specialTokens = {}, fields = {} } = options;
    for (const [name, value] of Object.entries({ specialTokens, fields }))
      checkArgument(isObject(value), `an object for '${name}'`, value, 'Gpt2Tokenizer');
    this.special = new SpecialTokens(new Map(Object.entries(specialTokens)), gpt2Tokens);
    this.vocabSize = Math.max(gpt2Tokens, this.special.highestId + 1);
    this.fields = fields;
  }

  encode(text: string): Int32Array {
    checkText(text, 'encode()');
    return Int32Array.from(this.special.encode(text, encodeOrdinary));
  }

  get isReady(): boolean {
    return loaded !== undefined;
  }

  async encodeAsync(text: string): Promise<Int32Array> {
    checkText(text, 'encodeAsync()');
    const long = encodeLong(this, Gpt2Tokenizer.prototype, () => this.source(), text);
    if (long !== undefined) return long;
    await prepareVocabulary();
    return this.encode(text);
  }

  private source(): TokenizerSource {
    const specialTokens = Object.fromEntries(Array.from(this.special.texts, ([id, text]) => [text, id]));
    return { kind: 'gpt2', specialTokens };
  }

  decode(ids: ArrayLike<number>): string {
    return decodeAll(this.decoder(), ids);
  }

  decoder(): StreamDecoder {
    const { bytes } = vocabulary();
    const { texts } = this.special;
    if (texts.size === 0) return new ByteDecoder((id) => bytes[id]);
    const all = [...bytes];
    for (const [id, text] of texts) all[id] = Buffer.from(text);
    return new ByteDecoder((id) => all[id]);
  }

  /** @internal The tokens with a character for each byte and their ranks, and the special tokens with their ids. */
  ranked(): { ranks: ReadonlyMap<string, number>; special: [text: string, id: number][] } {
    const special = Array.from(this.special.texts, ([id, text]): [string, number] => [text, id]);
    return { ranks: vocabulary().ranks, special: [['<|endoftext|>', this.endOfText], ...special] };
  }

  toJson(): TokenizerJson {
    return { token_kind: this.kind, chars: null, ...this.fields };
  }
}

function encodeOrdinary(text: string, ids: number[]): void {
  const { pattern, ranks } = vocabulary();
  for (const [piece] of text.matchAll(pattern)) {
    const bytes = Buffer.from(piece, 'utf8').toString('latin1');
    for (const id of bytePairEncode(bytes, ranks)) ids.push(id);
  }
}

interface Vocabulary {
  pattern: RegExp;
  ranks: Map<string, number>;
  bytes: Uint8Array[];
}

/** As js-tiktoken packs them, and scripts/gpt2-ranks.mjs writes them when the package is built. */
const RANKS = path.join(__dirname, '../../dist/tokenizers/gpt2-ranks.json');

/** What it holds: each line of `bpe_ranks` is `! <first rank> <base64 token> <base64 token> ...`. */
interface PackedRanks {
  pat_str: string;
  special_tokens: Record<string, number>;
  bpe_ranks: string;
}

let loaded: Vocabulary | undefined;

function vocabulary(): Vocabulary {
  loaded ??= runAtOnce(unpack(readFileSync(RANKS, 'utf8')));
  return loaded;
}

let preparing: Promise<void> | undefined;

/** Prepares the vocabulary off the event loop; `vocabulary` is then immediate. */
function prepareVocabulary(): Promise<void> {
  if (loaded !== undefined) return Promise.resolve();
  const prepare = async (): Promise<void> => {
    const unpacked = await runInSlices(unpack(await readFile(RANKS, 'utf8')));
    loaded ??= unpacked;
  };
  preparing ??= prepare().finally(() => (preparing = undefined));
  return preparing;
}

/** Number of tokens unpacked in a slice. */
const sliceSize = 2000;

function* unpack(text: string): Generator<void, Vocabulary, void> {
  const packed = JSON.parse(text) as PackedRanks;
  yield;
  const ranks = new Map<string, number>();
  const bytes: Uint8Array[] = [];
  for (const line of packed.bpe_ranks.split('\n')) {
    const [, first, ...tokens] = line.split(' ');
    for (const [i, token] of tokens.entries()) {
      const rank = Number(first) + i;
      const content = Buffer.from(token, 'base64');
      bytes[rank] = content;
      ranks.set(content.toString('latin1'), rank);
      if (i % sliceSize === sliceSize - 1) yield;
    }
  }
  for (const [text, id] of Object.entries(packed.special_tokens)) bytes[id] = Buffer.from(text);
  return { pattern: exactWhiteSpace(packed.pat_str), ranks, bytes };
}
