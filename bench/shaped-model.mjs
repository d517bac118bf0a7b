// Writes directories with the shapes of published models, as save_pretrained would: config.json and model.safetensors.
import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export const shapes = {
  '7B': { type: 'llama', vocab: 32000, channels: 4096, hidden: 11008, layers: 32, heads: 32, keyHeads: 32 },
  '0.5B': { type: 'qwen2', vocab: 151936, channels: 896, hidden: 4864, layers: 24, heads: 14, keyHeads: 2 },
};

/**
 * @param {string} directory made here
 * @param {keyof typeof shapes} name
 * @param {{ dtype?: 'float32' | 'bfloat16', length?: number, isFilled?: boolean }} options `length`: positions of the
 *   model; `isFilled`: float32 weights that are random numbers, norms of ones. Else the file is sparse: zeros that take no space.
 */
export function writeShapedModel(directory, name, { dtype = 'float32', length = 4096, isFilled = false } = {}) {
  const { type, vocab, channels, hidden, layers, heads, keyHeads } = shapes[name];
  mkdirSync(directory, { recursive: true });
  const config = {
    model_type: type,
    ...{ vocab_size: vocab, hidden_size: channels, intermediate_size: hidden, num_hidden_layers: layers },
    ...{ num_attention_heads: heads, num_key_value_heads: keyHeads, max_position_embeddings: length },
    ...{ tie_word_embeddings: type === 'qwen2', dtype },
  };
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  const entries = {};
  let end = 0;
  const add = (key, ...shape) => {
    const begin = end;
    end += (dtype === 'float32' ? 4 : 2) * shape.reduce((product, size) => product * size, 1);
    entries[key] = { dtype: dtype === 'float32' ? 'F32' : 'BF16', shape, data_offsets: [begin, end] };
  };
  const keys = (channels / heads) * keyHeads;
  add('model.embed_tokens.weight', vocab, channels);
  for (let i = 0; i < layers; i++) {
    const block = `model.layers.${i}`;
    for (const norm of ['input_layernorm', 'post_attention_layernorm']) add(`${block}.${norm}.weight`, channels);
    for (const part of ['q', 'k', 'v', 'o']) {
      const rows = part === 'k' || part === 'v' ? keys : channels;
      add(`${block}.self_attn.${part}_proj.weight`, rows, channels);
      if (type === 'qwen2' && part !== 'o') add(`${block}.self_attn.${part}_proj.bias`, rows);
    }
    for (const part of ['gate', 'up']) add(`${block}.mlp.${part}_proj.weight`, hidden, channels);
    add(`${block}.mlp.down_proj.weight`, channels, hidden);
  }
  add('model.norm.weight', channels);
  if (type !== 'qwen2') add('lm_head.weight', vocab, channels);

  const header = Buffer.from(JSON.stringify({ __metadata__: { format: 'pt' }, ...entries }));
  const padded = Buffer.concat([header, Buffer.alloc(-header.length & 7, ' ')]);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  const file = openSync(join(directory, 'model.safetensors'), 'w');
  writeSync(file, Buffer.concat([size, padded]));
  if (isFilled) fill(file, entries);
  else ftruncateSync(file, size.length + padded.length + end);
  closeSync(file);
}

/** Random numbers of standard deviation 0.02, a block of them again and again, and ones for norms. */
function fill(file, entries) {
  const random = new Float32Array(1_048_573); // a prime, so that no two rows are the same
  for (let i = 0; i < random.length; i++) {
    const [a, b] = [1 - Math.random(), Math.random()];
    random[i] = 0.02 * Math.sqrt(-2 * Math.log(a)) * Math.cos(2 * Math.PI * b);
  }
  for (const [
    key,
    {
      data_offsets: [begin, end],
    },
  ] of Object.entries(entries)) {
    const values = key.includes('norm') ? new Float32Array(random.length).fill(1) : random;
    for (let done = begin; done < end; done += values.byteLength) {
      writeSync(file, new Uint8Array(values.buffer, 0, Math.min(values.byteLength, end - done)));
    }
  }
}
