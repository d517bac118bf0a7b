import { activationName, readActivation } from './activations';
import {
  gatedBy,
  joined,
  layerNormFields,
  llamaFields,
  range,
  silu,
  sliding,
  type ConfigFields,
  type ConfigType,
} from './config-type';

/** Types with names of their own: Phi, GPT-NeoX, OPT, GPT-Neo, GPT-J, GPTBigCode. */

export const phi: ConfigType = {
  modelType: 'phi',
  architecture: 'PhiForCausalLM',
  layout: 'hf-phi',
  fields: { ...layerNormFields, resid_pdrop: 'dropout', embd_pdrop: 'embeddingDropout' },
  defaults: {
    vocab_size: 51200,
    max_position_embeddings: 2048,
    layer_norm_eps: 1e-5,
    resid_pdrop: 0,
    embd_pdrop: 0,
    attention_dropout: 0,
    hidden_act: 'gelu_new',
    tie_word_embeddings: false,
  },
  rope: { theta: 10000, fraction: 0.5 },
  read: (json, refuse) => {
    if (json.qk_layernorm === true) refuse('qk_layernorm', 'false');
    return { activation: readActivation(json, 'hidden_act', false, refuse) };
  },
  write: ({ activation }) => ({ hidden_act: activationName(activation) }),
  knows: ['qk_layernorm'],
};

export const phi3: ConfigType = {
  modelType: 'phi3',
  architecture: 'Phi3ForCausalLM',
  layout: 'hf-phi3',
  fields: { ...llamaFields, resid_pdrop: 'dropout', embd_pdrop: 'embeddingDropout' },
  defaults: {
    ...silu,
    vocab_size: 32064,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    resid_pdrop: 0,
    embd_pdrop: 0,
  },
  rope: { theta: 10000 },
  // transformers makes the dropout of embeddings and applies it nowhere.
  ...joined(
    gatedBy('hidden_act'),
    sliding((_, layers) => range(layers)),
    { read: () => ({ embeddingDropout: 0 }) },
  ),
  knows: ['embd_pdrop', 'original_max_position_embeddings'],
};

export const neox: ConfigType = {
  modelType: 'gpt_neox',
  architecture: 'GPTNeoXForCausalLM',
  layout: 'hf-gpt-neox',
  padding: false,
  fields: { ...layerNormFields, hidden_dropout: 'dropout' },
  defaults: {
    vocab_size: 50432,
    max_position_embeddings: 2048,
    layer_norm_eps: 1e-5,
    hidden_dropout: 0,
    attention_dropout: 0,
    hidden_act: 'gelu',
    tie_word_embeddings: false,
    attention_bias: true,
  },
  rope: { theta: 10000, fraction: 0.25 },
  read: (json, refuse) => ({
    activation: readActivation(json, 'hidden_act', false, refuse),
    bias: json.attention_bias !== false,
    projBias: json.attention_bias !== false,
    embeddingDropout: Number(json.hidden_dropout ?? 0),
    parallelResidual: json.use_parallel_residual === false ? 'none' : 'two-norms',
  }),
  write: ({ activation, bias, parallelResidual }) => ({
    hidden_act: activationName(activation),
    attention_bias: bias,
    use_parallel_residual: parallelResidual !== 'none',
  }),
  knows: ['use_parallel_residual', 'rotary_pct', 'rotary_emb_base', 'classifier_dropout'],
};

export const opt: ConfigType = {
  modelType: 'opt',
  architecture: 'OPTForCausalLM',
  layout: 'hf-opt',
  fields: {
    vocab_size: 'vocabSize',
    max_position_embeddings: 'blockSize',
    hidden_size: 'nEmbd',
    ffn_dim: 'mlpHidden',
    num_hidden_layers: 'nLayer',
    num_attention_heads: 'nHead',
    dropout: 'dropout',
    attention_dropout: 'attentionDropout',
    tie_word_embeddings: 'tieWeights',
  },
  defaults: {
    vocab_size: 50272,
    max_position_embeddings: 2048,
    dropout: 0.1,
    attention_dropout: 0,
    activation_function: 'relu',
    tie_word_embeddings: true,
  },
  read: (json, refuse) => {
    if (json.do_layer_norm_before === false) refuse('do_layer_norm_before', 'true');
    if (json._remove_final_layer_norm === true) refuse('_remove_final_layer_norm', 'false');
    if ((json.word_embed_proj_dim ?? json.hidden_size) !== json.hidden_size)
      refuse('word_embed_proj_dim', `${String(json.hidden_size)}, the hidden_size`);
    if ((json.layerdrop ?? 0) !== 0) refuse('layerdrop', '0');
    const bias = json.enable_bias !== false;
    return {
      activation: readActivation(json, 'activation_function', false, refuse),
      bias,
      projBias: bias,
      mlpBias: bias,
      normScale: json.layer_norm_elementwise_affine !== false,
      normEps: 1e-5,
    };
  },
  write: ({ activation, bias, nEmbd }) => ({
    activation_function: activationName(activation),
    enable_bias: bias,
    word_embed_proj_dim: nEmbd,
    do_layer_norm_before: true,
  }),
  knows: [
    'do_layer_norm_before', '_remove_final_layer_norm', 'word_embed_proj_dim', 'layerdrop', 'enable_bias', 'layer_norm_elementwise_affine',
    'init_std', 'prefix', 'output_projection', 'intermediate_size',
  ], // prettier-ignore
};

export const gptNeo: ConfigType = {
  modelType: 'gpt_neo',
  architecture: 'GPTNeoForCausalLM',
  layout: 'hf-gpt-neo',
  padding: false,
  fields: {
    vocab_size: 'vocabSize',
    max_position_embeddings: 'blockSize',
    hidden_size: 'nEmbd',
    intermediate_size: 'mlpHidden',
    num_layers: 'nLayer',
    num_heads: 'nHead',
    layer_norm_epsilon: 'normEps',
    resid_dropout: 'dropout',
    embed_dropout: 'embeddingDropout',
    attention_dropout: 'attentionDropout',
    tie_word_embeddings: 'tieWeights',
  },
  defaults: {
    vocab_size: 50257,
    max_position_embeddings: 2048,
    layer_norm_epsilon: 1e-5,
    resid_dropout: 0,
    embed_dropout: 0,
    attention_dropout: 0,
    activation_function: 'gelu_new',
    tie_word_embeddings: true,
    window_size: 256,
  },
  read: (json, refuse) => {
    const types = json.attention_types as [string[], number][] | undefined;
    const kinds: unknown[] = Array.isArray(json.attention_layers)
      ? json.attention_layers
      : (types ?? []).flatMap(([pattern, times]) => Array.from({ length: times }, () => pattern).flat());
    const local = kinds.flatMap((kind, layer) => (kind === 'local' ? [layer] : []));
    return {
      activation: readActivation(json, 'activation_function', false, refuse),
      slidingWindow: local.length === 0 ? null : Number(json.window_size),
      slidingLayers: local.length === 0 ? null : local,
    };
  },
  write: ({ activation, slidingWindow, slidingLayers, nLayer }) => {
    const kinds = range(nLayer).map((layer) =>
      slidingWindow !== null && (slidingLayers?.includes(layer) ?? true) ? 'local' : 'global',
    );
    return {
      activation_function: activationName(activation),
      window_size: slidingWindow ?? 256,
      attention_layers: kinds,
      attention_types: [[kinds, 1]],
    };
  },
  knows: ['attention_layers', 'attention_types', 'window_size', 'classifier_dropout', 'summary_type'],
};

const gpt2Sizes: ConfigFields = {
  vocab_size: 'vocabSize',
  n_positions: 'blockSize',
  n_embd: 'nEmbd',
  n_layer: 'nLayer',
  n_head: 'nHead',
  n_inner: 'mlpHidden',
  layer_norm_epsilon: 'normEps',
  resid_pdrop: 'dropout',
  embd_pdrop: 'embeddingDropout',
  attn_pdrop: 'attentionDropout',
  tie_word_embeddings: 'tieWeights',
};

export const bigCode: ConfigType = {
  modelType: 'gpt_bigcode',
  architecture: 'GPTBigCodeForCausalLM',
  layout: 'hf-gpt-bigcode',
  padding: false,
  fields: gpt2Sizes,
  defaults: {
    vocab_size: 50257,
    n_positions: 1024,
    layer_norm_epsilon: 1e-5,
    resid_pdrop: 0.1,
    embd_pdrop: 0.1,
    attn_pdrop: 0.1,
    activation_function: 'gelu_pytorch_tanh',
    tie_word_embeddings: true,
    multi_query: true,
  },
  read: (json, refuse) => {
    if (json.multi_query === false) refuse('multi_query', 'true');
    if (json.add_cross_attention === true) refuse('add_cross_attention', 'false');
    return {
      activation: readActivation(json, 'activation_function', false, refuse),
      attentionScale: json.scale_attn_weights === false ? 'none' : 'head',
      nKvHead: 1,
    };
  },
  write: ({ activation, attentionScale }) => ({
    activation_function: activationName(activation),
    scale_attn_weights: attentionScale !== 'none',
    multi_query: true,
  }),
  knows: [
    'multi_query', 'add_cross_attention', 'scale_attn_weights', 'attention_softmax_in_fp32', 'scale_attention_softmax_in_fp32',
    'num_key_value_heads', 'inference_runner', 'max_batch_size', 'max_sequence_length', 'pre_allocate_kv_cache', 'validate_runner_input',
    'summary_activation', 'summary_first_dropout', 'summary_proj_to_labels', 'summary_type', 'summary_use_proj', 'attention_type',
  ], // prettier-ignore
};

export const gptJ: ConfigType = {
  modelType: 'gptj',
  architecture: 'GPTJForCausalLM',
  layout: 'hf-gptj',
  padding: false,
  fields: gpt2Sizes,
  defaults: {
    vocab_size: 50400,
    n_positions: 2048,
    layer_norm_epsilon: 1e-5,
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
    activation_function: 'gelu_new',
    tie_word_embeddings: false,
    rotary_dim: 64,
  },
  read: (json, refuse) => ({
    activation: readActivation(json, 'activation_function', false, refuse),
    ropeSize: Number(json.rotary_dim ?? Number(json.n_embd) / Number(json.n_head)),
  }),
  write: ({ activation, ropeSize }) => ({ activation_function: activationName(activation), rotary_dim: ropeSize }),
  knows: [
    'rotary_dim', 'rotary', 'gradient_checkpointing', 'scale_attn_weights', 'summary_activation', 'summary_first_dropout',
    'summary_proj_to_labels', 'summary_type', 'summary_use_proj',
  ], // prettier-ignore
};
