/** Long texts and large files of tokenizers, which a worker thread encodes and opens: the same ids and the same errors. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it, vi } from 'vitest';
import { encodeDocuments, encodeDocumentsAsync } from '../../lib/data/documents';
import { TokenStream } from '../../lib/data';
import { prepareTokens, TokenFile } from '../../lib/data';
import { CharTokenizer, Gpt2Tokenizer, HuggingFaceTokenizer, loadTokenizer } from '../../lib/tokenizers';
import { repositoryRoot } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

const part = readFileSync(path.join(repositoryRoot, 'docs/training.md'), 'utf8');
/** Longer than what is encoded at once, with what one must not cut: emoji, spaces, an unpaired surrogate. */
const long = `${part}   \u{1f600}é \ud800 x<user>`.repeat(1 + Math.ceil(150_000 / part.length));

/** Byte-level, with more entries than a small file has. */
function largeJson(): object {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let other = 256;
  const tokens = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : other++));
  const letters = [...'etaoinshrdlucmfwygpbvk'];
  const merges: [string, string][] = letters.flatMap((a) => letters.map((b): [string, string] => [a, b]));
  const pairs = merges.map((pair) => pair.join(''));
  const long = pairs.flatMap((a) => pairs.slice(0, 40).map((b): [string, string] => [a, b]));
  merges.push(...long);
  tokens.push(...merges.map((pair) => pair.join('')));
  const vocab = Object.fromEntries([...new Set(tokens)].map((token, i) => [token, i < 300 ? i : i + 7])); // a gap of ids
  return {
    added_tokens: [{ id: 400_000, content: '<user>', special: true }],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab, merges },
  };
}

describe('encodeAsync', () => {
  // First of all: nothing has read GPT-2's tokens on this thread.
  it('encodes a long text on another thread', async () => {
    const tokenizer = new Gpt2Tokenizer({ specialTokens: { '<user>': 50257 } });
    const ids = await tokenizer.encodeAsync(long);
    expect(tokenizer.isReady).toBe(false);
    expect(ids).toEqual(tokenizer.encode(long));
    expect(tokenizer.isReady).toBe(true);
  });

  it('gives the same ids for short texts, and for several at once', async () => {
    const tokenizer = new Gpt2Tokenizer();
    const texts = ['', 'hello world', long, `${long} again`];
    const ids = await Promise.all(texts.map((text) => tokenizer.encodeAsync(text)));
    expect(ids).toEqual(texts.map((text) => tokenizer.encode(text)));
  });

  it('makes a tokenizer on the worker thread once, however many texts wait for it', async () => {
    const posted = vi.spyOn(Worker.prototype, 'postMessage');
    const tokenizer = new HuggingFaceTokenizer({
      normalizer: null,
      pre_tokenizer: { type: 'Whitespace' },
      post_processor: null,
      decoder: null,
      model: { type: 'WordLevel', vocab: { '?': 0, a: 1, b: 2 }, unk_token: '?' },
    });
    const ids = await Promise.all(['a', 'b', 'c'].map((text) => tokenizer.encodeAsync(text)));
    expect(ids.map((each) => [...each])).toEqual([[1], [2], [0]]);
    expect([...tokenizer.encode('b a')]).toEqual([2, 1]);
    expect(posted.mock.calls.filter(([message]) => 'source' in (message as object))).toHaveLength(1);
    posted.mockRestore();
  });

  it('keeps the rules of a character tokenizer, and its errors', async () => {
    const strict = CharTokenizer.fromText(long);
    expect(await strict.encodeAsync(long)).toEqual(strict.encode(long));
    const text = `${long}\u{10ffff}`;
    const error = (await strict.encodeAsync(text).catch((thrown: unknown) => thrown)) as Error;
    expect(() => strict.encode(text)).toThrow(error.message);
    expect(error).toMatchObject({ name: 'TorchBindError', code: 'ERR_TORCHBIND_UNKNOWN_CHARACTER' });
    expect(error.stack).toContain('encode-async.test.ts');
    const loose = new CharTokenizer(strict.chars, { unknown: 'skip' });
    expect(await loose.encodeAsync(text)).toEqual(strict.encode(long));
    await expect(strict.encodeAsync(7 as unknown as string)).rejects.toThrow(/encodeAsync\(\)/);
  });

  it('leaves the encoding of a subclass to the caller', async () => {
    class Shouting extends Gpt2Tokenizer {
      override encode(text: string): Int32Array {
        return super.encode(text.toUpperCase());
      }
    }
    expect(await new Shouting().encodeAsync(long)).toEqual(new Gpt2Tokenizer().encode(long.toUpperCase()));
  });
});

describe('a large tokenizer.json', () => {
  const file = path.join(sharedTemporaryDirectory(), 'tokenizer.json');
  writeFileSync(file, JSON.stringify(largeJson()));

  it('is opened on another thread, which encodes with it too', async () => {
    const tokenizer = (await loadTokenizer(file)) as HuggingFaceTokenizer;
    const same = new HuggingFaceTokenizer(largeJson());
    const [ids, few] = [await tokenizer.encodeAsync(long), await tokenizer.encodeAsync('the end<user>')];
    expect([tokenizer.vocabSize, tokenizer.startId]).toEqual([same.vocabSize, same.startId]);
    expect(tokenizer.decode(ids)).toBe(same.decode(ids));
    expect(tokenizer.decode([301, 305, 400_000, 400_001])).toBe(same.decode([301, 305, 400_000, 400_001]));
    expect(tokenizer.isReady).toBe(false);
    expect(ids).toEqual(same.encode(long));
    expect(few).toEqual(same.encode('the end<user>'));
  });

  it('is parsed on this thread where that is asked for', async () => {
    const tokenizer = (await loadTokenizer(file)) as HuggingFaceTokenizer;
    expect(tokenizer.encode('the end<user>')).toEqual(new HuggingFaceTokenizer(largeJson()).encode('the end<user>'));
    expect(tokenizer.isReady).toBe(true);
    expect(tokenizer.toJson()).toEqual(largeJson());
  });

  it.each([
    ['is no JSON', (text: string) => `${text},`, /tokenizer\.json: not valid JSON/],
    [
      'names a merge that is not there',
      (text: string) => text.replace('["e","e"]', '["e","zzz"]'),
      /merges\[0\] needs/,
    ],
  ])('is refused where it %s', async (_, change, message) => {
    const wrong = path.join(temporaryDirectory(), 'tokenizer.json');
    writeFileSync(wrong, change(JSON.stringify(largeJson())));
    const error = (await loadTokenizer(wrong).catch((thrown: unknown) => thrown)) as Error;
    expect(error).toMatchObject({ name: 'CheckpointError', code: 'ERR_TORCHBIND_CHECKPOINT_FORMAT' });
    expect(error.message).toMatch(message);
    expect(error.message.split(wrong)).toHaveLength(2);
  });
});

describe('data', () => {
  it('has the same tokens from the async factories', async () => {
    const tokenizer = new Gpt2Tokenizer();
    const [sync, async] = [TokenStream.fromText(long, tokenizer), await TokenStream.fromTextAsync(long, tokenizer)];
    expect([async.train, async.validation]).toEqual([sync.train, sync.validation]);
    const texts = [long, 'short', ''];
    expect(await encodeDocumentsAsync(texts, tokenizer)).toEqual(encodeDocuments(texts, tokenizer));
    await expect(TokenStream.fromTextAsync(long, {} as Gpt2Tokenizer)).rejects.toThrow(/fromTextAsync.*a tokenizer/);
  });

  it('is cut by code points in prepareTokens', async () => {
    const directory = temporaryDirectory();
    const text = '\u{1f600}a'.repeat(50) + 'b'.repeat(100); // 200 characters in 250 units
    const tokenizer = CharTokenizer.fromText(text);
    const count = await prepareTokens(directory, text, { tokenizer, validationFraction: 0.75 });
    expect(count).toEqual({ train: 50, validation: 150 });
    const train = TokenFile.open(path.join(directory, 'train.bin'));
    expect(tokenizer.decode(train.subarray())).toBe('\u{1f600}a'.repeat(25));
  });
});
