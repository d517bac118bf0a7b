import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  CharTokenizer,
  charFromMetaPickle,
  charToMetaPickle,
  Gpt2Tokenizer,
  loadNanoGptTokenizer,
  loadTokenizer,
  tokenizerFromJson,
} from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';

const vocab = { a: 0, b: 1, ab: 2, Ġ: 3, '<|endoftext|>': 4 };

/** A directory with files: text as it is, bytes too, all else as JSON. */
function directoryOf(files: Record<string, unknown>): string {
  const directory = temporaryDirectory();
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    const isRaw = typeof content === 'string' || content instanceof Uint8Array;
    writeFileSync(path.join(directory, name), isRaw ? content : JSON.stringify(content));
  }
  return directory;
}

const meta = (...chars: string[]): Uint8Array => charToMetaPickle(new CharTokenizer(chars));

describe('loadTokenizer', () => {
  it('reads vocab.json with merges.txt and what lies beside them', async () => {
    const directory = directoryOf({
      'vocab.json': vocab,
      'merges.txt': '#version: 0.2\r\na b\r\n',
      'added_tokens.json': { '<pad>': 7 },
      'tokenizer_config.json': { add_prefix_space: true, bos_token: { content: '<pad>' } },
      'model.safetensors': 'weights',
    });
    for (const name of ['', 'vocab.json', 'merges.txt', 'model.safetensors']) {
      const tokenizer = (await loadTokenizer(path.join(directory, name)))!;
      expect([...tokenizer.encode('ab<pad>')]).toEqual([3, 2, 7]);
      expect(tokenizer.startId).toBe(7);
      expect(tokenizer.vocabSize).toBe(8);
      expect(tokenizer.decode([4, 5, 0])).toBe('<|endoftext|>\ufffda');
      expect([...tokenizerFromJson(tokenizer.toJson()).encode('ab')]).toEqual([3, 2]);
    }
  });

  it("tells a bundle's tokenizer.json from Hugging Face's by what it holds", async () => {
    const ours = directoryOf({ 'tokenizer.json': { token_kind: 'char', chars: ['b', 'a'] }, 'vocab.json': vocab });
    expect([...(await loadTokenizer(ours))!.encode('ab')]).toEqual([1, 0]);
    const wrong = directoryOf({ 'tokenizer.json': { kind: 'char' } });
    await expect(loadTokenizer(wrong)).rejects.toThrow(/tokenizer\.json: token_kind is undefined/);
  });

  it('finds none if there is none, and says which path is not there', async () => {
    expect(await loadTokenizer(directoryOf({ 'model.pt': 'x' }))).toBeNull();
    await expect(loadTokenizer('/nowhere/tokenizer.json')).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_TORCHBIND_CHECKPOINT_OPEN' }),
    );
  });

  it.each<[RegExp, Record<string, unknown>]>([
    [/merges.txt, line 2: expected two tokens, got "a b c"/, { 'vocab.json': vocab, 'merges.txt': '#version\na b c' }],
    [/needs the token string "ba"/, { 'vocab.json': vocab, 'merges.txt': 'b a' }],
    [/vocab.json must be an object/, { 'vocab.json': [1], 'merges.txt': '' }],
    [/vocab.json: cannot read the file/, { 'merges.txt': '' }],
    [/not valid JSON/, { 'tokenizer.json': '{' }],
    [/nests deeper than 64/, { 'tokenizer.json': '['.repeat(1e6) + ']'.repeat(1e6) }],
    [/at most 67108864 bytes/, { 'tokenizer.json': Buffer.alloc(2 ** 26 + 1, ' ') }],
    [/'stoi' and 'itos'/, { 'meta.pkl': Buffer.from('\x80\x02}.', 'latin1') }],
  ])('refuses %s', async (reason, files) => {
    await expect(loadTokenizer(directoryOf(files))).rejects.toThrow(reason);
  });
});

describe("nanoGPT's meta.pkl", () => {
  it('is written so that Python reads it, and read with its ids', { timeout: pythonTimeout }, async () => {
    const chars = ['z', '\n', '🙂', 'a', '\u0301'];
    const directory = directoryOf({ 'meta.pkl': meta(...chars) });
    const code = 'import pickle, json, sys; m = pickle.load(open(sys.argv[1], "rb")); print(json.dumps([m, list(m)]))';
    const [dict, keys] = JSON.parse(await pythonCode(code, [path.join(directory, 'meta.pkl')])) as unknown[];
    expect(keys).toEqual(['vocab_size', 'itos', 'stoi']);
    expect(dict).toEqual({
      vocab_size: 5,
      itos: Object.fromEntries(chars.entries()),
      stoi: Object.fromEntries(chars.map((char, id) => [char, id])),
    });
    expect(charFromMetaPickle(readFileSync(path.join(directory, 'meta.pkl')), 'meta.pkl').chars).toEqual(chars);
  });

  it('is refused where it contradicts itself or would run something', { timeout: pythonTimeout }, async () => {
    const code = `
import pickle, json, os
class Run:
    def __reduce__(self): return os.system, ('true',)
files = [dict(itos={0: 'a', 1: 'b'}, stoi={'a': 1, 'b': 0}), dict(itos={0: 'a', 2: 'b'}, stoi={'a': 0, 'b': 2}),
         dict(itos={0: 'a'}, stoi={'a': 0, 'b': 1}), dict(itos={0: 'a'}, stoi={'a': 0}, vocab_size=9),
         dict(itos={0: 'ab'}, stoi={'ab': 0}), Run()]
print(json.dumps([pickle.dumps(file).hex() for file in files]))`;
    const files = JSON.parse(await pythonCode(code)) as string[];
    const reasons = [
      /differ on/,
      /id 1 is undefined/,
      /stoi has 2/,
      /vocab_size is number 9/,
      /one character/,
      /system/,
    ];
    files.forEach((hex, i) =>
      expect(() => charFromMetaPickle(Buffer.from(hex, 'hex'), 'meta.pkl')).toThrow(reasons[i]),
    );
  });

  it('comes from beside the checkpoint, else from the data that it names, else GPT-2 stands in by size', async () => {
    const beside = directoryOf({ 'out/meta.pkl': meta('b', 'a'), 'data/x/meta.pkl': meta('c') });
    const open = (vocabSize: number, dataset: unknown, where = beside) =>
      loadNanoGptTokenizer(path.join(where, 'out/ckpt.pt'), { vocabSize, dataset });
    expect((await open(2, 'x'))?.vocabSize).toBe(2);
    const elsewhere = directoryOf({ 'data/x/meta.pkl': meta('c'), 'meta.pkl': meta('s', 'e', 'c') });
    expect((await open(1, 'x', elsewhere))?.vocabSize).toBe(1);
    for (const dataset of ['../..', '..', '/etc', 'x/../x', '', null, 7]) {
      expect(await open(65, dataset, elsewhere)).toBeNull();
    }
    expect((await open(50304, 'y', elsewhere))?.kind).toBe('gpt2');
    expect((await open(50257, undefined, elsewhere))?.kind).toBe('gpt2');
  });
});

describe('the tokenizer.json of newer MyPT', () => {
  const json = {
    token_kind: 'gpt2',
    chars: null,
    base_vocab_size: 50257,
    model_vocab_size: 50304,
    special_token_encoder: { '<user>': 50257, '</user>': 50258, '<user>x': 50260 },
    special_tokens_by_name: { user_open: 50257 },
    special_token_version: 2,
  };

  it('is read with its special tokens, and written back as it came', () => {
    const tokenizer = tokenizerFromJson(json);
    const hello = [...new Gpt2Tokenizer().encode('hello')];
    expect([...tokenizer.encode('<user>hello</user>')]).toEqual([50257, ...hello, 50258]);
    expect([...tokenizer.encode('<user>x')]).toEqual([50260]);
    expect(tokenizer.decode([50257, ...hello, 50258, 50259])).toBe('<user>hello</user>\ufffd');
    expect(tokenizer.vocabSize).toBe(50261);
    expect(tokenizer.toJson()).toEqual(json);
    const char = { token_kind: 'char', chars: ['a'], base_vocab_size: null, model_vocab_size: 50304 };
    expect(tokenizerFromJson(char).toJson()).toEqual(char);
  });

  it('is refused where an id is not past those of GPT-2', () => {
    const withTokens = (ids: unknown) => () => tokenizerFromJson({ ...json, special_token_encoder: ids });
    expect(withTokens({ x: 5 })).toThrow(/"x" must have an id of at least 50257/);
    expect(withTokens({ x: 'y' })).toThrow(/"x" must have an id/);
    expect(withTokens({ x: 50257, y: 50257 })).toThrow(/the same id/);
    expect(withTokens([])).toThrow(/special_token_encoder must be an object/);
  });
});
