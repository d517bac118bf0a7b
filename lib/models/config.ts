import { checkOptions, closest, describe, TorchBindError } from '../errors';

/** Function between the two layers of the MLP: `gelu` is the exact form, `gelu_tanh` the approximation of GPT-2. */
export type Activation = 'relu' | 'gelu' | 'gelu_tanh';

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
  /** Scores are scaled by 1 / sqrt of the head's channels (`head`, default) or of all channels (`embd`). */
  attentionScale: 'head' | 'embd';
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

  /** Fields of a config.json that say nothing to this library: kept, and written back. */
  extra: Readonly<Record<string, unknown>>;
}

/** What `new GPT` takes: everything but the vocabulary's size has a default. */
export type GPTOptions = Partial<GPTConfig> & Pick<GPTConfig, 'vocabSize'>;

/** Fields that every `mypt` config.json has, in its order. */
const SEED_FIELDS = {
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
const FACT_FIELDS = {
  activation: 'activation',
  attention_scale: 'attentionScale',
  proj_bias: 'projBias',
  mlp_bias: 'mlpBias',
  norm_bias: 'normBias',
  lm_head_bias: 'lmHeadBias',
  tie_weights: 'tieWeights',
  norm_position: 'normPosition',
} as const;

const FIELDS: Readonly<Record<string, keyof GPTConfig>> = { ...SEED_FIELDS, ...FACT_FIELDS };

const DEFAULTS: Omit<GPTConfig, 'vocabSize'> = {
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
  extra: {},
};

/** Of a config.json without `vocab_size`: the padded vocabulary of GPT-2, as in the program that writes it. */
const FILE_VOCAB_SIZE = 50304;

/** Fields of related programs for architectures that this model does not compute, and the values that it does. */
const OTHER_ARCHITECTURES: Readonly<Record<string, unknown>> = {
  pos_encoding: 'learned',
  norm_type: 'layernorm',
  mlp_type: 'gelu',
};

/**
 * A complete config, checked.
 *
 * @throws ERR_TORCHBIND_CONFIG for values out of range, ERR_TORCHBIND_UNKNOWN_OPTION for misspelled names
 */
export function completeConfig(options: GPTOptions): GPTConfig {
  checkOptions(options, ['vocabSize', ...Object.keys(DEFAULTS)], 'GPT config');
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const config = { ...DEFAULTS, ...given } as GPTConfig;
  for (const name of ['batchSize', 'blockSize', 'vocabSize', 'nEmbd', 'nHead', 'nLayer'] as const) {
    check(Number.isSafeInteger(config[name]) && config[name] > 0, name, config[name], 'a whole number above 0');
  }
  check(config.dropout >= 0 && config.dropout < 1, 'dropout', config.dropout, 'a number from 0 to below 1');
  check(config.nEmbd % config.nHead === 0, 'nEmbd', config.nEmbd, `a multiple of nHead, which is ${config.nHead}`);
  for (const name of ['bias', 'projBias', 'mlpBias', 'normBias', 'lmHeadBias', 'tieWeights'] as const) {
    check(typeof config[name] === 'boolean', name, config[name], 'true or false');
  }
  check(typeof config.device === 'string', 'device', config.device, "a device such as 'cpu'");
  checkChoice('activation', config.activation, ['relu', 'gelu', 'gelu_tanh']);
  checkChoice('attentionScale', config.attentionScale, ['head', 'embd']);
  checkChoice('normPosition', config.normPosition, ['pre', 'post']);
  return config;
}

/**
 * The fields of a config.json: the nine that every `mypt` bundle has, those that differ from their defaults, and those
 * that came in and are unknown.
 */
export function configToJson(config: GPTConfig): Record<string, unknown> {
  const facts = Object.entries(FACT_FIELDS).filter(([, name]) => config[name] !== DEFAULTS[name]);
  const fields = [...Object.entries(SEED_FIELDS), ...facts].map(([field, name]) => [field, config[name]]);
  return { ...(Object.fromEntries(fields) as Record<string, unknown>), ...config.extra };
}

/**
 * The config in a config.json. Fields that are left out take the defaults of the program that writes such files; unknown
 * ones are kept in `extra`.
 *
 * @throws ERR_TORCHBIND_CONFIG for what is no config, and for architectures that this model does not compute
 */
export function configFromJson(json: unknown): GPTConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new TorchBindError(`A config should be an object but is ${describe(json)}.`, 'ERR_TORCHBIND_CONFIG');
  }
  const options: Partial<Record<keyof GPTConfig, unknown>> = { vocabSize: FILE_VOCAB_SIZE };
  const extra: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(json)) {
    const name = Object.hasOwn(FIELDS, field) ? FIELDS[field] : undefined;
    if (name === undefined) extra[field] = checkArchitecture(field, value);
    else options[name] = value;
  }
  return completeConfig({ ...(options as GPTOptions), extra });
}

function checkArchitecture(field: string, value: unknown): unknown {
  if (Object.hasOwn(OTHER_ARCHITECTURES, field) && value !== OTHER_ARCHITECTURES[field]) {
    throw new TorchBindError(
      `The config has ${field} = ${describe(value)}, which this model does not compute: it only knows '${String(OTHER_ARCHITECTURES[field])}'.`,
      'ERR_TORCHBIND_CONFIG',
    );
  }
  return value;
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
