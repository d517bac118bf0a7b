import { isDeepStrictEqual } from 'node:util';
import { closest, TorchBindError } from '../../errors';
import { completeConfig, type GPTConfig, type GPTOptions } from '../../models/config';
import { layoutByName } from '../../models/layouts';
import type { JsonObject } from '../files';
import { ropeJson } from './rope';
import { type ConfigType, factsOfType } from './config-type';
import { gemma, gemma2, gemma3 } from './gemma';
import { granite, llama, mistral, olmo, olmo2, qwen2, qwen3, smolLm3, stableLm } from './llama';
import { bigCode, gptJ, gptNeo, neox, opt, phi, phi3 } from './others';

/** Between a config.json of a decoder of Hugging Face and the facts of a model. */

/** Types whose files are read and written. Where several can say the same, the first one is written. */
const configTypes: readonly ConfigType[] = [
  llama, mistral, qwen2, qwen3, smolLm3, olmo2, olmo, granite, gemma, gemma2, gemma3, stableLm, phi, phi3, neox, opt, gptNeo, gptJ, bigCode,
]; // prettier-ignore

/** The type that a config.json names, if its models are computed here. */
export function configTypeOf(json: JsonObject): ConfigType | undefined {
  return configTypes.find(({ modelType }) => modelType === json.model_type);
}

/** Names of the types. */
export const modelTypes: readonly string[] = configTypes.map(({ modelType }) => modelType);

/** Layouts whose models have a config.json of these types. */
export const decoderLayouts: readonly string[] = [...new Set(configTypes.map(({ layout }) => layout))];

/**
 * What a config.json says of the model.
 *
 * @throws ERR_TORCHBIND_CONFIG for what the model here does not compute, and for fields that are not known
 */
export function decoderFacts(json: JsonObject, type: ConfigType): Partial<GPTConfig> {
  refuseUnknown(json, type);
  return factsOfType(type, json);
}

/** Fields that say nothing of what is computed from tokens to logits, in any type. */
const harmless = new Set([
  'model_type', 'architectures', 'dtype', 'torch_dtype', 'transformers_version', 'use_cache', 'initializer_range', 'bos_token_id',
  'eos_token_id', 'pad_token_id', 'sep_token_id', 'decoder_start_token_id', 'auto_map', 'id2label', 'label2id', 'num_labels',
  'problem_type', 'return_dict', 'output_hidden_states', 'output_attentions', 'torchscript', 'task_specific_params', 'finetuning_task',
  'tokenizer_class', 'is_encoder_decoder', 'is_decoder', 'name_or_path', 'chunk_size_feed_forward', 'keys_to_ignore_at_inference',
  'pretraining_tp', 'attn_implementation', 'max_length', 'min_length', 'do_sample', 'temperature', 'top_k', 'top_p', 'num_beams',
  'repetition_penalty', 'length_penalty', 'early_stopping', 'num_return_sequences', 'no_repeat_ngram_size', 'bad_words_ids', 'suppress_tokens',
  'begin_suppress_tokens', 'forced_bos_token_id', 'forced_eos_token_id', 'remove_invalid_values', 'diversity_penalty', 'num_beam_groups',
  'typical_p', 'encoder_no_repeat_ngram_size', 'output_scores', 'return_dict_in_generate', 'exponential_decay_length_penalty', 'prefix',
  'pruned_heads', 'tf_legacy_loss', 'use_bfloat16', 'tie_encoder_decoder', 'cross_attention_hidden_size', 'unsloth_version', 'unsloth_fixed',
]); // prettier-ignore

const positions = [
  'rope_parameters',
  'rope_theta',
  'rope_scaling',
  'rope_local_base_freq',
  'partial_rotary_factor',
  'original_max_position_embeddings',
];
const common = [
  'hidden_act',
  'activation_function',
  'attention_bias',
  'mlp_bias',
  'layer_types',
  'sliding_window',
  'attention_multiplier',
];

/** What is not known may change the result: it is refused, unless it is not set. */
function refuseUnknown(json: JsonObject, { fields, defaults, knows = [], modelType }: ConfigType): void {
  const known = new Set([...Object.keys(fields), ...Object.keys(defaults), ...knows, ...positions, ...common]);
  const isSet = (value: unknown): boolean => value !== null && value !== undefined && value !== false;
  const unknown = Object.keys(json).filter(
    (field) => isSet(json[field]) && !known.has(field) && !harmless.has(field) && !field.startsWith('_'),
  );
  const [field] = unknown;
  if (field === undefined) return;
  const near = closest(field, [...known]);
  throw new TorchBindError(
    `the field ${unknown.slice(0, 4).join(', ')} of a '${modelType}' model is not known here, and may change what it computes.` +
      `${near === undefined ? '' : ` Did you mean '${near}'?`} Remove it if it does not, and check the model's output.`,
    'ERR_TORCHBIND_CONFIG',
  );
}

/**
 * The config.json of a model: the one that came, with what differs now; of a model from elsewhere, a new one of the first type
 * that says all its facts.
 *
 * @throws ERR_TORCHBIND_CONVERT where no type can say them
 */
export function decoderConfigJson(
  config: GPTConfig,
  layout: string,
  came: JsonObject | undefined,
  dtype: string,
): JsonObject {
  const type = came && configTypeOf(came);
  if (came !== undefined && type !== undefined) {
    if (says(came, type, config)) return withDType(came, dtype);
    const json = { ...came, ...changedFields(came, type, config) };
    if (says(json, type, config)) return withDType(json, dtype);
  }
  for (const candidate of configTypes.filter((each) => each.layout === layout)) {
    const json = freshJson(candidate, config, dtype);
    if (says(json, candidate, config)) return json;
  }
  throw new TorchBindError(
    `no config.json of transformers says what this '${layout}' model computes: its facts are not those of ` +
      `${configTypes
        .filter((each) => each.layout === layout)
        .map(({ modelType }) => modelType)
        .join(', ')}.`,
    'ERR_TORCHBIND_CONVERT',
  );
}

function withDType(json: JsonObject, dtype: string): JsonObject {
  const field = 'torch_dtype' in json && !('dtype' in json) ? 'torch_dtype' : 'dtype';
  return field in json && json[field] !== dtype ? { ...json, [field]: dtype } : json;
}

/** Facts that no config.json of transformers states, and that change nothing of what is computed. */
const unsaid: readonly (keyof GPTConfig)[] = [
  'batchSize',
  'device',
  'extra',
  'dropout',
  'attentionDropout',
  'embeddingDropout',
];

/** Whether a config.json states a config. */
function says(json: JsonObject, type: ConfigType, config: GPTConfig): boolean {
  const stated = statedConfig(json, type, config);
  if (stated === undefined) return false;
  return (Object.keys(config) as (keyof GPTConfig)[]).every(
    (name) => unsaid.includes(name) || sameFact(name, stated, config),
  );
}

/** What a config.json states; undefined where no model of its type can be so. */
function statedConfig(json: JsonObject, type: ConfigType, { lmHeadBias }: GPTConfig): GPTConfig | undefined {
  const { facts: family } = layoutByName(type.layout);
  try {
    return completeConfig({ ...withoutUnset(factsOfType(type, json)), lmHeadBias } as GPTOptions, family);
  } catch (error) {
    if ((error as TorchBindError).code === 'ERR_TORCHBIND_CONFIG') return undefined;
    throw error;
  }
}

function sameFact(name: keyof GPTConfig, a: GPTConfig, b: GPTConfig): boolean {
  if (isDeepStrictEqual(a[name], b[name])) return true;
  // Biases that a norm without scale has not, and layers that all have the window.
  if (name === 'normBias') return !a.normScale || a.normType === 'rmsnorm';
  if (name === 'attentionMultiplier' || name === 'attentionScale') return Math.abs(factor(a) - factor(b)) < 1e-9;
  if (name === 'slidingLayers') return isDeepStrictEqual(windowLayers(a), windowLayers(b));
  return false;
}

function factor({ attentionMultiplier, attentionScale, headSize, nEmbd }: GPTConfig): number {
  return attentionMultiplier ?? 1 / Math.sqrt({ head: headSize, embd: nEmbd, none: 1 }[attentionScale]);
}

function windowLayers({ slidingWindow, slidingLayers, nLayer }: GPTConfig): readonly number[] {
  return slidingWindow === null ? [] : (slidingLayers ?? Array.from({ length: nLayer }, (_, i) => i));
}

function withoutUnset(facts: Partial<GPTConfig>): Partial<GPTConfig> {
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined));
}

/** Fields that state a fact which has another value now. */
function changedFields(came: JsonObject, type: ConfigType, config: GPTConfig): JsonObject {
  const before = factsOfType(type, came);
  return Object.fromEntries(
    Object.entries(type.fields)
      .filter(([, name]) => !isDeepStrictEqual(before[name], config[name]))
      .map(([field, name]) => [field, config[name]]),
  );
}

/** Said of whole heads too, where the type's usual part is another. */
function rotatedPart({ rope }: ConfigType, { ropeSize, headSize }: GPTConfig): JsonObject {
  return rope?.fraction === undefined ? {} : { partial_rotary_factor: ropeSize / headSize };
}

function freshJson(type: ConfigType, config: GPTConfig, dtype: string): JsonObject {
  const { architecture, modelType, fields } = type;
  return {
    architectures: [architecture],
    model_type: modelType,
    ...Object.fromEntries(Object.entries(fields).map(([field, name]) => [field, config[name]])),
    ...(type.rope === undefined ? {} : { rope_parameters: { ...rotatedPart(type, config), ...ropeJson(config) } }),
    ...type.write?.(config),
    bos_token_id: null,
    eos_token_id: null,
    pad_token_id: null,
    dtype,
    use_cache: true,
  };
}
