import { stat } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { CheckpointCode, CheckpointError, TorchBindError, withPath } from '../../errors';
import { writeFileAtomically } from '../../formats/files/atomic-file';
import { readSmallFile } from '../../formats/files/small-file';
import { save } from '../../formats/pt';
import { loadSafetensors, saveSafetensors } from '../../formats/safetensors';
import type { GPTConfig } from '../../models/config';
import type { GPTModel } from '../../models/gpt-model';
import { type ConfigFacts, recogniseAdapted, type Recognised } from '../../models/layouts';
import { OrderedDict } from '../../pickle/types';
import { itemSize } from '../../tensor/dtype';
import type { Tensor } from '../../tensor/tensor';
import { loadTokenizer } from '../../tokenizers';
import { configTypeOf, decoderConfigJson, decoderFacts, decoderLayouts } from '../decoder-configs';
import { activationName, gpt2Activations, type Refuse, refuserOf } from '../decoder-configs/activations';
import { checkModelType, modelTypeOf } from '../foreign';
import { exists, type JsonObject, makeDirectory, readJson, replaceJson } from '../files';
import { storageKey } from '../snapshot';
import { transformersFiles } from '../text-files';
import {
  commonDType,
  factsFrom,
  formatError,
  loadDict,
  noTraining,
  type ReadOptions,
  resolveConfig,
  resolveTokenizer,
  type SavedModel,
  wrong,
} from '../saved-model';
import { type DirectoryProgram, type Listing, type ModelFiles, withWeights, type WriteRequest } from './program';

/**
 * A directory of Hugging Face: config.json of GPT-2 or another decoder, weights in one file or in several with an index that says which holds which,
 * and files that are kept as they are.
 */

const configFile = 'config.json';

/** Files that go with the weights. */
export const hfCompanions = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'README.md',
];

export const hfGpt2: DirectoryProgram = {
  name: 'hf-gpt2',
  place: 'directory',
  families: ['hf-gpt2', ...decoderLayouts],
  container: 'huggingface',
  holdsOptimizer: false,
  locate: (listing) => {
    const name = hfWeightsIn(listing);
    return name === undefined ? [] : [hfFiles(listing, name)];
  },
  locateFile: (file) =>
    /\.(safetensors|bin\.index\.json|safetensors\.index\.json)$/.test(file)
      ? { directory: path.dirname(file), weights: file, others: [] }
      : undefined,
  read: readHfGpt2,
  write: writeHfGpt2,
};

export function hfFiles(listing: Listing, weights: string): ModelFiles {
  return {
    directory: listing.directory,
    weights: listing.at(weights),
    config: listing.first([configFile]),
    ...trainingFiles(listing),
  };
}

/** What Trainer leaves next to a model or an adapter. Only optimizer and scheduler are read; the rest is kept as bytes. */
export function trainingFiles(listing: Listing): Pick<ModelFiles, 'others' | 'kept' | 'state'> {
  return {
    others: ['optimizer.pt', 'scheduler.pt'].filter((name) => listing.has(name)),
    kept: ['scaler.pt', 'rng_state.pth', 'training_args.bin'].filter((name) => listing.has(name)),
    state: listing.first(['trainer_state.json']),
  };
}

/** Reads the weights and the config.json in their directory. */
export async function readHfGpt2({ directory, weights: file }: ModelFiles, options: ReadOptions): Promise<SavedModel> {
  const configPath = path.join(directory, configFile);
  const json = (await exists(configPath)) ? await readJson(configPath) : undefined;
  if (json !== undefined) withPath(configPath, () => checkModelType(json));
  const tokenizer = await resolveTokenizer(options, () => loadTokenizer(directory));
  const { weights, container } = await readHfWeights(file, options);
  const recognised = withPath(file, () => recogniseAdapted(weights));
  const said = json === undefined ? {} : withPath(configPath, () => hfFacts(json, recognised));
  const files = await readCompanions(directory);
  return {
    config: withPath(file, () => resolveConfig(recognised, said, options)),
    tokenizer,
    weights,
    recognised,
    training: noTraining,
    opensInEval: true,
    optimizerState: null,
    origin: {
      program: 'hf-gpt2',
      path: directory,
      saw: [
        json === undefined
          ? `${path.basename(file)} without a config.json`
          : `a config.json of model_type ${configTypeOf(json)?.modelType ?? 'gpt2'}`,
        ...recognised.saw,
      ],
      dtype: commonDType(weights),
      kept: new Map<string, unknown>([
        ['config', json],
        ['container', container],
        ['files', files],
      ]),
      hasOptimizer: false,
    },
  };
}

/** The existing files with the given names, byte for byte. */
export async function readCompanions(directory: string, names = hfCompanions): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const name of names) {
    const file = path.join(directory, name);
    if (await exists(file)) files.set(name, await readSmallFile(file));
  }
  return files;
}

export async function writeHfGpt2(directory: string, request: WriteRequest): Promise<void> {
  const { model, kept, dtype } = request;
  const container = (kept.get('container') as HfContainer | undefined) ?? defaultContainer;
  if (container === defaultContainer) dropTied(request);
  await makeDirectory(directory);
  await withWeights(request, (weights) => writeHfWeights(directory, weights, container));
  const files = (kept.get('files') as Map<string, Buffer> | undefined) ?? new Map<string, Buffer>();
  const hasTokenizer = files.has('tokenizer.json') || files.has('vocab.json');
  for (const [name, contents] of await transformersFiles(model)) {
    if (!files.has(name) && !(hasTokenizer && name.startsWith('tokenizer')))
      await writeFileAtomically(path.join(directory, name), (file) => file.writeFile(contents));
  }
  const came = kept.get('config') as JsonObject | undefined;
  const json = configJson(model, came, dtype ?? 'float32');
  // Where nothing changed, the bytes stay: JSON of Python tells 0.0 from 0.
  const unchanged = isDeepStrictEqual(json, came);
  if (!unchanged) await replaceJson(path.join(directory, configFile), json);
  for (const [name, bytes] of files) {
    if (name !== configFile || unchanged)
      await writeFileAtomically(path.join(directory, name), (file) => file.writeFile(bytes));
  }
}

/** Hugging Face leaves out of safetensors what is the same as another tensor. */
function dropTied({ model, weights }: WriteRequest): void {
  for (const { key, aliasOf } of model.stateEntries('')) if (aliasOf !== undefined) weights.delete(key);
}

const defaultContainer: HfContainer = { kind: 'safetensors', weightMap: null, metadata: { format: 'pt' } };

/** Fields of config.json as facts of a model. */
const configFields = {
  vocab_size_or_config_json_file: 'vocabSize', // before transformers 2.0
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

/** Fields that newer versions of transformers write under another name, or not at all. */
const olderFields = ['vocab_size_or_config_json_file', 'n_ctx'];

/** The defaults of a config.json, which may use older field names. */
function defaultsBeside(json: JsonObject): Partial<typeof defaults> {
  if (!(olderFields[0]! in json)) return defaults;
  const { vocab_size: _, ...others } = defaults;
  return others;
}

/** Whether a config.json is of a model of Hugging Face. The first versions of transformers did not name the model's type. */
export function isHfConfig(json: JsonObject): boolean {
  return typeof json.model_type === 'string' || ('n_positions' in json && 'layer_norm_epsilon' in json);
}

/**
 * What it says of the model. Tying is left to the weights where they are all there.
 *
 * @throws ERR_TORCHBIND_CONFIG for other models, and for what this one does not compute
 */
export function hfFacts(json: JsonObject, recognised?: Recognised): ConfigFacts {
  const type = configTypeOf(json);
  if (type !== undefined) {
    checkLayoutOf(json, type.layout, recognised);
    const facts = decoderFacts(json, type);
    // Weights without a head are tied, whatever the config says.
    return recognised?.facts.tieWeights === true ? { ...facts, tieWeights: true } : facts;
  }
  const refuse: Refuse = refuserOf(json);
  checkModelType(json);
  if (json.add_cross_attention === true) refuse('add_cross_attention', 'false');
  const { activation_function: name = 'gelu_new' } = json;
  const activation =
    typeof name === 'string' && Object.hasOwn(gpt2Activations, name) ? gpt2Activations[name] : undefined;
  if (activation === undefined) refuse('activation_function', `one of ${Object.keys(gpt2Activations).join(', ')}`);
  return {
    ...factsFrom({ ...defaultsBeside(json), ...json }, configFields),
    activation: activation!,
    attentionScale: json.scale_attn_weights === false ? 'none' : 'head',
    ...(json.tie_word_embeddings === false ? { tieWeights: false } : {}),
  };
}

/** @throws ERR_TORCHBIND_CONFIG where the weights are not of the architecture that the config names */
function checkLayoutOf(json: JsonObject, layout: string, recognised: Recognised | undefined): void {
  const name = recognised?.layout.name;
  if (name === undefined || name === layout || recognised?.quantized !== undefined) return;
  throw new TorchBindError(
    `the config says model_type ${modelTypeOf(json)}, whose weights have the keys of '${layout}', but they have those of '${name}'.`,
    'ERR_TORCHBIND_CONFIG',
  );
}

function configJson(model: GPTModel, came: JsonObject | undefined, dtype: string): JsonObject {
  const { config, layout } = model;
  if (decoderLayouts.includes(layout.name)) return decoderConfigJson(config, layout.name, came, dtype);
  return gpt2Json(config, came, dtype);
}

/** The original config.json with the changed fields; for a model from elsewhere, all fields of GPT2Config. */
function gpt2Json(config: GPTConfig, came: JsonObject | undefined, dtype: string): JsonObject {
  const fresh = came === undefined;
  const base: JsonObject = came ?? { architectures: ['GPT2LMHeadModel'], model_type: 'gpt2' };
  const said = { ...defaultsBeside(base), ...base };
  const json: JsonObject = { ...base };
  for (const [field, name] of Object.entries(configFields)) {
    if (olderFields.includes(field) && !(field in base)) continue;
    if (field === 'vocab_size' && !(field in base) && olderFields[0]! in base) continue;
    const value = name === 'mlpHidden' && config.mlpHidden === 4 * config.nEmbd ? null : config[name];
    const before: unknown = (said as JsonObject)[field] ?? (name === 'scaleByLayer' ? false : null);
    if (fresh || before !== value) json[field] = value;
  }
  const activation = typeof base.activation_function === 'string' ? base.activation_function : 'gelu_new';
  if (fresh || gpt2Activations[activation] !== config.activation) {
    json.activation_function = config.activation === 'gelu_tanh' ? 'gelu_new' : activationName(config.activation);
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

/** How weights lie in a directory. */
interface HfContainer {
  kind: 'bin' | 'safetensors';
  /** Of several files: which key is in which. */
  weightMap: ReadonlyMap<string, string> | null;
  /** What the index says besides that. */
  indexMetadata?: JsonObject;
  /** What safetensors says besides the tensors. */
  metadata: Readonly<Record<string, string>>;
}

/** In the order in which transformers looks for them. */
const candidates = ['model.safetensors', 'pytorch_model.bin'].flatMap((file) => [file, `${file}.index.json`]);

/** The name of the weights file in a directory, or of its index; undefined without one. */
export function hfWeightsIn(listing: Listing): string | undefined {
  return listing.first(candidates);
}

/** Whether a file is one of those that weights are kept in. */
export function isHfWeightsName(name: string): boolean {
  return /^(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?$/.test(name);
}

type PlaceOfWeights = Pick<ReadOptions, 'device' | 'mmap'>;

interface HfWeights {
  weights: Map<string, unknown>;
  container: HfContainer;
}

/** Reads the weights that a file holds, or an index names. */
function readHfWeights(file: string, options: PlaceOfWeights): Promise<HfWeights> {
  return withPath(file, () => readWeightFiles(file, options));
}

async function readWeightFiles(file: string, options: PlaceOfWeights): Promise<HfWeights> {
  if (!file.endsWith('.index.json')) {
    const { weights, metadata } = await readOne(file, options);
    return { weights, container: { kind: kindOf(file), weightMap: null, metadata } };
  }
  const { weightMap, indexMetadata } = await readIndex(file);
  const weights = new OrderedDict<string, unknown>();
  let metadata: Record<string, string> = {};
  const shards = [...new Set(weightMap.values())];
  for (const shard of shards) {
    const read = await readOne(path.join(path.dirname(file), shard), options);
    for (const [key, value] of read.weights) {
      if (weightMap.get(key) !== shard)
        throw formatError(`it says that ${key} is in ${weightMap.get(key) ?? 'no file'}, but it is in ${shard}`);
      weights.set(key, value);
    }
    metadata = { ...metadata, ...read.metadata };
  }
  for (const [key, shard] of weightMap) {
    if (!weights.has(key)) throw formatError(`it says that ${key} is in ${shard}, but it is not`);
  }
  return { weights, container: { kind: kindOf(shards[0] ?? file), weightMap, indexMetadata, metadata } };
}

async function readIndex(file: string): Promise<{ weightMap: Map<string, string>; indexMetadata: JsonObject }> {
  const { weight_map: map, metadata } = await readJson(file);
  if (typeof map !== 'object' || map === null) throw wrong('weight_map to be an object', map);
  const entries = Object.entries(map);
  for (const [key, shard] of entries) {
    if (typeof shard !== 'string' || path.basename(shard) !== shard || shard === '' || shard === '..')
      throw formatError(`weight_map should name a file next to it for ${key}`);
  }
  const indexMetadata = typeof metadata === 'object' && metadata !== null ? (metadata as JsonObject) : {};
  return { weightMap: new Map(entries as [string, string][]), indexMetadata };
}

async function readOne(
  file: string,
  { device, mmap }: PlaceOfWeights,
): Promise<{ weights: Map<string, unknown>; metadata: Record<string, string> }> {
  if (!(await exists(file))) throw new CheckpointError(`cannot open ${file}: no such file`, CheckpointCode.open);
  if (kindOf(file) === 'safetensors') {
    const weights = await loadSafetensors(file, { device, tied: true, mmap: mmap ?? (await isLarge(file)) });
    return { weights, metadata: Object.fromEntries(weights.metadata) };
  }
  return { weights: await loadDict(file, { device }), metadata: {} };
}

/** Reading a file from here on takes noticeably longer than opening it. */
const mappedFrom = 2 ** 28;

/** Whether a file is mapped unless the caller says otherwise. Windows keeps others from replacing a mapped file. */
async function isLarge(file: string): Promise<boolean> {
  return process.platform !== 'win32' && (await stat(file)).size >= mappedFrom;
}

function kindOf(file: string): HfContainer['kind'] {
  return file.endsWith('.safetensors') || file.endsWith('.safetensors.index.json') ? 'safetensors' : 'bin';
}

/** Writes weights as they lay before: in the same kind of file, divided alike. */
async function writeHfWeights(
  directory: string,
  weights: ReadonlyMap<string, Tensor>,
  { kind, weightMap, indexMetadata, metadata }: HfContainer,
): Promise<void> {
  const name = kind === 'bin' ? 'pytorch_model.bin' : 'model.safetensors';
  const [first] = weightMap?.values() ?? [];
  if (weightMap === null || first === undefined) {
    await writeOne(kind, path.join(directory, name), weights, metadata);
    return;
  }
  const fileOf = (key: string): string => weightMap.get(key) ?? first;
  for (const shard of new Set([...weights.keys()].map(fileOf))) {
    const part = new OrderedDict<string, Tensor>();
    for (const [key, value] of weights) if (fileOf(key) === shard) part.set(key, value);
    await writeOne(kind, path.join(directory, shard), part, metadata);
  }
  await replaceJson(path.join(directory, `${name}.index.json`), indexOf(weights, fileOf, indexMetadata));
}

function indexOf(
  weights: ReadonlyMap<string, Tensor>,
  fileOf: (key: string) => string,
  metadata: JsonObject = {},
): JsonObject {
  const total = [...weights.values()].reduce((sum, tensor) => sum + tensor.numel() * itemSize(tensor.dtype), 0);
  const map = Object.fromEntries([...weights.keys()].sort().map((key) => [key, fileOf(key)]));
  return { metadata: { ...metadata, total_size: total }, weight_map: map };
}

async function writeOne(
  kind: HfContainer['kind'],
  file: string,
  weights: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  if (kind === 'bin') await save(weights, file);
  else {
    const { stored, notes } = withoutTied(weights, metadata);
    await saveSafetensors(stored, file, { metadata: notes, tied: 'copy' });
  }
}

/**
 * What safetensors' `save_model` stores where it made the file: of tied tensors the one that it stored before. The metadata
 * says so of the others, as long as they are tied.
 */
function withoutTied(
  weights: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>>,
): { stored: ReadonlyMap<string, Tensor>; notes: Record<string, string> } {
  const stored = new Map(weights);
  const notes = { ...metadata };
  for (const [dropped, kept] of Object.entries(metadata)) {
    const [tensor, other] = [weights.get(dropped), weights.get(kept)];
    if (tensor === undefined || other === undefined) continue;
    if (storageKey(tensor) === storageKey(other)) stored.delete(dropped);
    else delete notes[dropped];
  }
  return { stored, notes };
}
