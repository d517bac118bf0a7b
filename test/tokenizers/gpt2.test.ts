import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Gpt2Tokenizer } from '../../lib/tokenizers';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';

const packed = createRequire(__filename)('js-tiktoken/ranks/gpt2') as {
  pat_str: string;
  special_tokens: Record<string, number>;
  bpe_ranks: string;
};
const tokenizer = new Gpt2Tokenizer();

const texts = [
  '',
  'Hello, world! Hello world',
  "I'll say it's what they've said; don't, we're, I'm, he'd 'S 'LL",
  'First Citizen:\nBefore we proceed any further, hear me speak.\n\n\n   All:',
  '  leading and trailing   \n\t ',
  'a  b   c\u00a0\u00a0d\u2003e\u3000f\u0085g \u0085 h\u200bi',
  '\ufeffbyte order mark \ufeff\ufeff inside',
  'tabs\t\tand\r\nlines\r\n\r\n  x',
  '1234567890 3.14159 ² ½ Ⅷ ١٢٣ १२३',
  'naïve café façade Æther ĳ ß ſ',
  'a\u0301e\u0308 combining, \u0915\u094d\u0937\u093f',
  'Привет, мир! Γειά σου Κόσμε שלום עולם مرحبا بالعالم',
  '你好,世界。こんにちは世界 안녕하세요 세계 สวัสดีชาวโลก',
  '🙂👩‍👩‍👧‍👦🏳️‍🌈 🇺🇳 🤦🏽‍♀️ text🙂text',
  '𝒳𝔘 𐍈 𠜎𠜱 \u{10ffff} \u{e000}',
  '<|endoftext|> is text <|endoftext|>',
  'def f(x):\n    return {"a": [x**2, -1], "b": f"{x!r}"}  # comment\n',
  '=====================================-------- ___ !!!???...',
  'a'.repeat(300) + ' '.repeat(200) + 'the'.repeat(100),
  '\u0000\u0001\u007f\u009f',
];

describe('Gpt2Tokenizer', () => {
  it(
    'gives the ids of the byte-pair encoding as Python computes it from the same ranks',
    { timeout: pythonTimeout },
    async () => {
      const ranks = packed.bpe_ranks.split('\n').flatMap((line) => line.split(' ').slice(2));
      const file = path.join(temporaryDirectory(), 'case.json');
      writeFileSync(file, JSON.stringify({ ranks, texts }));
      const expected = await pythonJson<number[][]>(path.join(__dirname, 'gpt2-bpe.py'), [file]);
      texts.forEach((text, i) => expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(expected[i]));
    },
  );

  it('gives the published ids of known texts', () => {
    expect([...tokenizer.encode('Hello, world!')]).toEqual([15496, 11, 995, 0]);
    expect([...tokenizer.encode('The quick brown fox')]).toEqual([464, 2068, 7586, 21831]);
  });

  it('agrees with js-tiktoken on random text', async () => {
    const { Tiktoken } = await import('js-tiktoken/lite');
    const oracle = new Tiktoken(packed);
    const alphabet = [..."abcdeTHINGS 's\n\n  ..12é漢🙂"];
    let seed = 1;
    const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n;
    for (let n = 0; n < 300; n++) {
      const text = Array.from({ length: random(60) }, () => alphabet[random(alphabet.length)]).join('');
      expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(oracle.encode(text, [], []));
    }
  });

  it('decodes what it encoded, and end of text, which it never encodes', () => {
    for (const text of texts) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(tokenizer.decode([tokenizer.endOfText])).toBe('<|endoftext|>');
  });

  it('reads unpaired surrogates as the replacement character', () => {
    expect([...tokenizer.encode('a\ud800b')]).toEqual([...tokenizer.encode('a\ufffdb')]);
  });

  it('encodes a run of 200,000 equal letters, which takes forever where merging is quadratic', () => {
    const text = 'a'.repeat(200_000);
    const ids = tokenizer.encode(text);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  it('streams whole characters only, though tokens split them', () => {
    const text = 'x🙂é漢字 y';
    const decoder = tokenizer.decoder();
    const pieces = [...tokenizer.encode(text)].map((id) => decoder.push(id));
    pieces.push(decoder.end());
    expect(pieces.join('')).toBe(text);
    expect(pieces.join('|')).not.toContain('\ufffd');
    expect(pieces).toContain('');
  });

  it('ends an unfinished character with the replacement character', () => {
    const decoder = tokenizer.decoder();
    const [first] = tokenizer.encode('🙂');
    expect(decoder.push(first!)).toBe('');
    expect(decoder.end()).toBe('\ufffd');
  });

  it('decodes ids of the padding rows to the replacement character, and refuses what is no id', () => {
    expect(tokenizer.decode([64, 50300, 64])).toBe('a\ufffda');
    expect(() => tokenizer.decode([-1])).toThrow(/at least 0/);
    expect(() => tokenizer.decode([1.5])).toThrow(/integer/);
  });

  it('writes the tokenizer.json of the Python programs', () => {
    expect(JSON.stringify(tokenizer.toJson())).toBe('{"token_kind":"gpt2","chars":null}');
    expect(tokenizer.vocabSize).toBe(50257);
  });
});
