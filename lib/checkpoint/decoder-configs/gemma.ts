import { attentionBias, joined, llamaFields, range, sliding, type ConfigFields, type ConfigType } from './config-type';
import { ropeJson } from './rope';

export const gemma: ConfigType = {
  modelType: 'gemma',
  architecture: 'GemmaForCausalLM',
  layout: 'hf-llama',
  fields: llamaFields,
  defaults: {
    vocab_size: 256000,
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-6,
    head_dim: 256,
    tie_word_embeddings: true,
    attention_dropout: 0,
    hidden_act: 'gelu_pytorch_tanh',
    hidden_activation: 'gelu_pytorch_tanh',
  },
  rope: { theta: 10000 },
  facts: { normPlusOne: true },
  ...joined(attentionBias(true), {
    read: (json, refuse) => {
      if (json.use_bidirectional_attention === true) refuse('use_bidirectional_attention', 'false');
      return { activation: 'geglu_tanh', embeddingScale: Math.sqrt(Number(json.hidden_size)) };
    },
    write: () => ({ hidden_act: 'gelu_pytorch_tanh', hidden_activation: 'gelu_pytorch_tanh' }),
  }),
  // Files name gelu there, which transformers has computed as its approximation ever since.
  knows: ['hidden_act', 'hidden_activation', 'use_bidirectional_attention'],
};

const queryScale: Pick<ConfigType, 'read' | 'write'> = {
  read: ({ query_pre_attn_scalar: scalar = 256 }) => ({ attentionMultiplier: Number(scalar) ** -0.5 }),
  write: ({ attentionMultiplier, headSize }) => ({
    query_pre_attn_scalar:
      attentionMultiplier === null ? headSize : Number((attentionMultiplier ** -2).toPrecision(12)),
  }),
};

const gemma2Fields: ConfigFields = {
  ...llamaFields,
  attn_logit_softcapping: 'attentionSoftcap',
  final_logit_softcapping: 'logitSoftcap',
};

export const gemma2: ConfigType = {
  ...gemma,
  modelType: 'gemma2',
  architecture: 'Gemma2ForCausalLM',
  fields: gemma2Fields,
  defaults: { ...gemma.defaults, attn_logit_softcapping: 50, final_logit_softcapping: 30, sliding_window: 4096 },
  facts: { normPlusOne: true, normPosition: 'sandwich' },
  ...joined(
    gemma,
    queryScale,
    sliding((_, layers) => range(layers).filter((layer) => layer % 2 === 0)),
  ),
  knows: [...gemma.knows!, 'query_pre_attn_scalar', 'cache_implementation'],
};

export const gemma3: ConfigType = {
  ...gemma2,
  modelType: 'gemma3_text',
  architecture: 'Gemma3ForCausalLM',
  defaults: {
    ...gemma.defaults,
    vocab_size: 262208,
    max_position_embeddings: 131072,
    attn_logit_softcapping: null,
    final_logit_softcapping: null,
    sliding_window: 4096,
    rope_local_base_freq: 10000,
  },
  rope: { theta: 1e6 },
  facts: { normPlusOne: true, normPosition: 'sandwich', qkNorm: 'head' },
  ...joined(
    gemma,
    queryScale,
    sliding((json, layers) => {
      const every = Number(json.sliding_window_pattern ?? json._sliding_window_pattern ?? 6);
      return range(layers).filter((layer) => (layer + 1) % every !== 0);
    }),
    {
      write: (config) => ({
        rope_parameters: {
          full_attention: ropeJson(config),
          sliding_attention: { rope_theta: config.ropeLocalTheta ?? config.ropeTheta, rope_type: 'default' },
        },
      }),
    },
  ),
  knows: [...gemma2.knows!, 'sliding_window_pattern'],
};
