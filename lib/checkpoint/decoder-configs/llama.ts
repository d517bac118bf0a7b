import {
  attentionBias,
  gatedBy,
  joined,
  layerNormFields,
  llamaFields,
  llamaSizes,
  mlpBias,
  qwenWindow,
  range,
  silu,
  type ConfigType,
} from './config-type';

/** Llama, and the types that follow it in all but a few facts. */

export const llama: ConfigType = {
  modelType: 'llama',
  architecture: 'LlamaForCausalLM',
  layout: 'hf-llama',
  fields: llamaFields,
  defaults: { ...silu, vocab_size: 32000, max_position_embeddings: 2048, rms_norm_eps: 1e-6 },
  rope: { theta: 10000 },
  ...joined(gatedBy('hidden_act'), attentionBias(true), mlpBias),
  knows: ['pretraining_tp'],
};

const llamaLike: Omit<ConfigType, 'modelType' | 'architecture'> = { ...llama, knows: [] };

export const mistral: ConfigType = {
  ...llamaLike,
  modelType: 'mistral',
  architecture: 'MistralForCausalLM',
  defaults: { ...silu, vocab_size: 32000, max_position_embeddings: 131072, rms_norm_eps: 1e-6, sliding_window: 4096 },
  ...joined(gatedBy('hidden_act'), {
    read: ({ sliding_window: window }) => ({
      slidingWindow: (window as number | null | undefined) ?? null,
      slidingLayers: null,
    }),
    write: ({ slidingWindow }) => ({ sliding_window: slidingWindow }),
  }),
  knows: ['sliding_window'],
};

export const qwen2: ConfigType = {
  ...llamaLike,
  modelType: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  defaults: { ...silu, vocab_size: 151936, max_position_embeddings: 32768, rms_norm_eps: 1e-6, sliding_window: 4096 },
  facts: { bias: true, projBias: false },
  ...joined(gatedBy('hidden_act'), qwenWindow),
  knows: ['use_sliding_window', 'max_window_layers', 'use_mrope'],
};

export const qwen3: ConfigType = {
  ...llamaLike,
  modelType: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  defaults: {
    ...silu, vocab_size: 151936, max_position_embeddings: 32768, rms_norm_eps: 1e-6, sliding_window: 4096, head_dim: 128,
  }, // prettier-ignore
  facts: { qkNorm: 'head' },
  ...joined(gatedBy('hidden_act'), attentionBias(true), qwenWindow),
  knows: ['use_sliding_window', 'max_window_layers'],
};

export const smolLm3: ConfigType = {
  ...llamaLike,
  modelType: 'smollm3',
  architecture: 'SmolLM3ForCausalLM',
  defaults: {
    ...silu, vocab_size: 128256, max_position_embeddings: 32768, rms_norm_eps: 1e-6, tie_word_embeddings: true,
  }, // prettier-ignore
  rope: { theta: 2e6 },
  ...joined(gatedBy('hidden_act'), attentionBias(true), mlpBias, qwenWindow, {
    read: (json) => {
      const every = Number(json.no_rope_layer_interval ?? 4);
      const given = json.no_rope_layers as number[] | null | undefined;
      const rotates = given ?? range(Number(json.num_hidden_layers)).map((layer) => Number((layer + 1) % every !== 0));
      return { noRopeLayers: rotates.flatMap((flag, layer) => (flag ? [] : [layer])) };
    },
    write: ({ nLayer, noRopeLayers }) => ({
      no_rope_layers: range(nLayer).map((layer) => Number(!noRopeLayers.includes(layer))),
    }),
  }),
  knows: ['use_sliding_window', 'max_window_layers', 'no_rope_layers', 'no_rope_layer_interval', 'pretraining_tp'],
};

export const olmo2: ConfigType = {
  ...llamaLike,
  modelType: 'olmo2',
  architecture: 'Olmo2ForCausalLM',
  defaults: { ...silu, vocab_size: 50304, max_position_embeddings: 2048, rms_norm_eps: 1e-5 },
  facts: { qkNorm: 'all', normPosition: 'output' },
  ...joined(gatedBy('hidden_act'), attentionBias(true)),
};

export const olmo: ConfigType = {
  ...llamaLike,
  modelType: 'olmo',
  architecture: 'OlmoForCausalLM',
  fields: llamaSizes,
  defaults: { ...silu, vocab_size: 50304, max_position_embeddings: 2048 },
  facts: { normType: 'layernorm', normScale: false, normEps: 1e-5 },
  ...joined(gatedBy('hidden_act'), attentionBias(true), {
    read: (json, refuse) => ((json.clip_qkv ?? null) === null ? {} : refuse('clip_qkv', 'null')),
  }),
  knows: ['clip_qkv'],
};

export const granite: ConfigType = {
  ...llamaLike,
  modelType: 'granite',
  architecture: 'GraniteForCausalLM',
  fields: {
    ...llamaFields,
    embedding_multiplier: 'embeddingScale',
    residual_multiplier: 'residualScale',
    logits_scaling: 'logitScale',
    attention_multiplier: 'attentionMultiplier',
  },
  defaults: {
    ...silu, vocab_size: 32000, max_position_embeddings: 2048, rms_norm_eps: 1e-6, embedding_multiplier: 1,
    residual_multiplier: 1, logits_scaling: 1, attention_multiplier: 1,
  }, // prettier-ignore
  ...joined(gatedBy('hidden_act'), attentionBias(true), mlpBias),
};

export const stableLm: ConfigType = {
  modelType: 'stablelm',
  architecture: 'StableLmForCausalLM',
  layout: 'hf-llama',
  fields: { ...layerNormFields, hidden_dropout: 'dropout' },
  defaults: { ...silu, vocab_size: 50304, max_position_embeddings: 4096, layer_norm_eps: 1e-5, hidden_dropout: 0 },
  rope: { theta: 10000, fraction: 0.25 },
  facts: { normType: 'layernorm' },
  ...joined(gatedBy('hidden_act'), {
    read: (json, refuse) => {
      if (json.qk_layernorm === true) refuse('qk_layernorm', 'false');
      return {
        bias: json.use_qkv_bias === true,
        parallelResidual: json.use_parallel_residual === true ? 'one-norm' : 'none',
      };
    },
    write: ({ bias, parallelResidual }) => ({
      use_qkv_bias: bias,
      use_parallel_residual: parallelResidual === 'one-norm',
    }),
  }),
  knows: ['use_qkv_bias', 'qk_layernorm', 'use_parallel_residual'],
};
