/** GGUF files, as llama.cpp reads them. scripts/gguf.mjs compares tokens with llama.cpp itself. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { inspect } from '../../lib/checkpoint';
import type { CheckpointError } from '../../lib/errors';
import { ggufModel } from '../../lib/checkpoint/gguf/families';
import { load } from '../../lib/formats/pt';
import { quantizeQ8 } from '../../lib/formats/gguf/q8-0';
import { GPT } from '../../lib/gpt';
import type { GPTOptions } from '../../lib/models';
import { manualSeed } from '../../lib/tensor/random';
import type { Tensor } from '../../lib/tensor/tensor';
import { CharTokenizer, HuggingFaceTokenizer } from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';
import { bytesOf } from '../helpers/tensors';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const directory = sharedTemporaryDirectory();
const at = (name: string): string => path.join(directory, name);
const sizes = { vocabSize: 12, blockSize: 16, nLayer: 2, nHead: 4, nEmbd: 32 };

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const special = { special: true, normalized: false, single_word: false, lstrip: false, rstrip: false };
const byteLevelJson = {
  version: '1.0',
  added_tokens: [{ ...special, id: 3, content: '</s>' }],
  pre_tokenizer: byteLevel,
  decoder: byteLevel,
  model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2, '</s>': 3 }, merges: [['a', 'b']] },
};

function make(config: Partial<GPTOptions> = {}, layout = 'hf-llama', tokenizer: GPT['tokenizer'] = null): GPT {
  manualSeed(0);
  return new GPT({ ...sizes, ...config }, { layout, tokenizer });
}

async function saved(name: string, gpt: GPT, options: Parameters<GPT['save']>[1] = {}): Promise<Map<string, Tensor>> {
  await gpt.save(at(name), options);
  return (await load(at(name))) as Map<string, Tensor>;
}

describe('a GGUF file', () => {
  it('holds the tensors of a Llama, with rows of queries and keys in pairs', async () => {
    const gpt = make({ nKvHead: 2, tieWeights: true });
    const tensors = await saved('llama.gguf', gpt);
    const weights = gpt.stateDict() as Map<string, Tensor>;
    const rows = (t: Tensor): number[][] => t.tolist() as number[][];
    const q = rows(weights.get('model.layers.1.self_attn.q_proj.weight')!);
    // Of a head with 8 channels: 0 and 4, 1 and 5, ...
    const expected = q.map((_, i) => q[i - (i % 8) + (i % 2) * 4 + Math.floor((i % 8) / 2)]);
    expect(rows(tensors.get('blk.1.attn_q.weight')!)).toEqual(expected);
    expect(bytesOf(tensors.get('blk.0.ffn_down.weight')!)).toEqual(
      bytesOf(weights.get('model.layers.0.mlp.down_proj.weight')!),
    );
    expect(tensors.has('output.weight')).toBe(false);
    expect(tensors.size).toBe(2 + 9 * 2);
    const { container, metadata } = await inspect(at('llama.gguf'));
    expect(container).toMatchObject({ kind: 'gguf', version: '3' });
    expect(metadata).toMatchObject({
      'general.architecture': 'llama',
      'llama.attention.head_count_kv': '2',
      'tokenizer.ggml.model': 'no_vocab',
    });
  });

  it('holds queries, keys and values of GPT-NeoX one after the other, and those of StarCoder and Phi-3 as they are', async () => {
    const neox = make({ activation: 'gelu_tanh' }, 'hf-gpt-neox');
    const tensors = await saved('neox.gguf', neox);
    const rows = (gpt: GPT, key: string): number[][] => (gpt.stateDict().get(key) as Tensor).tolist() as number[][];
    const came = rows(neox, 'gpt_neox.layers.1.attention.query_key_value.weight');
    // Of each head 8 queries, 8 keys, 8 values.
    const expected = [0, 1, 2].flatMap((part) =>
      [0, 1, 2, 3].flatMap((head) => came.slice(24 * head + 8 * part).slice(0, 8)),
    );
    expect(tensors.get('blk.1.attn_qkv.weight')!.tolist()).toEqual(expected);
    expect((await inspect(at('neox.gguf'))).metadata).toMatchObject({ 'gptneox.use_parallel_residual': 'true' });
    for (const [layout, key] of [
      ['hf-gpt-bigcode', 'transformer.h.0.attn.c_attn.weight'],
      ['hf-phi3', 'model.layers.0.self_attn.qkv_proj.weight'],
    ] as const) {
      const gpt = make({}, layout);
      const written = await saved(`${layout}.gguf`, gpt);
      expect(written.get('blk.0.attn_qkv.weight')!.tolist()).toEqual(rows(gpt, key));
    }
  });

  it("holds norms + 1 of Gemma, and Llama 3.1's factors of RoPE", async () => {
    const gemma = make({
      normPlusOne: true,
      activation: 'geglu_tanh',
      embeddingScale: Math.sqrt(32),
      tieWeights: true,
    });
    const tensors = await saved('gemma.gguf', gemma);
    const norm = (gemma.stateDict().get('model.norm.weight') as Tensor).tolist() as number[];
    expect(tensors.get('output_norm.weight')!.tolist()).toEqual(norm.map((x) => Math.fround(x + 1)));
    const ropeScaling = {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalBlockSize: 8,
    } as const;
    const factors = (await saved('scaled.gguf', make({ ropeScaling }))).get('rope_freqs.weight')!.tolist() as number[];
    expect(factors).toHaveLength(4);
    expect(Math.max(...factors)).toBeCloseTo(8, 4);
  });

  it('holds a vocabulary, special tokens and chat templates', async () => {
    const chatTemplate = { default: 'A', tool_use: 'B' };
    const tokenizer = new HuggingFaceTokenizer(byteLevelJson, { chatTemplate, specialTokens: { eos_token: '</s>' } });
    await make({}, 'hf-llama', tokenizer).save(at('words.gguf'));
    expect((await inspect(at('words.gguf'))).metadata).toMatchObject({
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'gpt-2',
      'tokenizer.ggml.tokens': '12 values of string',
      'tokenizer.ggml.merges': '1 values of string',
      'tokenizer.ggml.eos_token_id': '3',
      'tokenizer.chat_template': 'A',
      'tokenizer.chat_template.tool_use': 'B',
    });
    const bytes = Array.from({ length: 3 }, (_, i) => `<0x0${i}>`);
    const vocab = Object.fromEntries(['<unk>', ...bytes, '▁', 'a', '▁a'].map((token, id) => [token, id]));
    const llama = new HuggingFaceTokenizer({
      ...byteLevelJson,
      added_tokens: [{ ...special, id: 0, content: '<unk>' }],
      normalizer: { type: 'Prepend', prepend: '▁' },
      pre_tokenizer: null,
      decoder: { type: 'ByteFallback' },
      model: { type: 'BPE', byte_fallback: true, unk_token: '<unk>', vocab, merges: [['▁', 'a']] },
    });
    await make({}, 'hf-llama', llama).save(at('pieces.gguf'));
    expect((await inspect(at('pieces.gguf'))).metadata).toMatchObject({
      'tokenizer.ggml.model': 'llama',
      'tokenizer.ggml.scores': '12 values of f32',
      'tokenizer.ggml.add_space_prefix': 'true',
    });
  });

  it('holds half precision and q8_0, and models of other programs as GPT-2', async () => {
    const gpt = make({ activation: 'gelu_tanh' }, 'nanogpt');
    const exact = await saved('exact.gguf', gpt);
    expect([...exact.keys()]).toContain('blk.0.attn_qkv.weight');
    for (const dtype of ['float16', 'bfloat16'] as const) {
      const tensors = await saved(`${dtype}.gguf`, gpt, { dtype });
      expect(bytesOf(tensors.get('token_embd.weight')!)).toEqual(bytesOf(exact.get('token_embd.weight')!.to(dtype)));
      expect(tensors.get('position_embd.weight')!.dtype).toBe('float32');
    }
    const rounded = await saved('q8.gguf', gpt, { dtype: 'q8_0' });
    const name = 'blk.1.ffn_up.weight';
    const difference = rounded.get(name)!.sub(exact.get(name)!).abs().max().item() as number;
    expect(difference).toBeGreaterThan(0);
    // Half a step of 1/127 of the largest number.
    expect(difference).toBeLessThan((exact.get(name)!.abs().max().item() as number) / 253);
  });

  it('is refused where llama.cpp computes something else, by name', async () => {
    const refused = async (gpt: GPT, text: string): Promise<void> => {
      const error = { code: 'ERR_TORCHBIND_CONVERT', message: expect.stringContaining(text) as string };
      await expect(gpt.save(at('refused.gguf'))).rejects.toMatchObject(error);
    };
    await refused(make({}, 'hf-llama', new CharTokenizer([...'abcdefghijkl'])), "no tokenizer of the kind 'char'");
    await refused(make({ activation: 'gelu' }, 'nanogpt'), 'the activation is gelu, expected gelu_tanh');
    await refused(make({ slidingWindow: 4 }), 'other layers have a sliding window');
    await refused(make({}, 'hf-gpt-neox'), 'the activation is gelu, expected gelu_tanh');
    await refused(make({}, 'hf-gptj'), 'llama.cpp does not support models of type gptj');
    for (const type of ['opt', 'gpt_neo'])
      expect(() => ggufModel(type, make().config, true)).toThrow(`llama.cpp does not support models of type ${type}`);
    await make({ activation: 'gelu' }, 'nanogpt').save(at('forced.gguf'), { force: true });
    const invalid = { code: 'ERR_TORCHBIND_INVALID_ARGUMENT' };
    await expect(make().save(at('refused.gguf'), { dtype: 'float64' })).rejects.toMatchObject(invalid);
    await expect(make().save(at('refused'), { dtype: 'q8_0' })).rejects.toMatchObject(invalid);
    await expect(GPT.load(at('forced.gguf'))).rejects.toMatchObject({
      message: expect.stringContaining('GGUF') as string,
    });
  });
});

describe('q8_0', () => {
  const numbers = Float32Array.from({ length: 32 * 400 }, (_, i) => {
    const block = Math.floor(i / 32);
    if (block === 0) return 0;
    // Steps and half steps, then numbers of all sizes down to where float16 ends.
    if (block < 20) return (((i * 7) % 255) - 127) / 2;
    return Math.sin(i * 12.9898) * 2 ** ((block % 60) - 45);
  });
  let expected: Buffer;

  beforeAll(async () => {
    writeFileSync(at('numbers.f32'), Buffer.from(numbers.buffer));
    // As the gguf package computes it.
    const code = `
import sys, numpy as np
blocks = np.fromfile(sys.argv[1], np.float32).reshape(-1, 32)
d = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
with np.errstate(divide='ignore'):
    inverse = np.where(d == 0, np.float32(0), 1 / d)
x = blocks * inverse
a = np.abs(x)
q = np.sign(x) * (np.floor(a) + np.floor(2 * (a - np.floor(a))))
np.concatenate([d.astype(np.float16).view(np.uint8), q.astype(np.int8).view(np.uint8)], axis=1).tofile(sys.argv[2])`;
    await pythonCode(code, [at('numbers.f32'), at('numbers.q8')]);
    expected = readFileSync(at('numbers.q8'));
  }, pythonTimeout);

  it('has the bits that NumPy gives', () => {
    expect(Buffer.from(quantizeQ8(numbers)).equals(expected)).toBe(true);
  });
});

describe('a hostile GGUF file', () => {
  const code = async (bytes: Buffer): Promise<string> => {
    writeFileSync(at('hostile.gguf'), bytes);
    const error = (await load(at('hostile.gguf')).catch((reason: unknown) => reason)) as CheckpointError;
    return error.code;
  };

  it('is refused wherever it is cut', async () => {
    await make().save(at('whole.gguf'));
    const whole = readFileSync(at('whole.gguf'));
    for (const length of [5, 9, 20, 30, 60, 200, 500, 900, whole.length - 40])
      expect(await code(whole.subarray(0, length)), String(length)).toMatch(/TRUNCATED|LIMIT/);
  });

  const u32 = (n: number): Buffer => Buffer.from(Uint32Array.of(n).buffer);
  const u64 = (n: number | bigint): Buffer => Buffer.from(BigUint64Array.of(BigInt(n)).buffer);
  const text = (value: string): Buffer => Buffer.concat([u64(value.length), Buffer.from(value)]);
  const file = (tensors: number | bigint, items: number | bigint, ...parts: Buffer[]): Buffer =>
    Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors), u64(items), ...parts, Buffer.alloc(256)]);
  const entry = (name: string, type: number, place: number, ...shape: number[]): Buffer =>
    Buffer.concat([text(name), u32(shape.length), ...shape.map(u64), u32(type), u64(place)]);

  it.each([
    ['another version', Buffer.concat([Buffer.from('GGUF'), u32(0x03000000), Buffer.alloc(64)]), 'UNSUPPORTED'],
    ['far too many tensors', file(2n ** 60n, 0), 'CONTAINER'],
    ['many tensors', file(2 ** 20, 0), 'LIMIT'],
    ['more entries than bytes', file(0, 1000), 'TRUNCATED'],
    ['a long key', file(0, 1, u64(2 ** 40)), 'LIMIT'],
    ['a list longer than the file', file(0, 1, text('a'), u32(9), u32(0), u64(2 ** 40)), 'TRUNCATED'],
    ['lists of lists', file(0, 1, text('a'), u32(9), u32(9), u64(1)), 'UNSUPPORTED'],
    ['an unknown type of value', file(0, 1, text('a'), u32(77)), 'CONTAINER'],
    ['a key twice', file(0, 2, text('a'), u32(7), Buffer.from([1]), text('a'), u32(7), Buffer.from([1])), 'CONTAINER'],
    ['an alignment of 3', file(0, 1, text('general.alignment'), u32(4), u32(3)), 'CONTAINER'],
    ['a tensor beyond the file', file(1, 0, entry('a', 0, 0, 1000)), 'TRUNCATED'],
    ['a huge tensor', file(1, 0, entry('a', 0, 0, 2 ** 40, 2 ** 40)), 'CONTAINER'],
    ['five dimensions', file(1, 0, entry('a', 0, 0, 1, 1, 1, 1, 1)), 'CONTAINER'],
    ['a tensor that is not aligned', file(1, 0, entry('a', 0, 4, 4)), 'CONTAINER'],
    ['rows that are no whole blocks', file(1, 0, entry('a', 8, 0, 33)), 'CONTAINER'],
    ['an unknown type of tensor', file(1, 0, entry('a', 99, 0, 4)), 'UNSUPPORTED'],
    ['another way to round', file(1, 0, entry('a', 2, 0, 32)), 'UNSUPPORTED'],
    ['a tensor twice', file(2, 0, entry('a', 0, 0, 4), entry('a', 0, 32, 4)), 'CONTAINER'],
    ['tensors that share bytes', file(2, 0, entry('a', 0, 0, 16), entry('b', 0, 32, 4)), 'CONTAINER'],
  ])('is refused: %s', async (_, bytes, expected) => {
    expect(await code(bytes)).toBe(`ERR_TORCHBIND_CHECKPOINT_${expected}`);
  });
});
