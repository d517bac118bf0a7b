import { describe, expect, test } from 'vitest';
import { completeConfig, configFromJson, configToJson } from '../../lib/models';

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

  test('names architecture facts only where they differ', () => {
    const facts = { activation: 'gelu', attention_scale: 'embd', tie_weights: true, lm_head_bias: false };
    expect(configToJson(configFromJson({ ...SEED, ...facts, mlp_bias: true }))).toEqual({ ...SEED, ...facts });
  });

  test.each([
    [{ pos_encoding: 'rope' }, /pos_encoding = string "rope", which this model does not compute/],
    [{ norm_type: 'rmsnorm' }, /it only knows 'layernorm'/],
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
