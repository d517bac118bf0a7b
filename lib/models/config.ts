import { isDeepStrictEqual } from 'node:util';
import { checkFunction, checkOptions, closest, describe, isAtLeast, TorchBindError } from '../errors';
import { checkRopeScaling, type RopeScaling } from './rope-frequencies';

/**
 * Function between the two layers of the MLP: `gelu` is the exact form, `gelu_tanh` the approximation of GPT-2, `quick_gelu`
 * x sigmoid(1.702 x), `relu2` the square of ReLU. `swiglu`, `geglu` and `geglu_tanh` gate the first layer by a third one, for
 * instance silu(gate(x)) * up(x) (Shazeer 2020).
 */
export type Activation = 'relu' | 'relu2' | 'gelu' | 'gelu_tanh' | 'quick_gelu' | 'silu' | 'tanh' | GatedActivation;
export type GatedActivation = 'swiglu' | 'geglu' | 'geglu_tanh';

const ACTIVATIONS = [
  'relu',
  'relu2',
  'gelu',
  'gelu_tanh',
  'quick_gelu',
  'silu',
  'tanh',
  'swiglu',
  'geglu',
  'geglu_tanh',
];

/** Whether the MLP has a third layer that gates the first. */
export function isGated(activation: Activation): activation is GatedActivation {
  return activation === 'swiglu' || activation === 'geglu' || activation === 'geglu_tanh';
}

/**
 * The architecture of a GPT. The defaults are those of MyPT, whose bundles have the layout `mypt`. The fields after the
 * first nine are the facts in which other families differ.
 */
export interface GPTConfig {
  /** Sequences in a training batch; the model itself takes any number. Default 32. */
  batchSize: number;
  /** Maximum context length in tokens, T. Default 256. */
  blockSize: number;
  /** Rows of the token embedding and of the head, V. */
  vocabSize: number;
  /** Embedding channels, C; a multiple of nHead. Default 384. */
  nEmbd: number;
  /** Number of attention heads. Default 6. */
  nHead: number;
  /** Number of blocks. Default 6. */
  nLayer: number;
  /** Dropout probability on attention weights and on the outputs of attention and MLP, in training. Default 0.2. */
  dropout: number;
  /** Bias of the query, key and value projections. Default false. */
  bias: boolean;
  /** Device recorded in the bundle, such as `cpu` or `cuda`. Default `cpu`. */
  device: string;

  /** Activation of the MLP. Default `relu`. */
  activation: Activation;
  /**
   * Attention scores are scaled by 1 / sqrt of the head's channels (`head`, default), by 1 / sqrt of all channels
   * (`embd`), or not at all (`none`).
   */
  attentionScale: 'head' | 'embd' | 'none';
  /** Attention scores of block i are also divided by i + 1. Default false. */
  scaleByLayer: boolean;
  /** Bias of the attention's output projection. Default true. */
  projBias: boolean;
  /** Biases of the MLP. Default true. */
  mlpBias: boolean;
  /** Bias of the layer norms. Default true. */
  normBias: boolean;
  /** Bias of the head that gives the logits. Default true. */
  lmHeadBias: boolean;
  /** The head shares the weight of the token embedding. Default false. */
  tieWeights: boolean;
  /**
   * Position of the norms: before attention and MLP (`pre`, default), after the residual sum (`post`), on the outputs
   * of attention and MLP before the sum (`output`, OLMo 2), or both before and on the outputs (`sandwich`, Gemma 2).
   */
  normPosition: 'pre' | 'post' | 'output' | 'sandwich';
  /** LayerNorm (default), or RMSNorm, which has no bias. */
  normType: 'layernorm' | 'rmsnorm';
  /** Norms have a learned scale. Default true. */
  normScale: boolean;
  /** RMSNorm multiplies by 1 + weight (Gemma). Default false. */
  normPlusOne: boolean;
  /** Norms of queries and keys: per head (`head`, Qwen 3), over all channels (`all`, OLMo 2), or none (default). */
  qkNorm: 'none' | 'head' | 'all';
  /**
   * Attention and MLP run in parallel on the block's input: each with its own norm (`two-norms`, GPT-NeoX), with one
   * norm (`one-norm`, GPT-J), or one after the other (`none`, default).
   */
  parallelResidual: 'none' | 'one-norm' | 'two-norms';
  /** Epsilon of the norms, added to the variance. Default 1e-5, with RMSNorm 1e-6. */
  normEps: number;
  /**
   * `learned`: a table that is added to the embeddings (default); `rope`: rotated queries and keys (RoPE; Su et al.
   * 2021).
   */
  positionEncoding: 'learned' | 'rope';
  /** Base of RoPE's frequencies. Default 10000. */
  ropeTheta: number;
  /** Divisor of RoPE's positions. Default 1. */
  ropeScale: number;
  /** Scaling of RoPE's frequencies for long contexts, in addition to `ropeScale`. Default null: no scaling. */
  ropeScaling: RopeScaling | null;
  /** Number of channels of a head that RoPE rotates. Default `headSize`. */
  ropeSize: number;
  /** RoPE pairs neighbouring channels (GPT-J) instead of channels i and i + ropeSize / 2. Default false. */
  ropeInterleaved: boolean;
  /** Base of RoPE's frequencies in layers with a sliding window, without scaling (Gemma 3). Default null: `ropeTheta`. */
  ropeLocalTheta: number | null;
  /** Indices of layers without RoPE, from 0. Default none. */
  noRopeLayers: readonly number[];
  /** Id of the token whose embedding gets no gradient, as `padding_idx` of PyTorch's Embedding. Default null. */
  paddingIdx: number | null;
  /** Offset added to positions before the table lookup (OPT). Default 0. */
  positionOffset: number;
  /** Number of key and value heads, each shared by nHead / nKvHead query heads (Ainslie et al. 2023). Default nHead. */
  nKvHead: number;
  /** Channels of a head. Default nEmbd / nHead. */
  headSize: number;
  /** One matrix computes queries, keys and values; false: three matrices. Default true. */
  fusedQkv: boolean;
  /**
   * One matrix computes the gate and the first layer of a gated MLP; its first half is the gate (Phi-3). Default false.
   */
  fusedGate: boolean;
  /** Rows of the fused matrix are ordered by head: query, key and value of each (GPT-NeoX). Default false. */
  qkvByHead: boolean;
  /**
   * Number of positions, including its own, that each position sees in layers with a sliding window. Default null: all.
   */
  slidingWindow: number | null;
  /** Indices of layers with the sliding window, from 0. Default: all layers if a window is set. */
  slidingLayers: readonly number[] | null;
  /** Factor of the attention scores instead of `attentionScale`. Default null. */
  attentionMultiplier: number | null;
  /** Soft cap c of the attention scores: c tanh(score / c) (Gemma 2). Default null: none. */
  attentionSoftcap: number | null;
  /** Soft cap c of the logits: c tanh(logit / c) (Gemma 2). Default null: none. */
  logitSoftcap: number | null;
  /** Factor of the token embeddings. Default 1. */
  embeddingScale: number;
  /** Factor of the outputs of attention and MLP before the residual sum. Default 1. */
  residualScale: number;
  /** Divisor of the logits. Default 1. */
  logitScale: number;
  /** Hidden channels of the MLP. Default 4 nEmbd; with a gate 8/3 nEmbd, rounded up to a multiple of 64. */
  mlpHidden: number;
  /** Dropout probability on attention weights. Default `dropout`. */
  attentionDropout: number;
  /** Dropout probability on the embeddings. Default 0. */
  embeddingDropout: number;

  /** Unknown fields of a config.json: kept, and written back. */
  extra: Readonly<Record<string, unknown>>;
}

/** Options of `new GPT`: every field except `vocabSize` has a default. */
export type GPTOptions = Partial<GPTConfig> & Pick<GPTConfig, 'vocabSize'>;

/** Fields of every `mypt` config.json, in order. */
const REQUIRED_FIELDS = {
  batch_size: 'batchSize',
  block_size: 'blockSize',
  vocab_size: 'vocabSize',
  n_embd: 'nEmbd',
  n_head: 'nHead',
  n_layer: 'nLayer',
  dropout: 'dropout',
  bias: 'bias',
  device: 'device',
} as const;

/** Fields that are written only if they differ from the default. */
const OPTIONAL_FIELDS = {
  activation: 'activation',
  attention_scale: 'attentionScale',
  proj_bias: 'projBias',
  mlp_bias: 'mlpBias',
  norm_bias: 'normBias',
  lm_head_bias: 'lmHeadBias',
  tie_weights: 'tieWeights',
  norm_position: 'normPosition',
  scale_by_layer: 'scaleByLayer',
  norm_type: 'normType',
  norm_eps: 'normEps',
  pos_encoding: 'positionEncoding',
  rope_theta: 'ropeTheta',
  rope_scale: 'ropeScale',
  rope_scaling: 'ropeScaling',
  rope_size: 'ropeSize',
  rope_interleaved: 'ropeInterleaved',
  rope_local_theta: 'ropeLocalTheta',
  no_rope_layers: 'noRopeLayers',
  position_offset: 'positionOffset',
  padding_idx: 'paddingIdx',
  n_kv_head: 'nKvHead',
  head_size: 'headSize',
  fused_qkv: 'fusedQkv',
  fused_gate: 'fusedGate',
  qkv_by_head: 'qkvByHead',
  sliding_window: 'slidingWindow',
  sliding_layers: 'slidingLayers',
  attention_multiplier: 'attentionMultiplier',
  attention_softcap: 'attentionSoftcap',
  logit_softcap: 'logitSoftcap',
  embedding_scale: 'embeddingScale',
  residual_scale: 'residualScale',
  logit_scale: 'logitScale',
  norm_scale: 'normScale',
  norm_plus_one: 'normPlusOne',
  qk_norm: 'qkNorm',
  parallel_residual: 'parallelResidual',
  mlp_hidden: 'mlpHidden',
  attention_dropout: 'attentionDropout',
  embedding_dropout: 'embeddingDropout',
} as const;

const FIELDS: Readonly<Record<string, keyof GPTConfig>> = { ...REQUIRED_FIELDS, ...OPTIONAL_FIELDS };

/** Whether a config.json may leave out a field of the config. */
export function isOptionalField(name: string): boolean {
  return !(Object.values(REQUIRED_FIELDS) as string[]).includes(name);
}

/** Fields whose default depends on others. */
const DERIVED = {
  normEps: ({ normType }: GPTConfig) => (normType === 'rmsnorm' ? 1e-6 : 1e-5),
  mlpHidden: ({ activation, nEmbd }: GPTConfig) =>
    isGated(activation) ? 64 * Math.ceil(Math.trunc((8 * nEmbd) / 3) / 64) : 4 * nEmbd,
  attentionDropout: ({ dropout }: GPTConfig) => dropout,
  nKvHead: ({ nHead }: GPTConfig) => nHead,
  // What is not a number is refused later.
  headSize: ({ nEmbd, nHead }: GPTConfig) => (isSize(nHead) ? nEmbd / nHead : nEmbd),
  ropeSize: ({ headSize, nEmbd, nHead }: GPTConfig) => headSize ?? (isSize(nHead) ? nEmbd / nHead : nEmbd),
};

function derived(config: GPTConfig): Record<keyof typeof DERIVED, number> {
  const entries = Object.entries(DERIVED).map(([name, value]) => [name, value(config)]);
  return Object.fromEntries(entries) as Record<keyof typeof DERIVED, number>;
}

/** Fields that only Hugging Face decoders set to other values. */
export const plainDecoder = {
  normScale: true,
  normPlusOne: false,
  qkNorm: 'none',
  parallelResidual: 'none',
  ropeScaling: null,
  ropeInterleaved: false,
  ropeLocalTheta: null,
  noRopeLayers: [],
  positionOffset: 0,
  paddingIdx: null,
  fusedQkv: true,
  fusedGate: false,
  qkvByHead: false,
  slidingWindow: null,
  slidingLayers: null,
  attentionMultiplier: null,
  attentionSoftcap: null,
  logitSoftcap: null,
  embeddingScale: 1,
  residualScale: 1,
  logitScale: 1,
} satisfies Partial<GPTConfig>;

const DEFAULTS: Omit<GPTConfig, 'vocabSize' | keyof typeof DERIVED> = {
  ...plainDecoder,
  batchSize: 32,
  blockSize: 256,
  nEmbd: 384,
  nHead: 6,
  nLayer: 6,
  dropout: 0.2,
  bias: false,
  device: 'cpu',
  activation: 'relu',
  attentionScale: 'head',
  projBias: true,
  mlpBias: true,
  normBias: true,
  lmHeadBias: true,
  tieWeights: false,
  normPosition: 'pre',
  scaleByLayer: false,
  normType: 'layernorm',
  positionEncoding: 'learned',
  ropeTheta: 10000,
  ropeScale: 1,
  embeddingDropout: 0,
  extra: {},
};

/** Of a config.json without `vocab_size`: the padded vocabulary of GPT-2, as in the program that writes it. */
const FILE_VOCAB_SIZE = 50304;

/** Config fields that all models of a family share, given the other fields: their files do not record them. */
export type FamilyFacts = (config: Readonly<Omit<GPTConfig, 'vocabSize'>>) => Readonly<Partial<GPTConfig>>;

const noFacts: FamilyFacts = () => ({});

/**
 * Completes and checks a config. Missing fields take the family's values, else the defaults.
 *
 * @throws ERR_TORCHBIND_CONFIG for values out of range, ERR_TORCHBIND_UNKNOWN_OPTION for misspelled names
 */
export function completeConfig(options: GPTOptions, family: FamilyFacts = noFacts): GPTConfig {
  checkOptions(options ?? {}, ['vocabSize', ...Object.keys(DEFAULTS), ...Object.keys(DERIVED)], 'GPT config');
  const given = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
  const config = { ...DEFAULTS, ...family({ ...DEFAULTS, ...given } as GPTConfig), ...given } as GPTConfig;
  check(Number.isSafeInteger(config.nEmbd) && config.nEmbd > 0, 'nEmbd', config.nEmbd, 'a whole number above 0');
  if (isSize(config.nHead) && config.headSize === undefined)
    check(config.nEmbd % config.nHead === 0, 'nEmbd', config.nEmbd, `a multiple of nHead, which is ${config.nHead}`);
  for (const [name, value] of Object.entries(derived(config))) config[name as keyof typeof DERIVED] ??= value;
  if (config.normType === 'rmsnorm') config.normBias = false;
  for (const name of SIZES) {
    check(isSize(config[name]), name, config[name], 'a whole number above 0');
  }
  for (const name of ['dropout', 'attentionDropout', 'embeddingDropout'] as const) {
    check(isAtLeast(config[name], 0) && config[name] < 1, name, config[name], 'a number from 0 to below 1');
  }
  for (const name of ['normEps', 'ropeTheta', 'ropeScale', 'embeddingScale', 'residualScale', 'logitScale'] as const) {
    check(Number.isFinite(config[name]) && config[name] > 0, name, config[name], 'a number above 0');
  }
  for (const name of ['ropeLocalTheta', 'attentionMultiplier', 'attentionSoftcap', 'logitSoftcap'] as const) {
    const value = config[name];
    check(value === null || (Number.isFinite(value) && value > 0), name, value, 'a number above 0, or null');
  }
  const { slidingWindow, positionOffset } = config;
  const isWindow = slidingWindow === null || (Number.isSafeInteger(slidingWindow) && slidingWindow > 0);
  check(isWindow, 'slidingWindow', slidingWindow, 'a whole number above 0, or null');
  check(
    Number.isSafeInteger(positionOffset) && positionOffset >= 0,
    'positionOffset',
    positionOffset,
    'a whole number',
  );
  const { paddingIdx, vocabSize } = config;
  const isToken =
    paddingIdx === null || (Number.isSafeInteger(paddingIdx) && paddingIdx >= 0 && paddingIdx < vocabSize);
  check(isToken, 'paddingIdx', paddingIdx, 'a token of the vocabulary, or null');
  for (const name of ['noRopeLayers', 'slidingLayers'] as const) checkLayers(name, config);
  checkRopeScaling(config.ropeScaling);
  check(config.nLayer <= maxLayers, 'nLayer', config.nLayer, `at most ${maxLayers}`);
  check(
    config.nHead % config.nKvHead === 0,
    'nHead',
    config.nHead,
    `a multiple of nKvHead, which is ${config.nKvHead}`,
  );
  for (const name of FLAGS) check(typeof config[name] === 'boolean', name, config[name], 'true or false');
  check(typeof config.device === 'string', 'device', config.device, "a device such as 'cpu'");
  checkChoice('activation', config.activation, ACTIVATIONS);
  checkChoice('attentionScale', config.attentionScale, ['head', 'embd', 'none']);
  checkChoice('normPosition', config.normPosition, ['pre', 'post', 'output', 'sandwich']);
  checkChoice('qkNorm', config.qkNorm, ['none', 'head', 'all']);
  checkChoice('parallelResidual', config.parallelResidual, ['none', 'one-norm', 'two-norms']);
  checkChoice('normType', config.normType, ['layernorm', 'rmsnorm']);
  checkChoice('positionEncoding', config.positionEncoding, ['learned', 'rope']);
  const { headSize, ropeSize, positionEncoding, nEmbd, nHead } = config;
  const rotated = ropeSize === headSize && headSize === nEmbd / nHead ? 'nEmbd / nHead' : 'ropeSize';
  check(positionEncoding !== 'rope' || ropeSize % 2 === 0, rotated, ropeSize, 'even, as RoPE needs it');
  check(ropeSize <= headSize, 'ropeSize', ropeSize, `at most headSize, which is ${headSize}`);
  check(!config.qkvByHead || config.nKvHead === nHead, 'nKvHead', config.nKvHead, 'nHead, with qkvByHead');
  return config;
}

function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function checkLayers(name: 'noRopeLayers' | 'slidingLayers', config: GPTConfig): void {
  const layers = config[name];
  if (layers === null && name === 'slidingLayers') return;
  const isLayer = (layer: unknown): boolean =>
    Number.isSafeInteger(layer) && (layer as number) >= 0 && (layer as number) < config.nLayer;
  check(Array.isArray(layers) && layers.every(isLayer), name, layers, 'an array of layers, from 0 to below nLayer');
}

/** Maximum number of blocks, above that of any real model: blocks are built one by one until memory ends. */
const maxLayers = 4096;

/** Number of elements in the matrices and tables of a model with this config. */
export function countWeights(config: GPTConfig): number {
  const { vocabSize, blockSize, nEmbd, nLayer, mlpHidden, activation, positionEncoding, tieWeights } = config;
  const { nHead, nKvHead, headSize, positionOffset } = config;
  const attention = 2 * (nHead + nKvHead) * headSize * nEmbd;
  const mlp = (isGated(activation) ? 3 : 2) * nEmbd * mlpHidden;
  const positions = positionEncoding === 'learned' ? (blockSize + positionOffset) * nEmbd : 0;
  return nLayer * (attention + mlp) + positions + (tieWeights ? 1 : 2) * vocabSize * nEmbd;
}

const FLAGS = [
  'bias', 'projBias', 'mlpBias', 'normBias', 'lmHeadBias', 'tieWeights', 'scaleByLayer', 'normScale', 'normPlusOne', 'ropeInterleaved',
  'fusedQkv', 'fusedGate', 'qkvByHead',
] as const; // prettier-ignore

const SIZES = [
  'batchSize', 'blockSize', 'vocabSize', 'nEmbd', 'nHead', 'nLayer', 'mlpHidden', 'nKvHead', 'headSize', 'ropeSize',
] as const; // prettier-ignore

/**
 * Writes a config as the fields of a config.json: the nine of every `mypt` bundle, those that differ from the family's
 * defaults, and unknown fields that came in.
 */
export function configToJson(config: GPTConfig, family: FamilyFacts = noFacts): Record<string, unknown> {
  const isConfig = typeof config?.extra === 'object' && config.extra !== null && Number.isSafeInteger(config.nEmbd);
  check(isConfig, 'config', config, 'a config, complete');
  checkFunction(family, 'configToJson(): family');
  const usual = { ...DEFAULTS, ...derived(config), ...family(config) };
  const wasGiven = (field: string): boolean => Object.hasOwn(config.extra, field);
  const facts = Object.entries(OPTIONAL_FIELDS).filter(
    ([field, name]) => wasGiven(field) || !isDeepStrictEqual(config[name], usual[name]),
  );
  const json: Record<string, unknown> = Object.fromEntries(
    [...Object.entries(REQUIRED_FIELDS), ...facts].map(([field, name]) => [field, config[name]]),
  );
  if (wasGiven('mlp_type') || config.activation === 'swiglu') {
    json.mlp_type = config.activation === 'swiglu' ? 'swiglu' : 'gelu';
    if (!wasGiven('activation') && (config.activation === 'swiglu' || config.activation === 'gelu'))
      delete json.activation;
  }
  return { ...config.extra, ...json };
}

/**
 * Reads the config in a config.json. Missing fields take the family's values, or the defaults of the program that
 * writes such files. Unknown fields are kept in `extra`.
 *
 * @throws ERR_TORCHBIND_CONFIG if it is not a config, or for architectures that this model does not compute
 */
export function configFromJson(json: unknown, family: FamilyFacts = noFacts): GPTConfig {
  checkFunction(family, 'configFromJson(): family');
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new TorchBindError(`A config should be an object but is ${describe(json)}.`, 'ERR_TORCHBIND_CONFIG');
  }
  const options: Partial<Record<keyof GPTConfig, unknown>> = { vocabSize: FILE_VOCAB_SIZE };
  const extra: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(json)) {
    const name = Object.hasOwn(FIELDS, field) ? FIELDS[field] : undefined;
    // Python's programs write None for a fact that they leave to its default.
    if (name !== undefined && value !== null) options[name] = value;
    if (field === 'mlp_type' && !Object.hasOwn(json, 'activation') && value !== null) options.activation = value;
    // A fact that the file says is said again when it is written, even where it is what the family has anyway.
    if (!Object.hasOwn(REQUIRED_FIELDS, field)) extra[field] = value;
  }
  return completeConfig({ ...(options as GPTOptions), extra }, family);
}

function check(valid: boolean, name: string, value: unknown, expected: string): void {
  if (valid) return;
  throw new TorchBindError(
    `GPT config: ${name} must be ${expected}, but is ${describe(value)}.`,
    'ERR_TORCHBIND_CONFIG',
  );
}

function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (choices.includes(value)) return;
  const near = typeof value === 'string' ? closest(value, choices) : undefined;
  const hint = near === undefined ? '' : ` Did you mean '${near}'?`;
  throw new TorchBindError(
    `GPT config: ${name} must be one of '${choices.join("', '")}', but is ${describe(value)}.${hint}`,
    'ERR_TORCHBIND_CONFIG',
  );
}
