import { runInSlices } from '../workers/slices';
import type { CharTokenizer } from './char';
import { byteCharacters } from './decode';
import { Gpt2Tokenizer } from './gpt2';
import { HuggingFaceTokenizer } from './hugging-face';
import type { HuggingFaceJson, Tokenizer } from './tokenizer';

/**
 * A tokenizer as Hugging Face's `tokenizer.json`, with which Python's `tokenizers` gives the same ids; undefined for one of another
 * class.
 */
export async function huggingFaceJson(tokenizer: Tokenizer): Promise<HuggingFaceJson | undefined> {
  if (tokenizer instanceof HuggingFaceTokenizer) return tokenizer.plainJson();
  if (tokenizer instanceof Gpt2Tokenizer) return runInSlices(gpt2Json(tokenizer));
  return tokenizer.kind === 'char' ? charJson(tokenizer as CharTokenizer) : undefined;
}

/** What a tokenizer.json has besides its model. */
const common = {
  version: '1.0',
  truncation: null,
  padding: null,
  added_tokens: [] as object[],
  normalizer: null,
  post_processor: null,
};

/**
 * One id for each character. In ASCII these are bytes, and byte-level encoding without a merge gives them; other characters need
 * a list of words.
 */
function charJson({ chars }: CharTokenizer): HuggingFaceJson {
  const isAscii = chars.every((char) => char.codePointAt(0)! < 128);
  const written = isAscii ? chars.map((char) => byteCharacters[char.charCodeAt(0)]!) : chars;
  const vocab = Object.fromEntries(written.map((char, id) => [char, id]));
  if (isAscii) return { ...common, ...byteLevel(false), model: bpe(vocab, []) };
  return {
    ...common,
    pre_tokenizer: { type: 'Split', pattern: { Regex: '[\\s\\S]' }, behavior: 'Isolated', invert: false },
    decoder: { type: 'Fuse' },
    model: { type: 'WordLevel', vocab, unk_token: '<unk>' },
  };
}

function byteLevel(useRegex: boolean): object {
  const part = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: useRegex };
  return { pre_tokenizer: part, decoder: { ...part } };
}

function bpe(vocab: object, merges: readonly (readonly [string, string])[]): object {
  const unused = { dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null };
  return { type: 'BPE', ...unused, fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges };
}

/** Tokens whose parts are looked for in a slice. */
const sliceSize = 500;

/** GPT-2's ranks say the merges too: a token is merged of the two parts that the earlier ones make of it. */
function* gpt2Json(tokenizer: Gpt2Tokenizer): Generator<void, HuggingFaceJson, void> {
  const { ranks, special } = tokenizer.ranked();
  yield;
  const byRank: string[] = [];
  for (const [token, rank] of ranks) byRank[rank] = token;
  const vocab: Record<string, number> = {};
  const merges: [string, string][] = [];
  for (const [rank, token] of byRank.entries()) {
    if (token === undefined) continue;
    vocab[written(token)] = rank;
    if (token.length > 1) merges.push(partsOf(token, rank, ranks).map(written) as [string, string]);
    if (rank % sliceSize === 0) yield;
  }
  const added = special.map(([content, id]) => {
    vocab[content] = id;
    return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  });
  return { ...common, added_tokens: added, ...byteLevel(true), model: bpe(vocab, merges) };
}

/** The two parts of a token, with one character for each byte. */
function partsOf(token: string, rank: number, ranks: ReadonlyMap<string, number>): string[] {
  const parts = [...token];
  while (parts.length > 2) {
    let [best, lowest] = [0, rank];
    for (let i = 0; i + 1 < parts.length; i++) {
      const joined = ranks.get(parts[i]! + parts[i + 1]!) ?? rank;
      if (joined < lowest) [best, lowest] = [i, joined];
    }
    parts.splice(best, 2, parts[best]! + parts[best + 1]!);
  }
  return parts;
}

function written(token: string): string {
  let text = '';
  for (let i = 0; i < token.length; i++) text += byteCharacters[token.charCodeAt(i)]!;
  return text;
}
