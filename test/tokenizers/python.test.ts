import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  CharTokenizer,
  Gpt2Tokenizer,
  type HuggingFaceTokenizer,
  loadTokenizer,
  type Tokenizer,
  trainTokenizer,
} from '../../lib/tokenizers';
import { bytePairEncode } from '../../lib/tokenizers/bpe';
import { pythonTimeout, runPython } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { strings, wellFormed } from './strings';

const directory = sharedTemporaryDirectory();
const texts = strings(10_000, { surrogates: true });

type Encoding = [ids: number[], tokens: string[], offsets: [number, number][], specialTokensMask: number[]];
interface Result {
  ids: number[][];
  decoded: [ids: number[], text: string][];
  /** Of the first texts, and a digest of each text's. */
  encodings: Encoding[];
  digests: string[];
}
type Results = Record<string, Result>;
let results: Results;

beforeAll(async () => {
  writeGpt2(path.join(directory, 'gpt2'));
  writeFileSync(path.join(directory, 'strings.json'), JSON.stringify(texts.map(wellFormed)));
  await runPython(path.join(__dirname, 'oracle.py'), [directory]);
  results = JSON.parse(readFileSync(path.join(directory, 'results.json'), 'utf8')) as Results;
}, pythonTimeout);

/** GPT-2's own vocab.json and merges.txt, from its ranks: a token is merged from the two that it consists of before. */
function writeGpt2(target: string): void {
  const packed = createRequire(__filename)('js-tiktoken/ranks/gpt2') as { bpe_ranks: string };
  const tokens = packed.bpe_ranks.split('\n').flatMap((line) => line.split(' ').slice(2));
  const printable = printableBytes();
  const ranks = new Map<string, number>();
  const vocab: Record<string, number> = {};
  const merges = ['#version: 0.2'];
  const write = (bytes: string): string => Array.from(bytes, (byte) => printable[byte.charCodeAt(0)]).join('');
  const byId: string[] = [];
  tokens.forEach((token, id) => {
    const bytes = Buffer.from(token, 'base64').toString('latin1');
    byId.push(bytes);
    if (bytes.length > 1)
      merges.push(
        bytePairEncode(bytes, ranks)
          .map((part) => write(byId[part]!))
          .join(' '),
      );
    vocab[write(bytes)] = id;
    ranks.set(bytes, id);
  });
  vocab['<|endoftext|>'] = tokens.length;
  mkdirSync(target);
  writeFileSync(path.join(target, 'vocab.json'), JSON.stringify(vocab));
  writeFileSync(path.join(target, 'merges.txt'), `${merges.join('\n')}\n`);
}

/** What each byte is written as in byte-level vocabularies. */
function printableBytes(): string[] {
  const codes = Array.from({ length: 256 }, (_, byte) => byte);
  let next = 256;
  return codes.map((byte) => String.fromCharCode(/[!-~¡-¬®-ÿ]/.test(String.fromCharCode(byte)) ? byte : next++));
}

function digest(encoding: Encoding): string {
  return createHash('sha256').update(JSON.stringify(encoding)).digest('hex').slice(0, 16);
}

function expectSameIds(tokenizer: Tokenizer, ids: readonly number[][], count = texts.length): void {
  const compared = texts.slice(0, count);
  const different = compared.findIndex((text, i) => String(tokenizer.encode(text)) !== String(ids[i]));
  const text = compared[different] ?? '';
  expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(ids[different] ?? []);
  expect(ids).toHaveLength(10_000);
}

const byteLevel = ['gpt2', 'small', 'llama3', 'qwen', 'digits', 'removed'];
const byEngine = ['llama2', 'mistral', 'gemma', 'unigram', 'wordpiece', 'wordlevel', 'bpe-suffix'];

describe('tokenizers, compared with Python on 10,000 strings', { timeout: pythonTimeout }, () => {
  for (const name of [...byteLevel, ...byEngine]) {
    it(`encode and decode as the tokenizers package: ${name}`, async () => {
      const tokenizer = (await loadTokenizer(path.join(directory, name)))!;
      expect(tokenizer.kind).toBe('hugging-face');
      // Each text waits for the worker thread: all are compared with their offsets below.
      expectSameIds(tokenizer, results[name]!.ids, byEngine.includes(name) ? 500 : texts.length);
      for (const [ids, text] of results[name]!.decoded) expect(tokenizer.decode(ids), String(ids)).toBe(text);
    });
  }

  for (const name of byEngine.concat('llama3', 'small')) {
    it(`give tokens, offsets and special tokens as the tokenizers package: ${name}`, async () => {
      const tokenizer = (await loadTokenizer(path.join(directory, name))) as HuggingFaceTokenizer;
      const encodings = await Promise.all(texts.map((text) => tokenizer.encodeWithOffsets(text)));
      const found = encodings.map(({ ids, tokens, offsets, specialTokensMask }): Encoding => {
        return [[...ids], tokens, offsets, specialTokensMask];
      });
      const expected = results[name]!;
      for (const [i, encoding] of expected.encodings.entries()) expect(found[i], texts[i]).toEqual(encoding);
      expect(expected.digests).toHaveLength(10_000);
      const different = found.findIndex((encoding, i) => digest(encoding) !== expected.digests[i]);
      expect(texts[different], JSON.stringify(found[different])).toBeUndefined();
      const bare = found.findIndex(([ids, , , mask], i) => {
        return String(ids.filter((_, place) => mask[place] === 0)) !== String(expected.ids[i]);
      });
      expect(texts[bare], String(found[bare]?.[0])).toBeUndefined();
    });
  }

  it('decode a stream in whole characters, which joined are the text', async () => {
    for (const name of byEngine) {
      const tokenizer = (await loadTokenizer(path.join(directory, name)))!;
      for (const text of texts.slice(0, 100)) {
        const ids = tokenizer.encode(text);
        const decoder = tokenizer.decoder();
        const pieces = [...Array.from(ids, (id) => decoder.push(id)), decoder.end()];
        expect(pieces.join(''), name).toBe(tokenizer.decode(ids));
        for (const piece of pieces) expect(wellFormed(piece)).toBe(piece);
      }
    }
  });

  it("are trained to the vocabulary and the merges of Python's BpeTrainer", async () => {
    interface Model {
      vocab: Record<string, number>;
      merges: [string, string][];
    }
    const expected = JSON.parse(readFileSync(path.join(directory, 'trained.json'), 'utf8')) as Record<string, Model>;
    const own = texts.slice(0, 3000);
    for (const [name, options] of Object.entries({
      small: { vocabSize: 700, minFrequency: 0 },
      large: { vocabSize: 3000, specialTokens: ['<a>', '<b>'] },
    })) {
      const tokenizer = await trainTokenizer(own, options);
      const { vocab, merges } = tokenizer.toJson().model as Model;
      expect(merges, name).toEqual(expected[name]!.merges);
      expect(vocab, name).toEqual(expected[name]!.vocab);
      expect(tokenizer.decode(tokenizer.encode(own[7]!))).toBe(wellFormed(own[7]!));
    }
    const reason = new Error('enough');
    const aborted = trainTokenizer(own, { vocabSize: 700, signal: AbortSignal.abort(reason) });
    await expect(aborted).rejects.toBe(reason);
    for (const wrong of [
      { vocabSize: 100 },
      { vocabSize: 300, minFrequency: -1 },
      { vocabSize: 300, specialTokens: 'a' },
    ])
      await expect(trainTokenizer(own, wrong as never)).rejects.toMatchObject({
        code: 'ERR_TORCHBIND_INVALID_ARGUMENT',
      });
  });

  it("encode as GPT-2's own class, but for <|endoftext|>, which is text to it", () => {
    const tokenizer = new Gpt2Tokenizer();
    const { ids, decoded } = results.gpt2!;
    const ordinary = ids.map((expected, i) =>
      texts[i]!.includes('<|endoftext|>') ? [...tokenizer.encode(texts[i]!)] : expected,
    );
    expectSameIds(tokenizer, ordinary);
    for (const [some, text] of decoded) expect(tokenizer.decode(some)).toBe(text);
  });

  it("encode as nanoGPT's meta.pkl says, whose ids are in no order", async () => {
    const tokenizer = (await loadTokenizer(path.join(directory, 'char'))) as CharTokenizer;
    const { ids } = results.char!;
    const different = texts.findIndex((text, i) => String(tokenizer.encode(wellFormed(text))) !== String(ids[i]));
    expect(texts[different]).toBeUndefined();
    expect(tokenizer.chars).not.toEqual([...tokenizer.chars].sort());
  });

  it('give back every text that they encoded, with U+FFFD for unpaired surrogates', async () => {
    const small = (await loadTokenizer(path.join(directory, 'small')))!;
    const gpt2 = new Gpt2Tokenizer();
    const char = CharTokenizer.fromText(texts.join('\n'));
    const differs = (tokenizer: Tokenizer, whole: (text: string) => string) =>
      texts.find((text) => tokenizer.decode(tokenizer.encode(text)) !== whole(text));
    expect(differs(small, wellFormed)).toBeUndefined();
    expect(differs(gpt2, wellFormed)).toBeUndefined();
    expect(differs(char, (text) => text)).toBeUndefined();
  });
});
