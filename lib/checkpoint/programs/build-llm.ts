import path from 'node:path';
import { withPath } from '../../errors';
import { save } from '../../formats/pt';
import type { GPTModel } from '../../models/gpt-model';
import { type CheckpointLayout, type ConfigFacts, layoutByName, recogniseAdapted } from '../../models/layouts';
import { loraLayout } from '../../models/layouts/lora';
import { asAttribute } from '../../models/layouts/wrapped';
import { Float } from '../../pickle/types';
import { type Tokenizer, loadTokenizer, tokenizerForText, tokenizerFromJson } from '../../tokenizers';
import { exists, type JsonObject, readOptionalJson } from '../files';
import {
  factsFrom,
  numberIn,
  type Origin,
  plain,
  plainFields,
  type ReadOptions,
  resolveConfig,
  resolveTokenizer,
  savedDict,
  type SavedModel,
} from '../saved-model';
import { hfFacts, isHfConfig } from './hf-gpt2';
import { type FileProgram, withWeights, type WriteRequest } from './program';

/**
 * Checkpoints of build_llm_karpathy: a dict of step, model_state_dict, optimizer_state_dict, hyperparameters, vocab_size,
 * block_size and batch_size. Its hyperparameters are of the model where that was made from scratch, and not where it is GPT-2.
 */

const names = {
  n_embd: 'nEmbd',
  n_head: 'nHead',
  n_layer: 'nLayer',
  dropout: 'dropout',
  block_size: 'blockSize',
  batch_size: 'batchSize',
} as const;

/** Hugging Face models that the program names, by number of blocks, heads and channels. */
const gpt2Sizes: Readonly<Record<string, readonly [nLayer: number, nHead: number, nEmbd: number]>> = {
  gpt2: [12, 12, 768],
  'gpt2-medium': [24, 16, 1024],
  'gpt2-large': [36, 20, 1280],
  'gpt2-xl': [48, 25, 1600],
};

/** The layers that its LoRA adapts: every Linear of a block, and the head. */
export const loraTargets = ['attn.qkv', 'attn.proj', 'mlp.up', 'mlp.down', 'lmHead'] as const;

export const buildLlm: FileProgram = {
  name: 'build-llm',
  place: 'file',
  fileNames: [],
  holdsOptimizer: true,
  recognise: (dict) => dict.get('model_state_dict') instanceof Map && dict.get('hyperparameters') instanceof Map,
  layout: (model) =>
    model.layout.name === 'hf-gpt2' && !isWrapped(model) ? gpt2Layout(model.layout.adapters) : undefined,
  read,
  write,
};

/** The layout of its GPT-2: Hugging Face's model as the attribute `model`, with the head's own key. */
export function gpt2Layout(adapters?: CheckpointLayout['adapters']): CheckpointLayout {
  const layout = withOneGroup(asAttribute(layoutByName('hf-gpt2'), 'model'));
  return adapters === undefined ? layout : loraLayout(layout, { ...adapters.spec, keys: 'plain' });
}

/** Its optimizer has all parameters in one group; Trainer's has two. */
function withOneGroup(layout: CheckpointLayout): CheckpointLayout {
  return { ...layout, optimizerGroups: undefined };
}

function isWrapped({ layout, config }: GPTModel): boolean {
  return layout.modules(config).some(({ path }) => path.startsWith('model.transformer'));
}

async function read(file: string, dict: Map<string, unknown>, options: ReadOptions): Promise<SavedModel> {
  const weights = dict.get('model_state_dict') as Map<string, unknown>;
  const found = recogniseAdapted(weights);
  const recognised = { ...found, layout: withOneGroup(found.layout) };
  const fields = plainFields(dict.get('hyperparameters'));
  const said = recognised.layout.name === 'hf-gpt2' ? await gpt2Facts(fields) : factsFrom(fields, names);
  const config = resolveConfig(recognised, said, options);
  const tokenizer = await resolveTokenizer(options, () => findTokenizer(file, dict, fields, config.vocabSize));
  const lora = { alpha: numberIn(fields.lora_alpha) ?? undefined, dropout: numberIn(fields.lora_dropout) ?? undefined };
  return savedDict(
    {
      program: 'build-llm',
      saw: 'a dict of model_state_dict and hyperparameters, as build_llm_karpathy saves it',
      file,
    },
    { dict, weights: 'model_state_dict', optimizer: 'optimizer_state_dict', step: 'step' },
    { config, tokenizer, recognised, lora },
  );
}

/**
 * Its program keeps no tokenizer with a checkpoint: GPT-2's is told by its name, one of its own is next to the file. Files that
 * are written here have it inside.
 */
async function findTokenizer(
  file: string,
  dict: ReadonlyMap<string, unknown>,
  { tokenization_method: method, model_type: type }: JsonObject,
  vocabSize: number,
): Promise<Tokenizer | null> {
  const inside = dict.get('tokenizer');
  if (inside instanceof Map) return tokenizerFromJson(plain(inside), `${file} (tokenizer)`);
  // A GPT-2's file may say 'character', the program's default, which it does not use for GPT-2.
  if (method === 'gpt2' || type === 'gpt2') return vocabSize < gpt2Tokens ? null : tokenizerForText('gpt2', '');
  const neighbour = path.join(path.dirname(file), 'tokenizer.json');
  return (await exists(neighbour)) ? loadTokenizer(neighbour) : null;
}

const gpt2Tokens = 50257;

/**
 * Facts from the name of its GPT-2, which its program passes to `from_pretrained`: a published model, or a directory.
 */
async function gpt2Facts({ gpt2_model_name: name, batch_size: batchSize }: JsonObject): Promise<ConfigFacts> {
  const common = { dropout: 0.1, ...(typeof batchSize === 'number' ? { batchSize } : {}) };
  if (typeof name !== 'string') return common;
  if (Object.hasOwn(gpt2Sizes, name)) return { ...common, nHead: gpt2Sizes[name]![1] };
  const config = path.join(name, 'config.json');
  const json = await readOptionalJson(config);
  return json !== undefined && isHfConfig(json) ? { ...common, ...withPath(config, () => hfFacts(json)) } : common;
}

async function write(file: string, request: WriteRequest): Promise<void> {
  const { kept, step, optimizerState, model } = request;
  await withWeights(request, (weights) => {
    const dict = new Map(kept).set('step', step).set('model_state_dict', weights);
    dict.set('hyperparameters', withAdapters(kept.get('hyperparameters'), model));
    return save(dict.set('optimizer_state_dict', optimizerState), file);
  });
}

/** What its program notes of adapters, where these were not in the file before. */
function withAdapters(hyperparameters: unknown, { lora }: GPTModel): unknown {
  if (!(hyperparameters instanceof Map)) return hyperparameters;
  const had = hyperparameters.get('use_lora') === true;
  if (had === (lora !== null)) return hyperparameters;
  if (lora === null) return new Map(hyperparameters as Map<string, unknown>).set('use_lora', false);
  const { rank, alpha, dropout } = lora;
  return new Map(hyperparameters as Map<string, unknown>)
    .set('use_lora', true)
    .set('lora_rank', rank)
    .set('lora_alpha', new Float(alpha))
    .set('lora_dropout', new Float(dropout));
}

/** Facts of a training run that its program notes, which a model does not tell. */
export interface RunFacts {
  /** Of the data. */
  source: string;
  learningRate: number | undefined;
  /** Others, by the program's own names. */
  more: Readonly<Record<string, unknown>>;
  /** Where the model came from. */
  origin: Origin | undefined;
}

/** The dict around the weights of a model from another program, in this program's order. */
export function newBuildLlm(model: GPTModel, { source, learningRate, more, origin }: RunFacts): Map<string, unknown> {
  const { batchSize, blockSize, vocabSize, nEmbd, nHead, nLayer, dropout, device } = model.config;
  const { tokenizer } = model;
  const isGpt2 = model.layout.name === 'hf-gpt2';
  const methods: Readonly<Record<string, string>> = { char: 'character', gpt2: 'gpt2' };
  const hyperparameters = new Map<string, unknown>([
    ['model_type', isGpt2 ? 'gpt2' : 'from_scratch'],
    ['use_lora', false],
    ['training_data_source', source],
    ['batch_size', batchSize],
    ['block_size', blockSize],
    ...(learningRate === undefined ? [] : [['learning_rate', new Float(learningRate)] as const]),
    ['n_embd', nEmbd],
    ['n_head', nHead],
    ['n_layer', nLayer],
    ['dropout', new Float(dropout)],
    ...(isGpt2 ? [['gpt2_model_name', more.gpt2_model_name ?? gpt2Name(model, origin)] as const] : []),
    ['tokenization_method', methods[tokenizer?.kind ?? ''] ?? 'custom_bpe'],
    ['device', device],
    ...Object.entries(more),
  ]);
  return new Map<string, unknown>([
    ['step', null],
    ['model_state_dict', null],
    ['optimizer_state_dict', null],
    ['hyperparameters', hyperparameters],
    ['vocab_size', vocabSize],
    ['block_size', blockSize],
    ['batch_size', batchSize],
    ...(tokenizer === null ? [] : [['tokenizer', tokenizer.toJson()] as const]),
  ]);
}

/** What its program calls a model in the names of files. */
export function buildLlmName(model: GPTModel, origin?: Origin, name = gpt2Name(model, origin)): string {
  if (model.layout.name === 'hf-gpt2') return path.basename(name);
  return model.lora === null ? 'bigram' : 'bigramlora';
}

/** What Python's `from_pretrained` takes to make the same GPT-2: one of the four published ones, or its directory. */
function gpt2Name({ config }: GPTModel, origin: Origin | undefined): string {
  const { nLayer, nHead, nEmbd, vocabSize } = config;
  const published = Object.entries(gpt2Sizes).find(
    ([, [layers, heads, channels]]) => layers === nLayer && heads === nHead && channels === nEmbd,
  );
  if (published !== undefined && vocabSize === gpt2Tokens) return published[0];
  return origin?.program === 'hf-gpt2' ? path.resolve(origin.path) : 'gpt2';
}
