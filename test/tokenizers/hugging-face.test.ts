import { describe, expect, it } from 'vitest';
import { HuggingFaceTokenizer, tokenizerFromJson } from '../../lib/tokenizers';
import { runWithin } from '../../lib/tokenizers/regex';

type Json = Record<string, unknown>;

/** A tokenizer of a few letters, with parts replaced. */
function json({ model, ...parts }: Json = {}): Json {
  return {
    version: '1.0',
    added_tokens: [{ id: 4, content: '<|endoftext|>', special: true }],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2, Ġ: 3 }, merges: ['a b'], ...(model as Json) },
    ...parts,
  };
}

describe('HuggingFaceTokenizer', () => {
  it('merges, and takes added tokens as one', () => {
    const tokenizer = new HuggingFaceTokenizer(json());
    expect([...tokenizer.encode('ab ba<|endoftext|>a')]).toEqual([2, 3, 1, 0, 4, 0]);
    expect(tokenizer.decode([2, 3, 4])).toBe('ab <|endoftext|>');
    expect(tokenizer.vocabSize).toBe(5);
    expect(tokenizer.startId).toBe(4);
    expect(tokenizer.encode('')).toHaveLength(0);
    expect(tokenizer.endId).toBeUndefined();
    const named = { specialTokens: { eos_token: '<|endoftext|>', pad_token: 'x' } };
    expect(new HuggingFaceTokenizer(json(), named).endId).toBe(4);
    expect(new HuggingFaceTokenizer(json(), { specialTokens: { eos_token: '<end>' } }).endId).toBeUndefined();
  });

  it('decodes ids of padding rows to the replacement character, and refuses what is no id', () => {
    expect(new HuggingFaceTokenizer(json()).decode([0, 9, 1])).toBe('a\ufffdb');
    expect(() => new HuggingFaceTokenizer(json()).decode([-1])).toThrow(/at least 0/);
  });

  it('leaves out what the vocabulary has no byte for, or puts its unknown token', () => {
    expect([...new HuggingFaceTokenizer(json()).encode('axb')]).toEqual([0, 1]);
    const withUnknown = json({ model: { vocab: { a: 0, b: 1, ab: 2, Ġ: 3, '?': 5 }, unk_token: '?' } });
    expect([...new HuggingFaceTokenizer(withUnknown).encode('axb')]).toEqual([0, 5, 1]);
  });

  it('comes back from the JSON that it writes, which is the one that it read', () => {
    const tokenizer = tokenizerFromJson(JSON.parse(JSON.stringify(json())));
    expect(tokenizer.kind).toBe('hugging-face');
    expect(tokenizer.toJson()).toEqual(json());
  });

  it('starts from the token that it is told to start from', () => {
    expect(new HuggingFaceTokenizer(json(), { startToken: 'b' }).startId).toBe(1);
    expect(new HuggingFaceTokenizer(json({ added_tokens: [] })).startId).toBe(0);
  });
});

describe('a tokenizer.json that is refused', () => {
  const refused: [reason: RegExp, parts: Json][] = [
    [/unk_id must be an id/, { model: { type: 'Unigram', vocab: [['<unk>', 0]] } }],
    [/vocab\[0\] must be a token and its score/, { model: { type: 'Unigram', unk_id: 0, vocab: [['', 0]] } }],
    [/unk_token string "\[UNK\]" is not in/, { model: { type: 'WordPiece', unk_token: '[UNK]' } }],
    [/model.vocab must be an object/, { model: { type: 'WordLevel', unk_token: 'a', vocab: 3 } }],
    [/expected a model of type BPE, .*, got number 3/, { model: { type: 3 } }],
    [/dropout/, { model: { dropout: 0.1 } }],
    [/unk_token/, { model: { unk_token: 'x' } }],
    [/model.vocab must be an object/, { model: { vocab: ['a'] } }],
    [/ids are integers/, { model: { vocab: { a: 4e9 } } }],
    [/ids are integers/, { model: { vocab: { a: -1 } } }],
    [/ids are integers/, { model: { vocab: { a: 0.5 } } }],
    [/the same id, 0/, { model: { vocab: { a: 0, b: 0 } } }],
    [/model.merges must be a list/, { model: { merges: 'a b' } }],
    [/merges\[0\] must be two tokens/, { model: { merges: ['a b c'] } }],
    [/merges\[1\] must be two tokens/, { model: { merges: ['a b', 3] } }],
    [/needs the token string "ba"/, { model: { merges: ['b a'] } }],
    [/added_tokens must be a list/, { added_tokens: {} }],
    [/added_tokens\[0\] needs an id/, { added_tokens: [null] }],
    [/added_tokens\[0\] needs an id/, { added_tokens: [{ id: 9, content: '' }] }],
    [/added_tokens\[0\] needs an id/, { added_tokens: [{ id: 9, content: 'x'.repeat(5000) }] }],
    [/the same id, 1/, { added_tokens: [{ id: 1, content: 'x' }] }],
    [/no published tokenizer/, { normalizer: { type: 'Replace', pattern: { Regex: '(a+)+b' }, content: 'x' } }],
    [/4096 times longer/, { normalizer: { type: 'Replace', pattern: { String: 'a' }, content: 'x'.repeat(4096) } }],
    [/its normalizer is string "Precompiled"/, { normalizer: { type: 'Precompiled', precompiled_charsmap: 'AAAA' } }],
    [/FixedLength/, { pre_tokenizer: sequence({ type: 'FixedLength', length: 0 }) }],
    [/pattern of a Split/, { pre_tokenizer: sequence(isolated({})) }],
    [/pattern of a Split/, { pre_tokenizer: sequence(isolated({ Regex: 'x'.repeat(5000) })) }],
    [/tokenizer.json: .*(regular expression|group)/i, { pre_tokenizer: sequence(isolated({ Regex: '(' })) }],
    [/at most 16/, { pre_tokenizer: sequence(...Array.from({ length: 17 }, () => isolated({ String: 'x' }))) }],
    [/needs prefix, a text/, { decoder: { type: 'WordPiece' } }],
    [/its decoder is string "CTC"/, { decoder: { type: 'CTC' } }],
    [/nests deeper/, { pre_tokenizer: nested(100_000) }],
    [/nests deeper/, { note: nested(100_000) }],
  ];

  it.each(refused)('%s', (reason, parts) => {
    const make = (): unknown => new HuggingFaceTokenizer(json(parts));
    expect(make).toThrow(reason);
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_TORCHBIND_CHECKPOINT_FORMAT' }));
  });

  it('is no object', () => {
    for (const value of [null, 1, 'x', []])
      expect(() => new HuggingFaceTokenizer(value)).toThrow(/expected a tokenizer/);
    expect(() => tokenizerFromJson({ model: 3 })).toThrow(/token_kind is undefined/);
  });
});

function sequence(...parts: Json[]): Json {
  return { type: 'Sequence', pretokenizers: [...parts, { type: 'ByteLevel', use_regex: false }] };
}

function isolated(pattern: Json): Json {
  return { type: 'Split', pattern, behavior: 'Isolated', invert: false };
}

function nested(depth: number): Json {
  let value: Json = { type: 'ByteLevel' };
  for (let i = 0; i < depth; i++) value = { type: 'Sequence', pretokenizers: [value] };
  return value;
}

describe('a regular expression that takes exponential time', () => {
  it('is ended with an error, and the next text is encoded', { timeout: 60_000 }, () => {
    const tokenizer = new HuggingFaceTokenizer(json({ pre_tokenizer: sequence(isolated({ Regex: '(a+)+$' })) }));
    expect(() => tokenizer.encode(`${'a'.repeat(50)}b`)).toThrow(
      expect.objectContaining({ code: 'ERR_TORCHBIND_TOKENIZER_TIME' }),
    );
    expect([...tokenizer.encode('ab')]).toEqual([2]);
  });

  it('starts again where the process was stopped meanwhile', () => {
    let tries = 0;
    const computed = runWithin(50, () => {
      // Waiting takes no processor time, as a stopped process takes none.
      if (tries++ === 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
      return tries;
    });
    expect(computed).toBe(2);
  });

  it('is the only thing that is ended: errors and results pass', () => {
    expect(runWithin(1000, () => 7)).toBe(7);
    expect(() => runWithin(1000, () => JSON.parse('{') as unknown)).toThrow(SyntaxError);
    expect(() => runWithin(50, () => /(a+)+$/.test(`${'a'.repeat(50)}b`))).toThrow(/more than 50 ms/);
  });
});
