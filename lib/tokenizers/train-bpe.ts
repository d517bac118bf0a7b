import { runInSlices } from '../workers/slices';
import { checkArgument, describe, requireOptions, TorchBindError } from '../errors';
import { byteCharacters } from './decode';
import { HuggingFaceTokenizer } from './hugging-face';
import { exactWhiteSpace } from './regex';

/** Options of `trainTokenizer`. */
export interface TrainTokenizerOptions {
  /** Size of the vocabulary, including the 256 bytes and the special tokens. */
  vocabSize: number;
  /** Minimum number of occurrences for a pair to be merged. Default 2. */
  minFrequency?: number;
  /** Special tokens, which get the first ids. Default `['<|endoftext|>']`. */
  specialTokens?: readonly string[];
  /** Cancels the training. */
  signal?: AbortSignal;
}

/** GPT-2's pre-tokenization. */
const pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };

/**
 * Trains a byte-level BPE vocabulary on texts. Tokens and merges are those of `BpeTrainer` in Python's `tokenizers`
 * with GPT-2's ByteLevel pre-tokenizer and its alphabet. Works in slices of a few milliseconds and does not block the
 * event loop.
 *
 * @param texts one text, or several; pairs never span two texts
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT; the signal's reason
 */
export async function trainTokenizer(
  texts: string | Iterable<string>,
  options: TrainTokenizerOptions,
): Promise<HuggingFaceTokenizer> {
  requireOptions(options, ['vocabSize', 'minFrequency', 'specialTokens', 'signal'], 'trainTokenizer');
  const { vocabSize, minFrequency = 2, specialTokens = ['<|endoftext|>'], signal } = options;
  const areTexts =
    Array.isArray(specialTokens) && specialTokens.every((text) => typeof text === 'string' && text !== '');
  checkArgument(areTexts, "a list of texts for 'specialTokens'", specialTokens, 'trainTokenizer');
  const least = 256 + specialTokens.length;
  const isSize = Number.isInteger(vocabSize) && vocabSize >= least;
  checkArgument(isSize, `an integer of at least ${least} for 'vocabSize'`, vocabSize, 'trainTokenizer');
  const isCount = Number.isInteger(minFrequency) && minFrequency >= 0;
  checkArgument(isCount, "an integer of at least 0 for 'minFrequency'", minFrequency, 'trainTokenizer');
  const given = typeof texts === 'string' ? [texts] : texts;
  if (typeof (given as Partial<Iterable<string>> | undefined)?.[Symbol.iterator] !== 'function') throw notTexts(texts);
  signal?.throwIfAborted();
  const trainer = new BpeTrainer(specialTokens);
  const { vocab, merges } = await runInSlices(trainer.train(given, vocabSize, minFrequency), (slice) => {
    signal?.throwIfAborted();
    return slice();
  });
  const fields = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const unused = { dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null };
  return new HuggingFaceTokenizer({
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({ id, content, ...fields })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: 'BPE', ...unused, fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges },
  });
}

function notTexts(value: unknown): TorchBindError {
  return new TorchBindError(
    `trainTokenizer: expected a text or several, got ${describe(value)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** A pair of tokens that may be merged, with the words that contain it. */
interface Candidate {
  left: number;
  right: number;
  count: number;
  words: Set<number>;
}

/** Pairs are keys of maps: two ids in one number. */
const keyOf = (left: number, right: number): number => left * 2 ** 25 + right;

/** Number of words or texts between two checks of the time. */
const sliceSize = 500;

class BpeTrainer {
  private readonly tokens: string[] = [];
  private readonly ids = new Map<string, number>();
  private readonly words: number[][] = [];
  private readonly wordCounts: number[] = [];
  private readonly pairCounts = new Map<number, number>();
  private readonly queue = new Queue();

  constructor(specialTokens: readonly string[]) {
    for (const token of [...specialTokens, ...[...byteCharacters].sort()]) this.idOf(token);
  }

  *train(
    texts: Iterable<string>,
    vocabSize: number,
    minFrequency: number,
  ): Generator<void, { vocab: Record<string, number>; merges: [string, string][] }, void> {
    yield* this.countWords(texts);
    yield* this.countPairs();
    // A pair that is found again, by another way to its parts, counts from then on.
    const merges = new Map<number, [string, string]>();
    while (this.tokens.length < vocabSize) {
      const candidate = this.queue.pop();
      if (candidate === undefined) break;
      const { left, right } = candidate;
      const count = this.pairCounts.get(keyOf(left, right)) ?? 0;
      if (candidate.count !== count) {
        this.queue.push({ ...candidate, count });
        continue;
      }
      if (count < 1 || count < minFrequency) break;
      const token = this.idOf(this.tokens[left]! + this.tokens[right]!);
      merges.delete(keyOf(left, right));
      merges.set(keyOf(left, right), [this.tokens[left]!, this.tokens[right]!]);
      yield* this.merge(candidate, token);
    }
    return { vocab: Object.fromEntries(this.ids), merges: [...merges.values()] };
  }

  private idOf(token: string): number {
    const known = this.ids.get(token);
    if (known !== undefined) return known;
    this.ids.set(token, this.tokens.length);
    return this.tokens.push(token) - 1;
  }

  private *countWords(texts: Iterable<string>): Generator<void, void, void> {
    const regex = exactWhiteSpace(pattern);
    const counts = new Map<string, number>();
    let seen = 0;
    for (const text of texts) {
      if (typeof text !== 'string') throw notTexts(text);
      for (const [word] of Buffer.from(text).toString().matchAll(regex)) {
        counts.set(word, (counts.get(word) ?? 0) + 1);
        if (++seen % sliceSize === 0) yield;
      }
      yield;
    }
    for (const [word, count] of counts) {
      this.words.push(Array.from(Buffer.from(word), (byte) => this.ids.get(byteCharacters[byte]!)!));
      this.wordCounts.push(count);
      if (this.words.length % sliceSize === 0) yield;
    }
  }

  private *countPairs(): Generator<void, void, void> {
    const found = new Map<number, Set<number>>();
    for (const [index, word] of this.words.entries()) {
      for (let i = 0; i + 1 < word.length; i++) this.change(word[i]!, word[i + 1]!, 1, index, found);
      if (index % sliceSize === 0) yield;
    }
    yield* this.enqueue(found);
  }

  private change(left: number, right: number, by: number, index: number, found: Map<number, Set<number>>): void {
    const key = keyOf(left, right);
    this.pairCounts.set(key, (this.pairCounts.get(key) ?? 0) + by * this.wordCounts[index]!);
    if (by < 0) return;
    const words = found.get(key);
    if (words === undefined) found.set(key, new Set([index]));
    else words.add(index);
  }

  private *enqueue(found: ReadonlyMap<number, Set<number>>): Generator<void, void, void> {
    let pushed = 0;
    for (const [key, words] of found) {
      const count = this.pairCounts.get(key)!;
      if (count > 0) this.queue.push({ left: Math.floor(key / 2 ** 25), right: key % 2 ** 25, count, words });
      if (++pushed % sliceSize === 0) yield;
    }
  }

  /** Merges the pair in its words, and counts the new pairs. */
  private *merge({ left, right, words }: Candidate, token: number): Generator<void, void, void> {
    const found = new Map<number, Set<number>>();
    let seen = 0;
    for (const index of words) {
      const word = this.words[index]!;
      for (let i = 0; i + 1 < word.length; i++) {
        if (word[i] !== left || word[i + 1] !== right) continue;
        if (i > 0) {
          this.change(word[i - 1]!, left, -1, index, found);
          this.change(word[i - 1]!, token, 1, index, found);
        }
        word.splice(i, 2, token);
        if (i + 1 < word.length) {
          this.change(right, word[i + 1]!, -1, index, found);
          this.change(token, word[i + 1]!, 1, index, found);
        }
      }
      if (++seen % sliceSize === 0) yield;
    }
    yield* this.enqueue(found);
    yield;
  }
}

/** A heap: the most frequent pair first, of equal ones that with the lower ids. */
class Queue {
  private readonly items: Candidate[] = [];

  push(item: Candidate): void {
    const { items } = this;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(item, items[parent]!)) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): Candidate | undefined {
    const { items } = this;
    const [first] = items;
    const last = items.pop();
    if (first === undefined || items.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && isBefore(items[child + 1]!, items[child]!)) child++;
      if (!isBefore(items[child]!, last!)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last!;
    return first;
  }
}

function isBefore(a: Candidate, b: Candidate): boolean {
  if (a.count !== b.count) return a.count > b.count;
  return a.left !== b.left ? a.left < b.left : a.right < b.right;
}
