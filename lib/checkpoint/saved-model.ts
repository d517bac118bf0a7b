import { CheckpointCode, CheckpointError, describe, TorchBindError, withPath } from '../errors';
import { load, type LoadOptions } from '../formats/pt';
import {
  completeConfig,
  configFromJson,
  countWeights,
  type FamilyFacts,
  type GPTConfig,
  type GPTOptions,
  isOptionalField,
} from '../models/config';
import type { ConfigFacts, Recognised } from '../models/layouts';
import { plainNumber } from '../pickle/types';
import type { DType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import type { Tokenizer } from '../tokenizers';
import { withoutUndefined } from '../objects';
import type { JsonObject } from './files';
import type { DeviceName } from '../tensor/schema-types';

/** What a program noted of training. */
export interface TrainingState {
  /** Optimizer updates made, which is the index of the next one. */
  step: number | null;
  /** Name of the file with the optimizer's state; null without an optimizer. */
  optimizerFile: string | null;
  /** State of the training run; null in bundles of programs that do not record it. */
  run: SavedRun | null;
  /** Fields that say nothing to this library: kept, and written back. */
  extra: JsonObject;
}

/** State of a training run for exact resuming: plain values, and states of random number generators. */
export interface SavedRun {
  json: JsonObject;
  random: ReadonlyMap<string, Uint8Array>;
}

export const noTraining: TrainingState = { step: null, optimizerFile: null, run: null, extra: {} };

/** Programs that save models, each of which lays out weights, config and the rest in files in its own way. */
export type ProgramName =
  | 'release'
  | 'bundle'
  | 'state-dict'
  | 'training-dict'
  | 'single-file'
  | 'nanogpt'
  | 'build-llm'
  | 'hf-gpt2'
  | 'hf-trainer'
  | 'peft'
  | 'distributed';

/** Where a model came from, and what writing it back needs besides the model. */
export interface Origin {
  program: ProgramName;
  /** File or directory. */
  path: string;
  /** What was seen in the files, in words, and what it means. */
  saw: readonly string[];
  /** The dtype of the weights in the files, where it is one and not float32. */
  dtype: DType | null;
  /** What the program's files hold besides the model, to write them back: entries of a dict, files of a directory. */
  kept: ReadonlyMap<string, unknown>;
  /** Whether the files hold an optimizer's state, which writing over them would lose. */
  hasOptimizer: boolean;
}

/** What a model's files hold. */
export interface SavedModel {
  config: GPTConfig;
  tokenizer: Tokenizer | null;
  /** State dict, in the keys of the program that wrote it. */
  weights: Map<string, unknown>;
  recognised: Recognised;
  training: TrainingState;
  /** Whether its program opens models with dropout off until they are trained, as `from_pretrained` does. */
  opensInEval?: boolean;
  /** State dict of the optimizer in the form of the program that wrote it; null if it has none, or if it was not requested. */
  optimizerState: Map<string, unknown> | null;
  origin: Origin;
  /** Hugging Face's `generation_config.json`, where it is not among what the origin keeps. */
  generationConfig?: JsonObject | undefined;
  /** What the files say of LoRA adapters among the weights. */
  lora?: LoraFacts;
  /** Adapters that lie apart from the weights. */
  adapter?: PeftAdapter;
}

/** What shapes of LoRA adapters do not tell. */
export interface LoraFacts {
  alpha?: number | undefined;
  /** Default 0. */
  dropout?: number | undefined;
}

/** A PEFT adapter, read. */
export interface PeftAdapter {
  rank: number;
  alpha: number;
  dropout: number;
  rsLora: boolean;
  /** By the keys of PEFT's state dicts. */
  weights: Map<string, unknown>;
}

export interface ReadOptions {
  device: DeviceName;
  /** Read the optimizer's state as well. */
  optimizer: boolean;
  /** Facts of the architecture that the files do not say, or say wrongly. */
  config?: Partial<GPTOptions> | undefined;
  /** Instead of the tokenizer that comes with the model, which is then not read; null for none. */
  tokenizer?: Tokenizer | null | undefined;
  /** Map the weights of safetensors instead of reading them. Default: large ones. */
  mmap?: boolean | undefined;
  /** Of a PEFT adapter: where the model is that it belongs to. */
  base?: string | undefined;
  /** Combine weights with the training state of other weights. Default false. */
  allowMixed?: boolean | undefined;
  /** Of a single file: objects of foreign classes next to the weights. Default `inert`. */
  unknown?: 'refuse' | 'inert' | undefined;
}

/** The tokenizer that the caller gives, else the one that `find` finds. */
export async function resolveTokenizer(
  { tokenizer }: Pick<ReadOptions, 'tokenizer'>,
  find: () => Promise<Tokenizer | null>,
): Promise<Tokenizer | null> {
  return tokenizer === undefined ? find() : tokenizer;
}

/** Refuses a tokenizer with ids that the model has no rows for. More rows than tokens are padding. */
export function checkVocabulary({
  origin,
  config,
  tokenizer,
}: Pick<SavedModel, 'origin' | 'config' | 'tokenizer'>): void {
  if (tokenizer === null || tokenizer.vocabSize <= config.vocabSize) return;
  throw new TorchBindError(
    `${origin.path}: the tokenizer ('${tokenizer.kind}') has ${tokenizer.vocabSize} tokens, but the model's vocabulary is ` +
      `${config.vocabSize}: it is of another model. Give the right one, { tokenizer }, or none, { tokenizer: null }.`,
    'ERR_TORCHBIND_VOCABULARY',
  );
}

/**
 * Refuses a config that describes a far larger model than the weights are of, before that model is built. Smaller
 * differences are told tensor by tensor when the weights are loaded.
 */
export function checkWeightCount({ origin, config, weights }: Pick<SavedModel, 'origin' | 'config' | 'weights'>): void {
  const described = countWeights(config);
  const present = [...weights.values()].reduce<number>(
    (sum, value) => sum + (value instanceof Tensor ? value.numel() : 0),
    0,
  );
  if (described <= 2 * present + 2 ** 24) return;
  throw new TorchBindError(
    `${origin.path}: expected the weights that the config describes, about ${described} numbers (nLayer ${config.nLayer}, nEmbd ` +
      `${config.nEmbd}, vocabSize ${config.vocabSize}), got ${present}. The config is of another model.`,
    'ERR_TORCHBIND_CONFIG',
  );
}

/**
 * The config of a model: what the caller says, else what the files say, else what the weights tell, else what the family
 * has.
 *
 * @throws ERR_TORCHBIND_CONFIG naming the option to give for what none of them says
 */
export function resolveConfig(
  { layout, facts, asks }: Recognised,
  said: ConfigFacts,
  { config: given = {} }: Pick<ReadOptions, 'config'>,
): GPTConfig {
  const told = { ...facts, ...said, ...withoutUndefined(given) } as Partial<GPTOptions>;
  // Weights do not tell dropout, and generation does not need it: without it a model trains with what it computes after.
  const known = { dropout: 0, ...told };
  const missing = [...new Set([...asks, 'vocabSize' as const, 'nEmbd' as const, 'blockSize' as const])].filter(
    (name) => known[name] === undefined,
  );
  if (missing.length > 0) {
    throw new TorchBindError(
      `the weights of a '${layout.name}' model do not tell ${missing.join(' and ')}, and no config was found ` +
        `that does. Say it: { config: { ${missing.map((name) => `${name}: ${examples[name] ?? '...'}`).join(', ')} } }.`,
      'ERR_TORCHBIND_CONFIG',
    );
  }
  const config = completeConfig(known as GPTOptions, layout.facts);
  if (told.dropout === undefined) withoutDropout.add(config);
  return config;
}

/** Configs whose dropout neither the files nor the caller said. */
const withoutDropout = new WeakSet<GPTConfig>();

/** Whether the dropout of a config is what the files or the caller said, and not taken to be 0. */
export function saysDropout(config: GPTConfig): boolean {
  return !withoutDropout.has(config);
}

/** What a caller may answer, for messages. */
const examples: Partial<Record<keyof GPTConfig, string>> = {
  activation: "'gelu' (nanoGPT) or 'gelu_tanh' (minGPT)",
  attentionScale: "'head' (1/sqrt(head size)) or 'embd' (1/sqrt(n_embd), in older code)",
  nHead: '12',
  blockSize: '1024',
};

/** The config in a config.json of the MyPT kind; the weights tell what it leaves open. */
export function resolveJsonConfig(
  json: unknown,
  { layout, facts }: Recognised,
  { config: given = {} }: Pick<ReadOptions, 'config'>,
): GPTConfig {
  const unsaid = Object.fromEntries(Object.entries(facts).filter(([name]) => isOptionalField(name)));
  const family: FamilyFacts = (config) => ({ ...layout.facts(config), ...unsaid });
  const config = configFromJson(json, family);
  const override = withoutUndefined(given);
  return Object.keys(override).length === 0 ? config : completeConfig({ ...config, ...override });
}

/**
 * The model in a file that holds everything in one dict.
 *
 * @param keys of the dict that the parts are under
 */
export function savedDict(
  { program, saw, file }: { program: ProgramName; saw: string; file: string },
  { dict, ...keys }: { dict: ReadonlyMap<string, unknown>; weights: string; optimizer: string; step: string },
  { recognised, ...model }: Pick<SavedModel, 'config' | 'tokenizer' | 'recognised' | 'lora'>,
): SavedModel {
  const weights = dict.get(keys.weights) as Map<string, unknown>;
  const optimizer = dict.get(keys.optimizer);
  // The other entries keep their places.
  const kept = new Map(
    Array.from(dict, ([key, value]) => [key, key === keys.weights || key === keys.optimizer ? null : value]),
  );
  return {
    ...model,
    recognised,
    weights,
    training: { step: numberIn(dict.get(keys.step)), optimizerFile: null, run: null, extra: {} },
    optimizerState: optimizer instanceof Map ? (optimizer as Map<string, unknown>) : null,
    origin: {
      program,
      path: file,
      saw: [saw, ...recognised.saw],
      dtype: commonDType(weights),
      kept,
      hasOptimizer: optimizer instanceof Map,
    },
  };
}

/** The dtype that all floating-point weights have, where it is not float32. */
export function commonDType(weights: ReadonlyMap<string, unknown>): DType | null {
  const dtypes = new Set<DType>();
  for (const value of weights.values()) {
    if (value instanceof Tensor && value.dtype.includes('float')) dtypes.add(value.dtype);
  }
  const [dtype] = dtypes;
  return dtypes.size !== 1 || dtype === undefined || dtype === 'float32' ? null : dtype;
}

/** The dict that a file must hold. */
export function mapIn(value: unknown): Map<string, unknown> {
  if (value instanceof Map) return value as Map<string, unknown>;
  throw wrong('a dict', value);
}

/** The dict in a file of `torch.save`. */
export function loadDict(file: string, options: LoadOptions = {}): Promise<Map<string, unknown>> {
  return withPath(file, async () => mapIn(await load(file, options)));
}

/** The error for a file that holds something else than was expected. */
export function wrong(expected: string, got: unknown): CheckpointError {
  return formatError(`expected ${expected}, got ${describe(got)}`);
}

export function formatError(reason: string): CheckpointError {
  return new CheckpointError(reason, CheckpointCode.format);
}

/** Python's plain data as Python's JSON would hold it, NaN and infinities too: dicts become objects, and floats numbers. */
export function plain(value: unknown): unknown {
  const number = plainNumber(value);
  if (number !== undefined) return number;
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (value instanceof Tensor) return String(value);
  if (Array.isArray(value)) return Array.from(value, plain);
  if (typeof value !== 'object' || value === null) return value;
  const entries: Iterable<readonly [unknown, unknown]> = value instanceof Map ? value : Object.entries(value);
  return Object.fromEntries(Array.from(entries, ([key, item]) => [String(key), plain(item)]));
}

/** The fields of a dict as plain data; empty if it is not a dict. */
export function plainFields(value: unknown): JsonObject {
  return value instanceof Map ? (plain(value) as JsonObject) : {};
}

/** A Python number; null for anything else. */
export function numberIn(value: unknown): number | null {
  if (value instanceof Tensor) return value.numel() === 1 ? Number(value.item()) : null;
  return plainNumber(value) ?? null;
}

/** Fields of a program's config as facts, by a table from its names to ours; others are left out. */
export function factsFrom(fields: JsonObject, names: Readonly<Record<string, keyof GPTConfig>>): ConfigFacts {
  const entries = Object.entries(names).map(([field, name]) => [name, fields[field] ?? undefined]);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined)) as ConfigFacts;
}
