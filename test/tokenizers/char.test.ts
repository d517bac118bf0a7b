import { describe, expect, it } from 'vitest';
import { CharTokenizer, tokenizerForText, tokenizerFromJson } from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';

const text = 'héllo wörld\n\u{1F642}\uFF5E zebra ¡Ø! \u{10000}';

describe('CharTokenizer', () => {
  it('orders the vocabulary as sorted(set(text)) in Python does', { timeout: pythonTimeout }, async () => {
    const code =
      'import json, sys; t = json.load(sys.stdin); v = sorted(set(t)); print(json.dumps([v, [v.index(c) for c in t]]))';
    const [chars, ids] = JSON.parse(await pythonCode(code, [], { input: JSON.stringify(text) })) as [
      string[],
      number[],
    ];
    const tokenizer = CharTokenizer.fromText(text);
    expect(tokenizer.chars).toEqual(chars);
    expect([...tokenizer.encode(text)]).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  it('names a character that the vocabulary lacks, with its position in code points', () => {
    const tokenizer = CharTokenizer.fromText('ab\u{1F642}');
    expect(() => tokenizer.encode('a\u{1F642}é')).toThrow(/"é" \(U\+00E9\) at position 2/);
    expect(() => tokenizer.encode('a\u{1F642}é')).toThrow(
      expect.objectContaining({ code: 'ERR_TORCHBIND_UNKNOWN_CHARACTER' }),
    );
  });

  it('leaves unknown characters out when told to', () => {
    const tokenizer = new CharTokenizer(['a', 'b'], { unknown: 'skip' });
    expect([...tokenizer.encode('xaxbx')]).toEqual([0, 1]);
  });

  it('refuses a vocabulary with a repeated or longer entry', () => {
    expect(() => new CharTokenizer(['a', 'b', 'a'])).toThrow(/"a" twice/);
    expect(() => new CharTokenizer(['a', 'bc'])).toThrow(/chars\[1\] must be a string of one character/);
    expect(() => new CharTokenizer(['a', ''])).toThrow(/chars\[1\]/);
  });

  it('decodes ids past the vocabulary to the replacement character', () => {
    expect(new CharTokenizer(['a']).decode([0, 1, 0])).toBe('a\ufffda');
  });
});

describe('tokenizer.json', () => {
  it('comes back as the tokenizer that wrote it', () => {
    const json = JSON.parse(JSON.stringify(CharTokenizer.fromText(text).toJson())) as unknown;
    expect(tokenizerFromJson(json)).toEqual(CharTokenizer.fromText(text));
  });

  it('may lack the vocabulary of a tokenizer that has none', () => {
    expect(tokenizerFromJson({ token_kind: 'gpt2' }).kind).toBe('gpt2');
    expect(tokenizerFromJson({ token_kind: 'gpt2', chars: null }).kind).toBe('gpt2');
  });

  it('is refused with the reason when it is no tokenizer', () => {
    expect(() => tokenizerFromJson({ token_kind: 'gpt' }, 'x/tokenizer.json')).toThrow(
      /x\/tokenizer\.json.*Did you mean 'gpt2'/,
    );
    expect(() => tokenizerFromJson({ token_kind: 'char', chars: null })).toThrow(/needs 'chars'/);
    expect(() => tokenizerFromJson(null)).toThrow(/token_kind is undefined/);
  });

  it('has kinds that a new model can be given by name', () => {
    expect(tokenizerForText('char', 'ba').vocabSize).toBe(2);
    expect(tokenizerForText('gpt2', 'ba').vocabSize).toBe(50257);
    expect(() => tokenizerForText('chars', 'ba')).toThrow(/Did you mean 'char'/);
  });
});
