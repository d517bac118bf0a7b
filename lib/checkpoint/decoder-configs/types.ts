import { describe, TorchBindError } from '../../errors';
import { type Activation, type GPTConfig, isGated } from '../../models/config';
import type { JsonObject } from '../files';
import { ropeFacts, ropeJson, type RopeDefaults } from './rope';

/** What each `model_type` says in its config.json. Key maps are in models/layouts/decoders. */

/** Facts by the fields that state them as they are. */
export type ConfigFields = Readonly<Record<string, keyof GPTConfig>>;

export interface ConfigType {
  readonly modelType: string;
  readonly architecture: string;
  /** Name of the key map. */
  readonly layout: string;
  readonly fields: ConfigFields;
  /** What transformers takes for fields that a file leaves out. */
  readonly defaults: JsonObject;
  readonly rope?: RopeDefaults;
  /** False where the embedding has no padding token. */
  readonly padding?: false;
  /** Facts of all models of the type. */
  readonly facts?: Partial<GPTConfig>;
  /** What the other fields say. */
  readonly read?: (json: JsonObject, refuse: Refuse) => Partial<GPTConfig>;
  /** The other fields, of a model from elsewhere. */
  readonly write?: (config: GPTConfig) => JsonObject;
  /** Fields that say nothing of what is computed, or that `read` reads. */
  readonly knows?: readonly string[];
}

export type Refuse = (field: string, expected: string) => never;

const llamaFields: ConfigFields = {
  vocab_size: 'vocabSize',
  max_position_embeddings: 'blockSize',
  hidden_size: 'nEmbd',
  intermediate_size: 'mlpHidden',
  num_hidden_layers: 'nLayer',
  num_attention_heads: 'nHead',
  num_key_value_heads: 'nKvHead',
  head_dim: 'headSize',
  rms_norm_eps: 'normEps',
  attention_dropout: 'attentionDropout',
  tie_word_embeddings: 'tieWeights',
};
const { rms_norm_eps: _, head_dim: _2, ...llamaSizes } = llamaFields;
const layerNormFields: ConfigFields = { ...llamaSizes, layer_norm_eps: 'normEps' };

const silu = { hidden_act: 'silu', attention_dropout: 0, tie_word_embeddings: false };

/** transformers' names of activations, each after those that newer versions write. */
const activations: Readonly<Record<string, Activation>> = {
  gelu_new: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_python_tanh: 'gelu_tanh',
  gelu: 'gelu',
  gelu_python: 'gelu',
  relu: 'relu',
  relu2: 'relu2',
  silu: 'silu',
  swish: 'silu',
  quick_gelu: 'quick_gelu',
  tanh: 'tanh',
};
const gated: Partial<Record<Activation, Activation>> = { silu: 'swiglu', gelu: 'geglu', gelu_tanh: 'geglu_tanh' };

/** The activation that a field names. */
export function readActivation(json: JsonObject, field: string, isGate: boolean, refuse: Refuse): Activation {
  const name = json[field];
  const plain = typeof name === 'string' && Object.hasOwn(activations, name) ? activations[name]! : undefined;
  const known = Object.keys(activations).filter((each) => !isGate || gated[activations[each]!] !== undefined);
  const found = plain === undefined || !isGate ? plain : gated[plain];
  return found ?? refuse(field, `one of ${known.join(', ')}`);
}

/** transformers' name of an activation, or of the gate's. */
export function activationName(activation: Activation): string {
  const plain = isGated(activation)
    ? ({ swiglu: 'silu', geglu: 'gelu', geglu_tanh: 'gelu_tanh' } as const)[activation]
    : activation;
  if (plain === 'gelu_tanh') return 'gelu_pytorch_tanh';
  return Object.keys(activations).find((name) => activations[name] === plain)!;
}

const gatedBy = (field: string) => ({
  read: (json: JsonObject, refuse: Refuse): Partial<GPTConfig> => ({
    activation: readActivation(json, field, true, refuse),
  }),
  write: ({ activation }: GPTConfig): JsonObject => ({ [field]: activationName(activation) }),
});

/** Several readers and writers as one. */
function joined(...parts: Pick<ConfigType, 'read' | 'write'>[]): Pick<ConfigType, 'read' | 'write'> {
  return {
    read: (json, refuse) => Object.assign({}, ...parts.map(({ read }) => read?.(json, refuse))) as Partial<GPTConfig>,
    write: (config) => Object.assign({}, ...parts.map(({ write }) => write?.(config))) as JsonObject,
  };
}

const attentionBias = (alsoProj: boolean): Pick<ConfigType, 'read' | 'write'> => ({
  read: ({ attention_bias: bias = false }) => ({ bias: bias === true, projBias: alsoProj && bias === true }),
  write: ({ bias }) => ({ attention_bias: bias }),
});
const mlpBias: Pick<ConfigType, 'read' | 'write'> = {
  read: ({ mlp_bias: bias = false }) => ({ mlpBias: bias === true }),
  write: ({ mlpBias }) => ({ mlp_bias: mlpBias }),
};

/** Layers of a kind in `layer_types`. */
function layersOf(json: JsonObject, kind: string): number[] | undefined {
  const { layer_types: types } = json;
  if (!Array.isArray(types)) return undefined;
  return types.flatMap((type, layer) => (type === kind ? [layer] : []));
}

/** A window in the layers that `layer_types` names, or else those that the version before would have chosen. */
const sliding = (before: (json: JsonObject, layers: number) => number[]): Pick<ConfigType, 'read' | 'write'> => ({
  read(json, refuse) {
    const kinds = Array.isArray(json.layer_types) ? json.layer_types : [];
    if (kinds.some((kind) => kind !== 'full_attention' && kind !== 'sliding_attention'))
      refuse('layer_types', 'full_attention and sliding_attention');
    const { sliding_window: window } = json;
    const layers = layersOf(json, 'sliding_attention') ?? before(json, Number(json.num_hidden_layers));
    if (typeof window !== 'number' || layers.length === 0) return { slidingWindow: null, slidingLayers: null };
    return { slidingWindow: window, slidingLayers: layers };
  },
  write({ slidingWindow, slidingLayers, nLayer }) {
    const isSliding = (layer: number): boolean =>
      slidingWindow !== null && (slidingLayers === null || slidingLayers.includes(layer));
    return {
      sliding_window: slidingWindow,
      layer_types: Array.from({ length: nLayer }, (_, i) => (isSliding(i) ? 'sliding_attention' : 'full_attention')),
    };
  },
});

/** Qwen: a window from a layer on, where it is switched on. */
const qwenWindow = sliding((json, layers) => {
  const first = Number(json.max_window_layers ?? 28);
  return json.use_sliding_window === true ? range(layers).filter((layer) => layer >= first) : [];
});
const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

const llama: ConfigType = {
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

const gemma: ConfigType = {
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

const gemma2: ConfigType = {
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

const gemma3: ConfigType = {
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

const stableLm: ConfigType = {
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

const phi: ConfigType = {
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

const phi3: ConfigType = {
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

const neox: ConfigType = {
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

const opt: ConfigType = {
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

const gptNeo: ConfigType = {
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

const bigCode: ConfigType = {
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

const gptJ: ConfigType = {
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

/** Types whose files are read and written. Where several can say the same, the first one is written. */
export const configTypes: readonly ConfigType[] = [
  llama,
  {
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
  },
  {
    ...llamaLike,
    modelType: 'qwen2',
    architecture: 'Qwen2ForCausalLM',
    defaults: { ...silu, vocab_size: 151936, max_position_embeddings: 32768, rms_norm_eps: 1e-6, sliding_window: 4096 },
    facts: { bias: true, projBias: false },
    ...joined(gatedBy('hidden_act'), qwenWindow),
    knows: ['use_sliding_window', 'max_window_layers', 'use_mrope'],
  },
  {
    ...llamaLike,
    modelType: 'qwen3',
    architecture: 'Qwen3ForCausalLM',
    defaults: {
      ...silu, vocab_size: 151936, max_position_embeddings: 32768, rms_norm_eps: 1e-6, sliding_window: 4096, head_dim: 128,
    }, // prettier-ignore
    facts: { qkNorm: 'head' },
    ...joined(gatedBy('hidden_act'), attentionBias(true), qwenWindow),
    knows: ['use_sliding_window', 'max_window_layers'],
  },
  {
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
        const rotates =
          given ?? range(Number(json.num_hidden_layers)).map((layer) => Number((layer + 1) % every !== 0));
        return { noRopeLayers: rotates.flatMap((flag, layer) => (flag ? [] : [layer])) };
      },
      write: ({ nLayer, noRopeLayers }) => ({
        no_rope_layers: range(nLayer).map((layer) => Number(!noRopeLayers.includes(layer))),
      }),
    }),
    knows: ['use_sliding_window', 'max_window_layers', 'no_rope_layers', 'no_rope_layer_interval', 'pretraining_tp'],
  },
  {
    ...llamaLike,
    modelType: 'olmo2',
    architecture: 'Olmo2ForCausalLM',
    defaults: { ...silu, vocab_size: 50304, max_position_embeddings: 2048, rms_norm_eps: 1e-5 },
    facts: { qkNorm: 'all', normPosition: 'output' },
    ...joined(gatedBy('hidden_act'), attentionBias(true)),
  },
  {
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
  },
  {
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
  },
  gemma,
  gemma2,
  gemma3,
  stableLm,
  phi,
  phi3,
  neox,
  opt,
  gptNeo,
  gptJ,
  bigCode,
];

/** The facts that a config.json of a type states. */
export function factsOfType(type: ConfigType, json: JsonObject): Partial<GPTConfig> {
  const refuse: Refuse = (field, expected) => {
    throw new TorchBindError(
      `expected ${field} to be ${expected}, got ${describe(json[field])}: this model does not compute it.`,
      'ERR_TORCHBIND_CONFIG',
    );
  };
  const said: JsonObject = { ...type.defaults, ...json };
  const simple = Object.entries(type.fields).flatMap(([field, name]) =>
    said[field] === undefined || (said[field] === null && !field.endsWith('softcapping')) ? [] : [[name, said[field]]],
  );
  const facts = Object.fromEntries(simple) as Partial<GPTConfig>;
  const headSize = facts.headSize ?? facts.nEmbd! / facts.nHead!;
  return {
    dropout: 0, // of types that have no field for it
    ...facts,
    ...(type.padding === false ? {} : { paddingIdx: paddingOf(said, facts) }),
    ...(type.rope === undefined ? {} : ropeFacts(said, type.rope, headSize)),
    ...type.facts,
    ...type.read?.(said, refuse),
  };
}

/** The padding token, where the vocabulary has it: Python counts negative ones from the end. */
function paddingOf({ pad_token_id: token }: JsonObject, { vocabSize }: Partial<GPTConfig>): number | null {
  if (typeof token !== 'number') return null;
  return token < 0 ? token + vocabSize! : token;
}
