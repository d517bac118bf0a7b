import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { completeConfig, configFromJson, configToJson } from '../../lib/models';
import { temporaryDirectory } from '../helpers/tmp';

const SEED = {
  batch_size: 16,
  block_size: 64,
  vocab_size: 65,
  n_embd: 48,
  n_head: 4,
  n_layer: 3,
  dropout: 0.1,
  bias: false,
  device: 'cuda',
};

describe('config.json', () => {
  test('with the nine fields comes back as it was, in its order', () => {
    expect(JSON.stringify(configToJson(configFromJson(SEED)))).toBe(JSON.stringify(SEED));
  });

  test('keeps fields that are not known', () => {
    const json = { ...SEED, use_loss_mask: true, episode: { min: 3 } };
    expect(configToJson(configFromJson(json))).toEqual(json);
  });

  test('takes the defaults of the program that writes it', () => {
    expect(configFromJson({})).toMatchObject({
      batchSize: 32,
      blockSize: 256,
      vocabSize: 50304,
      nEmbd: 384,
      nHead: 6,
      nLayer: 6,
      dropout: 0.2,
    });
  });

  test('names architecture facts only where they differ, or the file named them', () => {
    const facts = { activation: 'gelu', attention_scale: 'embd', tie_weights: true, lm_head_bias: false };
    const json = { ...SEED, ...facts };
    expect(configToJson({ ...configFromJson({ ...json, mlp_bias: true }), extra: {} })).toEqual(json);
    expect(configToJson(configFromJson({ ...json, mlp_bias: true }))).toEqual({ ...json, mlp_bias: true });
  });

  test('of other architectures comes back as it was', () => {
    const json = { ...SEED, pos_encoding: 'rope', rope_scale: 4, norm_type: 'rmsnorm', mlp_type: 'swiglu' };
    const config = configFromJson(json);
    expect(config).toMatchObject({ positionEncoding: 'rope', ropeScale: 4, ropeTheta: 10000, activation: 'swiglu' });
    expect(config).toMatchObject({ normType: 'rmsnorm', normEps: 1e-6, normBias: false, mlpHidden: 128 });
    expect(configToJson(config)).toEqual({ ...json, norm_bias: false });
  });

  test.each([
    [{ pos_encoding: 'alibi' }, /positionEncoding must be one of 'learned', 'rope', but is string "alibi"/],
    [{ norm_type: 'batchnorm' }, /normType must be one of 'layernorm', 'rmsnorm'/],
    [{ mlp_type: 'maxout' }, /activation must be one of .*, but is string "maxout"/],
    [{ pos_encoding: 'rope', n_embd: 12 }, /nEmbd \/ nHead must be even, as RoPE needs it, but is number 3/],
    [{ n_embd: 50 }, /nEmbd must be a multiple of nHead, which is 4, but is number 50/],
    [{ n_layer: 1.5 }, /nLayer must be a whole number above 0/],
    [{ n_head: 0 }, /nHead must be a whole number above 0/],
    [{ dropout: -1 }, /dropout must be a number from 0 to below 1/],
    [{ bias: 'yes' }, /bias must be true or false, but is string "yes"/],
    [{ activation: 'gelu-tanh' }, /activation must be one of .* Did you mean 'gelu_tanh'\?/],
  ])('that makes no model is refused: %o', (fields, message) => {
    expect(() => configFromJson({ ...SEED, ...fields })).toThrow(message);
  });

  test('is an object', () => {
    expect(() => configFromJson([])).toThrow(/should be an object but is array of length 0/);
  });
});

test('misspelled options of a config are refused with a suggestion', () => {
  expect(() => completeConfig({ vocabSize: 5, nEmbed: 4 } as never)).toThrow(
    /unknown option 'nEmbed'. Did you mean 'nEmbd'\?/,
  );
});

describe('a config that asks for too much', () => {
  test.each([
    [{ nLayer: 1e9 }, /nLayer must be at most 4096/],
    [{ nLayer: 2 ** 40 }, /nLayer must be at most 4096/],
    [{ nEmbd: 2 ** 30, nHead: 1 }, /this machine has .* of memory/],
    [{ vocabSize: 2 ** 45 }, /this machine has .* of memory/],
    [{ nLayer: 4096, nEmbd: 2 ** 15, nHead: 1 }, /take .* GB/],
  ])('is refused before anything is built: %j', (facts, message) => {
    const build = (): unknown => new GPT({ vocabSize: 8, ...facts });
    expect(build).toThrow(expect.objectContaining({ code: 'ERR_TORCHBIND_CONFIG' }) as Error);
    expect(build).toThrow(message);
  });

  test('in a file is compared with the weights first', async () => {
    const directory = temporaryDirectory();
    await new GPT({ vocabSize: 8, blockSize: 4, nEmbd: 4, nHead: 2, nLayer: 1 }).save(directory);
    const file = path.join(directory, 'config.json');
    const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    rmSync(path.join(directory, 'manifest.json'), { force: true });
    writeFileSync(file, JSON.stringify({ ...config, n_layer: 1e9 }));
    await expect(GPT.load(directory)).rejects.toThrow(/nLayer must be at most 4096/);
    writeFileSync(file, JSON.stringify({ ...config, n_layer: 4000, n_embd: 256 }));
    await expect(GPT.load(directory)).rejects.toThrow(/The config is of another model/);
  });
});
