import type { GPTConfig } from '../../models/config';
import type { JsonObject } from '../files';
import { activationName, readActivation, type Refuse, refuserOf } from './activations';
import { ropeFacts, type RopeDefaults } from './rope';

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

export const llamaFields: ConfigFields = {
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
export { llamaSizes };
export const layerNormFields: ConfigFields = { ...llamaSizes, layer_norm_eps: 'normEps' };

export const silu = { hidden_act: 'silu', attention_dropout: 0, tie_word_embeddings: false };

export const gatedBy = (field: string) => ({
  read: (json: JsonObject, refuse: Refuse): Partial<GPTConfig> => ({
    activation: readActivation(json, field, true, refuse),
  }),
  write: ({ activation }: GPTConfig): JsonObject => ({ [field]: activationName(activation) }),
});

/** Several readers and writers as one. */
export function joined(...parts: Pick<ConfigType, 'read' | 'write'>[]): Pick<ConfigType, 'read' | 'write'> {
  return {
    read: (json, refuse) => Object.assign({}, ...parts.map(({ read }) => read?.(json, refuse))) as Partial<GPTConfig>,
    write: (config) => Object.assign({}, ...parts.map(({ write }) => write?.(config))) as JsonObject,
  };
}

export const attentionBias = (alsoProj: boolean): Pick<ConfigType, 'read' | 'write'> => ({
  read: ({ attention_bias: bias = false }) => ({ bias: bias === true, projBias: alsoProj && bias === true }),
  write: ({ bias }) => ({ attention_bias: bias }),
});
export const mlpBias: Pick<ConfigType, 'read' | 'write'> = {
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
export const sliding = (
  before: (json: JsonObject, layers: number) => number[],
): Pick<ConfigType, 'read' | 'write'> => ({
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
export const qwenWindow = sliding((json, layers) => {
  const first = Number(json.max_window_layers ?? 28);
  return json.use_sliding_window === true ? range(layers).filter((layer) => layer >= first) : [];
});
export const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** The facts that a config.json of a type states. */
export function factsOfType(type: ConfigType, json: JsonObject): Partial<GPTConfig> {
  const refuse = refuserOf(json);
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
