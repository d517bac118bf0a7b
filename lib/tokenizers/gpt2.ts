import { createRequire } from 'node:module';
import { bytePairEncode } from './bpe';
import { ByteDecoder, decodeAll } from './decode';
import type { StreamDecoder, Tokenizer, TokenizerJson } from './tokenizer';

/**
 * The byte-pair encoding of GPT-2: 50,257 tokens. Encodes as `tiktoken.get_encoding('gpt2').encode_ordinary(text)`
 * does: the text `<|endoftext|>` is text like any other. `endOfText` is the id that separates documents.
 *
 * The tokens come from the js-tiktoken package and are read when a text is first encoded or decoded.
 */
export class Gpt2Tokenizer implements Tokenizer {
  readonly kind = 'gpt2';
  readonly vocabSize = 50257;
  /** The id of `<|endoftext|>`, which `encode` never gives. */
  readonly endOfText = 50256;
  readonly startId = this.endOfText;

  encode(text: string): Int32Array {
    const { pattern, ranks } = vocabulary();
    const ids: number[] = [];
    for (const [piece] of text.matchAll(pattern)) {
      const bytes = Buffer.from(piece, 'utf8').toString('latin1');
      for (const id of bytePairEncode(bytes, ranks)) ids.push(id);
    }
    return Int32Array.from(ids);
  }

  decode(ids: ArrayLike<number>): string {
    return decodeAll(this.decoder(), ids);
  }

  decoder(): StreamDecoder {
    return new ByteDecoder(vocabulary().bytes);
  }

  toJson(): TokenizerJson {
    return { token_kind: this.kind, chars: null };
  }
}

interface Vocabulary {
  pattern: RegExp;
  ranks: Map<string, number>;
  bytes: Uint8Array[];
}

/** As js-tiktoken packs it: each line of `bpe_ranks` is `! <first rank> <base64 token> <base64 token> ...`. */
interface PackedRanks {
  pat_str: string;
  special_tokens: Record<string, number>;
  bpe_ranks: string;
}

let loaded: Vocabulary | undefined;

function vocabulary(): Vocabulary {
  loaded ??= unpack(createRequire(__filename)('js-tiktoken/ranks/gpt2') as PackedRanks);
  return loaded;
}

function unpack(packed: PackedRanks): Vocabulary {
  const ranks = new Map<string, number>();
  const bytes: Uint8Array[] = [];
  for (const line of packed.bpe_ranks.split('\n')) {
    const [, first, ...tokens] = line.split(' ');
    tokens.forEach((token, i) => {
      const rank = Number(first) + i;
      bytes[rank] = Buffer.from(token, 'base64');
      ranks.set(Buffer.from(token, 'base64').toString('latin1'), rank);
    });
  }
  for (const [text, id] of Object.entries(packed.special_tokens)) bytes[id] = Buffer.from(text);
  return { pattern: splitPattern(packed.pat_str), ranks, bytes };
}

/**
 * JavaScript's `\s` holds U+FEFF and lacks U+0085; in the regular expressions of Python's tiktoken it is Unicode's
 * White_Space property, so that a text with a byte order mark would be split differently.
 */
function splitPattern(source: string): RegExp {
  const exact = source
    .replaceAll('[^\\s', '[^\\p{White_Space}')
    .replaceAll('\\s', '\\p{White_Space}')
    .replaceAll('\\S', '\\P{White_Space}');
  return new RegExp(exact, 'gu');
}
