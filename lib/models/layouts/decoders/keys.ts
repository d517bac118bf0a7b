import type { DecoderKeys, KeyLine } from './decoder';

/** The names that each architecture's module has in transformers. What a family's config says is in `configs`. */

const apart = { fusedQkv: false, lmHeadBias: false, dropout: 0, embeddingDropout: 0 } as const;

const modelBefore: readonly KeyLine[] = [['model'], ['model.embed_tokens', 'tokenEmbedding'], ['model.layers']];
const modelAfter: readonly KeyLine[] = [['model.norm', 'lnF'], ['model.rotary_emb']];

const transformerBefore: readonly KeyLine[] = [
  ['transformer'],
  ['transformer.wte', 'tokenEmbedding'],
  ['transformer.wpe', 'positionEmbedding'],
  ['transformer.drop'],
  ['transformer.h'],
];

const qkvApart: readonly KeyLine[] = [
  ['self_attn'],
  ['self_attn.q_proj', 'attn.q'],
  ['self_attn.k_proj', 'attn.k'],
  ['self_attn.v_proj', 'attn.v'],
];

/** Llama, and the many that took its names: Mistral, Qwen, SmolLM, OLMo, Gemma, Granite, StableLM. */
export const llamaKeys: DecoderKeys = {
  name: 'hf-llama',
  description: 'Llama, Mistral, Qwen, SmolLM, OLMo, Gemma, Granite and StableLM in transformers',
  before: modelBefore,
  layers: 'model.layers',
  block: [
    ...qkvApart,
    ['self_attn.o_proj', 'attn.proj'],
    ['self_attn.q_norm', 'attn.qNorm'],
    ['self_attn.k_norm', 'attn.kNorm'],
    ['mlp'],
    ['mlp.gate_proj', 'mlp.gate'],
    ['mlp.up_proj', 'mlp.up'],
    ['mlp.down_proj', 'mlp.down'],
    ['mlp.act_fn'],
    ['input_layernorm', 'ln1'],
    ['post_attention_layernorm', 'ln2'],
  ],
  // The same name is that of another norm where norms stand elsewhere.
  norms: {
    sandwich: [
      ['input_layernorm', 'ln1'],
      ['post_attention_layernorm', 'ln1Post'],
      ['pre_feedforward_layernorm', 'ln2'],
      ['post_feedforward_layernorm', 'ln2Post'],
    ],
    output: [
      ['post_attention_layernorm', 'ln1'],
      ['post_feedforward_layernorm', 'ln2'],
    ],
  },
  after: modelAfter,
  head: 'lm_head',
  facts: () => ({
    ...apart,
    activation: 'swiglu',
    normType: 'rmsnorm',
    positionEncoding: 'rope',
    bias: false,
    projBias: false,
    mlpBias: false,
  }),
  needs: ['self_attn.q_proj', 'mlp.gate_proj', 'self_attn.o_proj'],
};

export const phiKeys: DecoderKeys = {
  name: 'hf-phi',
  description: 'Phi in transformers',
  before: modelBefore,
  layers: 'model.layers',
  block: [
    ...qkvApart,
    ['self_attn.dense', 'attn.proj'],
    ['mlp'],
    ['mlp.activation_fn'],
    ['mlp.fc1', 'mlp.up'],
    ['mlp.fc2', 'mlp.down'],
    ['input_layernorm', 'ln1'],
    ['resid_dropout'],
  ],
  after: [['model.rotary_emb'], ['model.embed_dropout'], ['model.final_layernorm', 'lnF']],
  head: 'lm_head',
  facts: () => ({
    fusedQkv: false,
    bias: true,
    activation: 'gelu_tanh',
    positionEncoding: 'rope',
    parallelResidual: 'one-norm',
    lmHeadBias: true,
  }),
  needs: ['self_attn.q_proj', 'mlp.fc1', 'self_attn.dense'],
};

export const phi3Keys: DecoderKeys = {
  name: 'hf-phi3',
  description: 'Phi-3 in transformers',
  before: modelBefore,
  layers: 'model.layers',
  block: [
    ['self_attn'],
    ['self_attn.o_proj', 'attn.proj'],
    ['self_attn.qkv_proj', 'attn.qkv'],
    ['mlp'],
    ['mlp.gate_up_proj', 'mlp.up'],
    ['mlp.down_proj', 'mlp.down'],
    ['mlp.activation_fn'],
    ['input_layernorm', 'ln1'],
    ['post_attention_layernorm', 'ln2'],
    ['resid_attn_dropout'],
    ['resid_mlp_dropout'],
  ],
  after: modelAfter,
  head: 'lm_head',
  facts: () => ({
    fusedGate: true,
    activation: 'swiglu',
    normType: 'rmsnorm',
    positionEncoding: 'rope',
    bias: false,
    projBias: false,
    mlpBias: false,
    lmHeadBias: false,
  }),
  needs: ['self_attn.qkv_proj', 'mlp.gate_up_proj'],
};

/** GPT-NeoX and Pythia. */
export const neoxKeys: DecoderKeys = {
  name: 'hf-gpt-neox',
  description: 'GPT-NeoX and Pythia in transformers',
  before: [['gpt_neox'], ['gpt_neox.embed_in', 'tokenEmbedding'], ['gpt_neox.emb_dropout'], ['gpt_neox.layers']],
  layers: 'gpt_neox.layers',
  block: [
    ['input_layernorm', 'ln1'],
    ['post_attention_layernorm', 'ln2'],
    ['post_attention_dropout'],
    ['post_mlp_dropout'],
    ['attention'],
    ['attention.query_key_value', 'attn.qkv'],
    ['attention.dense', 'attn.proj'],
    ['mlp'],
    ['mlp.dense_h_to_4h', 'mlp.up'],
    ['mlp.dense_4h_to_h', 'mlp.down'],
    ['mlp.act'],
  ],
  after: [['gpt_neox.final_layer_norm', 'lnF'], ['gpt_neox.rotary_emb']],
  head: 'embed_out',
  facts: ({ dropout }) => ({
    qkvByHead: true,
    bias: true,
    activation: 'gelu',
    positionEncoding: 'rope',
    parallelResidual: 'two-norms',
    lmHeadBias: false,
    embeddingDropout: dropout,
  }),
  needs: ['attention.query_key_value', 'mlp.dense_h_to_4h'],
};

export const optKeys: DecoderKeys = {
  name: 'hf-opt',
  description: 'OPT in transformers',
  before: [
    ['model'],
    ['model.decoder'],
    ['model.decoder.embed_tokens', 'tokenEmbedding'],
    ['model.decoder.embed_positions', 'positionEmbedding'],
    ['model.decoder.final_layer_norm', 'lnF'],
    ['model.decoder.layers'],
  ],
  layers: 'model.decoder.layers',
  block: [
    ['self_attn'],
    ['self_attn.k_proj', 'attn.k'],
    ['self_attn.v_proj', 'attn.v'],
    ['self_attn.q_proj', 'attn.q'],
    ['self_attn.out_proj', 'attn.proj'],
    ['activation_fn'],
    ['self_attn_layer_norm', 'ln1'],
    ['fc1', 'mlp.up'],
    ['fc2', 'mlp.down'],
    ['final_layer_norm', 'ln2'],
  ],
  after: [],
  head: 'lm_head',
  facts: () => ({ fusedQkv: false, bias: true, positionOffset: 2, tieWeights: true, lmHeadBias: false }),
  needs: ['self_attn.q_proj', 'fc1', 'self_attn_layer_norm'],
};

export const gptNeoKeys: DecoderKeys = {
  name: 'hf-gpt-neo',
  description: 'GPT-Neo in transformers',
  before: transformerBefore,
  layers: 'transformer.h',
  block: [
    ['ln_1', 'ln1'],
    ['attn'],
    ['attn.attention'],
    ['attn.attention.attn_dropout'],
    ['attn.attention.resid_dropout'],
    ['attn.attention.k_proj', 'attn.k'],
    ['attn.attention.v_proj', 'attn.v'],
    ['attn.attention.q_proj', 'attn.q'],
    ['attn.attention.out_proj', 'attn.proj'],
    ['ln_2', 'ln2'],
    ['mlp'],
    ['mlp.c_fc', 'mlp.up'],
    ['mlp.c_proj', 'mlp.down'],
    ['mlp.act'],
    ['mlp.dropout'],
  ],
  after: [['transformer.ln_f', 'lnF']],
  head: 'lm_head',
  facts: () => ({
    fusedQkv: false,
    bias: false,
    attentionScale: 'none',
    activation: 'gelu_tanh',
    tieWeights: true,
    lmHeadBias: false,
  }),
  needs: ['attn.attention.q_proj'],
};

/** GPT-J: as GPT-Neo, with rotary positions of neighbouring channels. */
export const gptJKeys: DecoderKeys = {
  name: 'hf-gptj',
  description: 'GPT-J in transformers',
  before: transformerBefore.filter(([, here]) => here !== 'positionEmbedding'),
  layers: 'transformer.h',
  block: [
    ['ln_1', 'ln1'],
    ['attn'],
    ['attn.attn_dropout'],
    ['attn.resid_dropout'],
    ['attn.k_proj', 'attn.k'],
    ['attn.v_proj', 'attn.v'],
    ['attn.q_proj', 'attn.q'],
    ['attn.out_proj', 'attn.proj'],
    ['mlp'],
    ['mlp.fc_in', 'mlp.up'],
    ['mlp.fc_out', 'mlp.down'],
    ['mlp.act'],
    ['mlp.dropout'],
  ],
  after: [['transformer.ln_f', 'lnF']],
  head: 'lm_head',
  facts: () => ({
    fusedQkv: false,
    bias: false,
    projBias: false,
    activation: 'gelu_tanh',
    positionEncoding: 'rope',
    ropeInterleaved: true,
    parallelResidual: 'one-norm',
    lmHeadBias: true,
  }),
  needs: ['attn.q_proj', 'mlp.fc_in'],
};

/** GPTBigCode (StarCoder): the names of GPT-2, with one head of keys and values. */
export const bigCodeKeys: DecoderKeys = {
  name: 'hf-gpt-bigcode',
  description: 'GPTBigCode (StarCoder) in transformers',
  before: transformerBefore,
  layers: 'transformer.h',
  block: [
    ['ln_1', 'ln1'],
    ['attn'],
    ['attn.c_attn', 'attn.qkv'],
    ['attn.c_proj', 'attn.proj'],
    ['attn.attn_dropout'],
    ['attn.resid_dropout'],
    ['ln_2', 'ln2'],
    ['mlp'],
    ['mlp.c_fc', 'mlp.up'],
    ['mlp.c_proj', 'mlp.down'],
    ['mlp.act'],
    ['mlp.dropout'],
  ],
  after: [['transformer.ln_f', 'lnF']],
  head: 'lm_head',
  facts: () => ({ bias: true, nKvHead: 1, activation: 'gelu_tanh', tieWeights: true, lmHeadBias: false }),
  needs: ['attn.c_attn'],
  // GPT-2 has three times as many rows as columns there.
  accepts: (state) => {
    const [rows, columns] = state.shape('transformer.h.0.attn.c_attn.weight') ?? [];
    return rows !== undefined && rows > columns! && rows < 3 * columns!;
  },
};

export const allKeys = [llamaKeys, phiKeys, phi3Keys, neoxKeys, optKeys, gptNeoKeys, gptJKeys, bigCodeKeys];
