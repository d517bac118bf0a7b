import { describe, TorchBindError } from '../../errors';
import type { Activation, GPTConfig } from '../../models/config';
import type { ConfigFacts } from '../../models/layouts';
import type { JsonObject } from '../files';
import { factsFrom } from '../saved-model';

/** config.json of Hugging Face's GPT-2. */

const names = {
  vocab_size: 'vocabSize',
  n_ctx: 'blockSize',
  n_positions: 'blockSize',
  n_embd: 'nEmbd',
  n_layer: 'nLayer',
  n_head: 'nHead',
  n_inner: 'mlpHidden',
  layer_norm_epsilon: 'normEps',
  resid_pdrop: 'dropout',
  attn_pdrop: 'attentionDropout',
  embd_pdrop: 'embeddingDropout',
  scale_attn_by_inverse_layer_idx: 'scaleByLayer',
} as const;

/** What Hugging Face calls the activations that the model here computes. */
const activations: Readonly<Record<string, Activation>> = {
  gelu_new: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu: 'gelu',
  gelu_python: 'gelu',
  relu: 'relu',
};

/** Values that GPT2Config takes for what a config.json leaves out. */
const defaults = {
  vocab_size: 50257,
  n_positions: 1024,
  n_embd: 768,
  n_layer: 12,
  n_head: 12,
  layer_norm_epsilon: 1e-5,
  resid_pdrop: 0.1,
  attn_pdrop: 0.1,
  embd_pdrop: 0.1,
};

/** Whether a config.json is of a model of Hugging Face. */
export function isHfConfig(json: JsonObject): boolean {
  return typeof json.model_type === 'string';
}

/**
 * What it says of the model. Tying is left to the weights where they are all there.
 *
 * @throws ERR_TORCHBIND_CONFIG for other models, and for what this one does not compute
 */
export function hfFacts(file: string, json: JsonObject): ConfigFacts {
  const refuse = (field: string, expected: string): never => {
    throw new TorchBindError(
      `${file}: ${field} is ${describe(json[field])}, but this model computes ${expected}.`,
      'ERR_TORCHBIND_CONFIG',
    );
  };
  if (json.model_type !== 'gpt2') refuse('model_type', "'gpt2' alone");
  if (json.add_cross_attention === true) refuse('add_cross_attention', 'no attention to an encoder');
  const { activation_function: name = 'gelu_new' } = json;
  const activation = typeof name === 'string' && Object.hasOwn(activations, name) ? activations[name] : undefined;
  if (activation === undefined) refuse('activation_function', Object.keys(activations).join(', '));
  return {
    ...factsFrom({ ...defaults, ...json }, names),
    activation: activation!,
    attentionScale: json.scale_attn_weights === false ? 'none' : 'head',
    ...(json.tie_word_embeddings === false ? { tieWeights: false } : {}),
  };
}

/** The config.json that came, with what differs now; of a model from elsewhere, all that GPT2Config needs. */
export function hfConfigJson(config: GPTConfig, came: JsonObject | undefined, dtype: string): JsonObject {
  const fresh = came === undefined;
  const base: JsonObject = came ?? { architectures: ['GPT2LMHeadModel'], model_type: 'gpt2' };
  const said = { ...defaults, ...base };
  const json: JsonObject = { ...base };
  for (const [field, name] of Object.entries(names)) {
    if (field === 'n_ctx' && !('n_ctx' in base)) continue;
    const value = name === 'mlpHidden' && config.mlpHidden === 4 * config.nEmbd ? null : config[name];
    const before: unknown = (said as JsonObject)[field] ?? (name === 'scaleByLayer' ? false : null);
    if (fresh || before !== value) json[field] = value;
  }
  const activation = typeof base.activation_function === 'string' ? base.activation_function : 'gelu_new';
  if (fresh || activations[activation] !== config.activation) {
    json.activation_function = { gelu_tanh: 'gelu_new', gelu: 'gelu', relu: 'relu', swiglu: '' }[config.activation];
  }
  if (fresh || config.attentionScale === 'none') json.scale_attn_weights = config.attentionScale !== 'none';
  if (fresh || (json.tie_word_embeddings ?? true) !== config.tieWeights) json.tie_word_embeddings = config.tieWeights;
  if (fresh) Object.assign(json, specialTokens(config.vocabSize));
  const dtypeField = 'torch_dtype' in base && !('dtype' in base) ? 'torch_dtype' : 'dtype';
  return fresh || dtypeField in base ? { ...json, [dtypeField]: dtype } : json;
}

/** The end of text is GPT-2's where the vocabulary has it. */
function specialTokens(vocabSize: number): JsonObject {
  const end = vocabSize > 50256 ? 50256 : null;
  return { bos_token_id: end, eos_token_id: end };
}
