import { describe, TorchBindError } from '../../errors';
import type { GPTConfig } from '../../models/config';
import type { RopeScaling } from '../../models/rope-frequencies';
import type { JsonObject } from '../files';

/** What a config.json says of rotary positions, in the form of transformers 5 (`rope_parameters`) and in older ones. */

export interface RopeDefaults {
  theta: number;
  /** Share of a head's channels that is rotated. */
  fraction?: number;
}

/** The parameters, wherever a version of transformers wrote them. */
function parametersOf(json: JsonObject, { theta, fraction = 1 }: RopeDefaults): JsonObject {
  const { rope_parameters: given, rope_scaling: scaling } = json;
  const older = {
    rope_theta: json.rope_theta ?? json.rotary_emb_base ?? theta,
    partial_rotary_factor: json.partial_rotary_factor ?? json.rotary_pct ?? fraction,
  };
  const said = isObject(given) ? given : isObject(scaling) ? scaling : {};
  return { ...older, ...said };
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Facts of rotary positions in a config.json. @throws ERR_TORCHBIND_CONFIG for kinds that this model does not compute */
export function ropeFacts(json: JsonObject, defaults: RopeDefaults, headSize: number): Partial<GPTConfig> {
  const { rope_parameters: given } = json;
  // Gemma 3: one set for each kind of layer.
  if (isObject(given) && isObject(given.full_attention)) {
    const local = isObject(given.sliding_attention) ? given.sliding_attention.rope_theta : undefined;
    const facts = ropeFacts({ ...json, rope_parameters: given.full_attention }, defaults, headSize);
    return { ...facts, ropeLocalTheta: typeof local === 'number' ? local : null };
  }
  const parameters = parametersOf(json, defaults);
  const fraction = number(parameters, 'partial_rotary_factor', 1);
  const local = json.rope_local_base_freq;
  return {
    positionEncoding: 'rope',
    ropeTheta: number(parameters, 'rope_theta', defaults.theta),
    ropeSize: Math.trunc(headSize * fraction),
    ...(typeof local === 'number' ? { ropeLocalTheta: local } : {}),
    ...scalingFacts(json, parameters),
  };
}

function scalingFacts(json: JsonObject, parameters: JsonObject): Partial<GPTConfig> {
  const { rope_type: type = parameters.type ?? 'default' } = parameters;
  const context = Number(json.max_position_embeddings);
  const original = number(
    parameters,
    'original_max_position_embeddings',
    json.original_max_position_embeddings ?? context,
  );
  switch (type) {
    case 'default':
    case 'dynamic': // Changes nothing within max_position_embeddings, which is the context here.
      return { ropeScaling: null, ropeScale: 1 };
    case 'linear':
      return { ropeScaling: null, ropeScale: number(parameters, 'factor') };
    case 'llama3':
      return {
        ropeScale: 1,
        ropeScaling: {
          type,
          factor: number(parameters, 'factor'),
          lowFreqFactor: number(parameters, 'low_freq_factor'),
          highFreqFactor: number(parameters, 'high_freq_factor'),
          originalBlockSize: original,
        },
      };
    case 'yarn':
      return { ropeScale: 1, ropeScaling: yarn(parameters, original, context) };
    case 'longrope':
    case 'su': // Phi-3's first name for it
      return { ropeScale: 1, ropeScaling: longRope(parameters, original, context) };
    default:
      throw new TorchBindError(
        `expected rope_type to be one of default, linear, dynamic, llama3, yarn, longrope, got ${describe(type)}, ` +
          'which torchbind does not support.',
        'ERR_TORCHBIND_CONFIG',
      );
  }
}

function yarn(parameters: JsonObject, originalBlockSize: number, context: number): RopeScaling {
  const factor = number(parameters, 'factor', context / originalBlockSize);
  const magnitude = (scale: number, weight = 1): number => (scale <= 1 ? 1 : 0.1 * weight * Math.log(scale) + 1);
  const { mscale, mscale_all_dim: all } = parameters;
  const usual =
    typeof mscale === 'number' && typeof all === 'number' && mscale !== 0 && all !== 0
      ? magnitude(factor, mscale) / magnitude(factor, all)
      : magnitude(factor);
  return {
    type: 'yarn',
    factor,
    originalBlockSize,
    betaFast: number(parameters, 'beta_fast', 32),
    betaSlow: number(parameters, 'beta_slow', 1),
    attentionFactor: number(parameters, 'attention_factor', usual),
    truncate: parameters.truncate !== false,
  };
}

function longRope(parameters: JsonObject, originalBlockSize: number, context: number): RopeScaling {
  const factor = context / originalBlockSize;
  const usual = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalBlockSize));
  return {
    type: 'longrope',
    shortFactor: parameters.short_factor as number[],
    longFactor: parameters.long_factor as number[],
    originalBlockSize,
    attentionFactor: number(parameters, 'attention_factor', usual),
  };
}

/** A number of the parameters; null and absent are the default. */
function number(parameters: JsonObject, field: string, otherwise?: unknown): number {
  const value = parameters[field] ?? otherwise;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw new TorchBindError(`expected ${field} to be a number, got ${describe(value)}.`, 'ERR_TORCHBIND_CONFIG');
}

/** The parameters as transformers 5 writes them. */
export function ropeJson({ ropeTheta, ropeScale, ropeScaling, ropeSize, headSize }: GPTConfig): JsonObject {
  const base: JsonObject = { rope_theta: ropeTheta };
  if (ropeSize !== headSize) base.partial_rotary_factor = ropeSize / headSize;
  if (ropeScaling === null) {
    return ropeScale === 1 ? { ...base, rope_type: 'default' } : { ...base, rope_type: 'linear', factor: ropeScale };
  }
  const { type, originalBlockSize } = ropeScaling;
  const json = { ...base, rope_type: type, original_max_position_embeddings: originalBlockSize };
  switch (ropeScaling.type) {
    case 'llama3':
      return {
        ...json,
        factor: ropeScaling.factor,
        low_freq_factor: ropeScaling.lowFreqFactor,
        high_freq_factor: ropeScaling.highFreqFactor,
      };
    case 'yarn':
      return {
        ...json,
        factor: ropeScaling.factor,
        beta_fast: ropeScaling.betaFast,
        beta_slow: ropeScaling.betaSlow,
        attention_factor: ropeScaling.attentionFactor,
        truncate: ropeScaling.truncate,
      };
    case 'longrope':
      return {
        ...json,
        short_factor: [...ropeScaling.shortFactor],
        long_factor: [...ropeScaling.longFactor],
        attention_factor: ropeScaling.attentionFactor,
      };
  }
}
