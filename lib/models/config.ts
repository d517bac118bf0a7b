import { checkFunction, checkOptions, closest, describe, isAtLeast, TorchBindError } from '../errors';

/**
 * Function between the two layers of the MLP: `gelu` is the exact form, `gelu_tanh` the approximation of GPT-2. `swiglu`
 * gates the first layer by a third one, silu(gate(x)) * up(x) (Shazeer 2020).
 */
export type Activation = 'relu' | 'gelu' | 'gelu_tanh' | 'swiglu';

/**
 * The architecture of a GPT. The defaults are those of the program that `mypt` bundles come from; the facts that
 * other families differ in follow after the first nine.
 */
export interface GPTConfig {
  /** Sequences in a training batch; the model itself takes any number. Default 32. */
  batchSize: number;
  /** The longest context, in tokens. Default 256. */
  blockSize: number;
  /** Rows of the token embedding and of the head. */
  vocabSize: number;
  /** Channels; a multiple of nHead. Default 384. */
  nEmbd: number;
  /** Attention heads. Default 6. */
  nHead: number;
  /** Blocks. Default 6. */
  nLayer: number;
  /** Probability of dropout on attention weights and on the output of attention and MLP, while training. Default 0.2. */
  dropout: number;
  /** Bias of the query, key and value projections. Default false. */
  bias: boolean;
  /** Device that the bundle names, such as `cpu` or `cuda`. Default `cpu`. */
  device: string;

  /** Default `relu`. */
  activation: Activation;
  /** Scores are scaled by 1 / sqrt of the head's channels (`head`, default), of all channels (`embd`), or not (`none`). */
  attentionScale: 'head' | 'embd' | 'none';
  /** Scores of block i are also divided by i + 1. Default false. */
  scaleByLayer: boolean;
  /** Bias of the projection after attention. Default true. */
  projBias: boolean;
  /** Biases of the MLP. Default true. */
  mlpBias: boolean;
  /** Shift of the layer norms. Default true. */
  normBias: boolean;
  /** Bias of the head that gives the logits. Default true. */
  lmHeadBias: boolean;
  /** The head's weight is the token embedding's. Default false. */
  tieWeights: boolean;
  /** Norms before attention and MLP (`pre`, default), or after adding the residual (`post`). */
  normPosition: 'pre' | 'post';
  /** LayerNorm (default), or RMSNorm, which has no shift. */
  normType: 'layernorm' | 'rmsnorm';
  /** Added to the variance under the norms' root. Default 1e-5, with RMSNorm 1e-6. */
  normEps: number;
  /** A learned table that is added to the embeddings (default), or rotated queries and keys (RoPE; Su et al. 2021). */
  positionEncoding: 'learned' | 'rope';
  /** Base of RoPE's frequencies. Default 10000. */
  ropeTheta: number;
  /** RoPE's positions are divided by this. Default 1. */
  ropeScale: number;
  /** Channels inside the MLP. Default 4 nEmbd; with `swiglu` 8/3 nEmbd, rounded up to a multiple of 64. */
  mlpHidden: number;
  /** Probability of dropout on attention weights, where it is another. Default `dropout`. */
  attentionDropout: number;
  /** Probability of dropout on the embeddings. Default 0. */
  embeddingDropout: number;

  /** Fields of a config.json that say nothing to this library: kept, and written back. */
  extra: Readonly<Record<string, unknown>>;
}

/** What `new GPT` takes: everything but the vocabulary's size has a default. */
export type GPTOptions = Partial<GPTConfig> & Pick<GPTConfig, 'vocabSize'>;

/** Fields that every `mypt` config.json has, in its order. */
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

/** Fields that are written only where they differ from the default. */
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
  mlp_hidden: 'mlpHidden',
  attention_dropout: 'attentionDropout',
  embedding_dropout: 'embeddingDropout',
} as const;

const FIELDS: Readonly<Record<string, keyof GPTConfig>> = { ...REQUIRED_FIELDS, ...OPTIONAL_FIELDS };

/** Whether a config.json may leave out a field of the config. */
export function isOptionalField(name: string): boolean {
  return !(Object.values(REQUIRED_FIELDS) as string[]).includes(name);
}

/** Facts whose default depends on others. */
const DERIVED = {
  normEps: ({ normType }: GPTConfig) => (normType === 'rmsnorm' ? 1e-6 : 1e-5),
  mlpHidden: ({ activation, nEmbd }: GPTConfig) =>
    activation === 'swiglu' ? 64 * Math.ceil(Math.trunc((8 * nEmbd) / 3) / 64) : 4 * nEmbd,
  attentionDropout: ({ dropout }: GPTConfig) => dropout,
};

function derived(config: GPTConfig): Record<keyof typeof DERIVED, number> {
  const entries = Object.entries(DERIVED).map(([name, value]) => [name, value(config)]);
  return Object.fromEntries(entries) as Record<keyof typeof DERIVED, number>;
}

const DEFAULTS: Omit<GPTConfig, 'vocabSize' | keyof typeof DERIVED> = {
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

/** What the models of a family have in common, given the rest of the config: their files do not say it. */
export type FamilyFacts = (config: Readonly<Omit<GPTConfig, 'vocabSize'>>) => Readonly<Partial<GPTConfig>>;

const noFacts: FamilyFacts = () => ({});

/**
 * A complete config, checked. What is left out is what the family has, else the default.
 *
 * @throws ERR_TORCHBIND_CONFIG for values out of range, ERR_TORCHBIND_UNKNOWN_OPTION for misspelled names
 */
export function completeConfig(options: GPTOptions, family: FamilyFacts = noFacts): GPTConfig {
  checkOptions(options ?? {}, ['vocabSize', ...Object.keys(DEFAULTS), ...Object.keys(DERIVED)], 'GPT config');
  const given = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
  const config = { ...DEFAULTS, ...family({ ...DEFAULTS, ...given } as GPTConfig), ...given } as GPTConfig;
  check(Number.isSafeInteger(config.nEmbd) && config.nEmbd > 0, 'nEmbd', config.nEmbd, 'a whole number above 0');
  for (const [name, value] of Object.entries(derived(config))) config[name as keyof typeof DERIVED] ??= value;
  if (config.normType === 'rmsnorm') config.normBias = false;
  for (const name of ['batchSize', 'blockSize', 'vocabSize', 'nEmbd', 'nHead', 'nLayer', 'mlpHidden'] as const) {
    check(Number.isSafeInteger(config[name]) && config[name] > 0, name, config[name], 'a whole number above 0');
  }
  for (const name of ['dropout', 'attentionDropout', 'embeddingDropout'] as const) {
    check(isAtLeast(config[name], 0) && config[name] < 1, name, config[name], 'a number from 0 to below 1');
  }
  for (const name of ['normEps', 'ropeTheta', 'ropeScale'] as const) {
    check(Number.isFinite(config[name]) && config[name] > 0, name, config[name], 'a number above 0');
  }
  check(config.nLayer <= maxLayers, 'nLayer', config.nLayer, `at most ${maxLayers}`);
  check(config.nEmbd % config.nHead === 0, 'nEmbd', config.nEmbd, `a multiple of nHead, which is ${config.nHead}`);
  for (const name of FLAGS) check(typeof config[name] === 'boolean', name, config[name], 'true or false');
  check(typeof config.device === 'string', 'device', config.device, "a device such as 'cpu'");
  checkChoice('activation', config.activation, ['relu', 'gelu', 'gelu_tanh', 'swiglu']);
  checkChoice('attentionScale', config.attentionScale, ['head', 'embd', 'none']);
  checkChoice('normPosition', config.normPosition, ['pre', 'post']);
  checkChoice('normType', config.normType, ['layernorm', 'rmsnorm']);
  checkChoice('positionEncoding', config.positionEncoding, ['learned', 'rope']);
  const headSize = config.nEmbd / config.nHead;
  check(config.positionEncoding !== 'rope' || headSize % 2 === 0, 'nEmbd / nHead', headSize, 'even, as RoPE needs it');
  return config;
}

/** Blocks beyond any model: they would be built one by one until memory ends. */
const maxLayers = 4096;

/** Numbers in the matrices and tables of a model of this config. */
export function countWeights(config: GPTConfig): number {
  const { vocabSize, blockSize, nEmbd, nLayer, mlpHidden, activation, positionEncoding, tieWeights } = config;
  const attention = 4 * nEmbd * nEmbd;
  const mlp = (activation === 'swiglu' ? 3 : 2) * nEmbd * mlpHidden;
  const positions = positionEncoding === 'learned' ? blockSize * nEmbd : 0;
  return nLayer * (attention + mlp) + positions + (tieWeights ? 1 : 2) * vocabSize * nEmbd;
}

const FLAGS = ['bias', 'projBias', 'mlpBias', 'normBias', 'lmHeadBias', 'tieWeights', 'scaleByLayer'] as const;

/**
 * The fields of a config.json: the nine that every `mypt` bundle has, those that differ from the family's defaults, and
 * those that came in and are unknown.
 */
export function configToJson(config: GPTConfig, family: FamilyFacts = noFacts): Record<string, unknown> {
  const isConfig = typeof config?.extra === 'object' && config.extra !== null && Number.isSafeInteger(config.nEmbd);
  check(isConfig, 'config', config, 'a config, complete');
  checkFunction(family, 'configToJson(): family');
  const usual = { ...DEFAULTS, ...derived(config), ...family(config) };
  const wasGiven = (field: string): boolean => Object.hasOwn(config.extra, field);
  const facts = Object.entries(OPTIONAL_FIELDS).filter(
    ([field, name]) => wasGiven(field) || config[name] !== usual[name],
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
 * The config in a config.json. Fields that are left out are what the family has, or take the defaults of the program
 * that writes such files; unknown ones are kept in `extra`.
 *
 * @throws ERR_TORCHBIND_CONFIG for what is no config, and for architectures that this model does not compute
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
