import path from 'node:path';
import { describe, TorchBindError, withPath } from '../../errors';
import { writeFileAtomically } from '../../formats/files/atomic-file';
import { save } from '../../formats/pt';
import { loadSafetensors, saveSafetensors } from '../../formats/safetensors';
import type { GPTModel } from '../../models/gpt-model';
import { isHuggingFace, isParameterLine } from '../../models/layouts/layout';
import type { Tensor } from '../../tensor/tensor';
import { dispose } from '../../tensor/scope';
import { exists, type JsonObject, makeDirectory, readJson, replaceJson } from '../files';
import {
  commonDType,
  formatError,
  loadDict,
  type Origin,
  type PeftAdapter,
  type ReadOptions,
  type SavedModel,
} from '../saved-model';
import { hfCompanions, readCompanions } from './hf-gpt2';
import { type DirectoryProgram, type ModelFiles, type OpenModel, withWeights, type WriteRequest } from './program';
import type { DeviceName } from '../../tensor/schema-types';

/** A directory of PEFT: adapter_config.json and adapter_model.safetensors, for a model that is elsewhere. */

const configFile = 'adapter_config.json';
/** Files that go with an adapter, and are written back byte for byte. */
const companions = [configFile, ...hfCompanions.filter((name) => name !== 'config.json')];

const weightFiles = { safetensors: 'adapter_model.safetensors', bin: 'adapter_model.bin' } as const;

/** Whether a file is one of an adapter's own. */
export function isAdapterName(name: string): boolean {
  return [configFile, ...Object.values(weightFiles)].includes(name);
}

export const peft: DirectoryProgram = {
  name: 'peft',
  place: 'directory',
  container: 'huggingface',
  holdsOptimizer: false,
  locate: (listing) => {
    if (!listing.has(configFile)) return [];
    const names = Object.values(weightFiles);
    const weights = listing.first(names);
    const missing = weights === undefined ? names.join(' or ') : undefined;
    const { directory } = listing;
    return [
      { directory, weights: listing.at(weights ?? weightFiles.safetensors), others: [], config: configFile, missing },
    ];
  },
  read,
  write,
};

/**
 * Reads an adapter and the model that it belongs to.
 *
 * @param open reads the model
 * @throws ERR_TORCHBIND_CONFIG for adapters that are more than LoRA, by what they are
 */
async function read(
  { directory, weights: file }: ModelFiles,
  options: ReadOptions,
  open: OpenModel,
): Promise<SavedModel> {
  const configPath = path.join(directory, configFile);
  const json = await readJson(configPath);
  const adapter = withPath(configPath, () => adapterIn(json));
  warnOfUnknown(configPath, json);
  const target = await withPath(configPath, () => baseOf(json, options.base));
  const base = await open(target, { ...options, base: undefined });
  try {
    withPath(target, () => checkBase(base));
    const { kind, weights } = await readWeights(file, options.device);
    const fileKeys = [...weights.keys()];
    return {
      ...base,
      adapter: { ...adapter, weights: renamed(weights, /\.(lora_[AB])\.weight$/, '.$1.default.weight') },
      origin: {
        program: 'peft',
        path: directory,
        saw: [`a ${configFile} of peft_type LORA, for ${target}`, ...base.origin.saw],
        dtype: commonDType(weights),
        kept: new Map<string, unknown>([
          ['kind', kind],
          ['keys', fileKeys],
          ['base', baseOrigin(base)],
          ['files', await readCompanions(directory, companions)],
        ]),
        hasOptimizer: false,
      },
    };
  } catch (error) {
    dispose([base.weights, base.optimizerState]);
    throw error;
  }
}

function checkBase({ recognised: { layout, lora } }: SavedModel): void {
  if (isHuggingFace(layout) && lora === undefined) return;
  throw formatError(
    `expected a plain model of Hugging Face as the base of an adapter of PEFT, got '${layout.name}'${lora ? ' with adapters' : ''}`,
  );
}

/** Where the base model came from, for writing it with the adapters in its weights: its files but the weights. */
function baseOrigin({ origin }: SavedModel): Origin {
  const kept = new Map(origin.kept);
  kept.delete('container');
  return { ...origin, kept };
}

/** Fields that say nothing of what is computed with the tensors that are there. */
const harmless = new Set([
  'auto_mapping', 'base_model_name_or_path', 'bias', 'corda_config', 'ensure_weight_tying', 'eva_config', 'exclude_modules',
  'fan_in_fan_out', 'inference_mode', 'init_lora_weights', 'layers_pattern', 'layers_to_transform', 'loftq_config', 'lora_alpha',
  'lora_dropout', 'megatron_config', 'megatron_core', 'merge_weights', 'peft_type', 'peft_version', 'qalora_group_size', 'r',
  'revision', 'runtime_config', 'target_modules', 'task_type', 'use_rslora',
]); // prettier-ignore

/** Fields that make an adapter more than LoRA where they are set. */
const beyondLora = new Set([
  'alora_invocation_tokens', 'alpha_pattern', 'arrow_config', 'enable_lora', 'layer_replication', 'lora_bias', 'modules_to_save',
  'rank_pattern', 'target_parameters', 'trainable_token_indices', 'use_bdlora', 'use_dora', 'use_qalora',
]); // prettier-ignore

/** Initial values that leave the base model's weights as they are. */
const initialisations: readonly unknown[] = [undefined, null, true, false, 'gaussian', 'eva', 'orthogonal'];

function adapterIn(json: JsonObject): Omit<PeftAdapter, 'weights'> {
  const refuse = (field: string, expected: string): never => {
    throw new TorchBindError(
      `expected ${field} to be ${expected}, got ${describe(json[field])}.`,
      'ERR_TORCHBIND_CONFIG',
    );
  };
  if (json.peft_type !== 'LORA') refuse('peft_type', "'LORA'");
  if ((json.bias ?? 'none') !== 'none') refuse('bias', "'none', with the biases of the base model");
  if (!initialisations.includes(json.init_lora_weights))
    refuse('init_lora_weights', 'an initialization that does not change the weights of the base model');
  for (const field of beyondLora) if (isSet(json[field])) refuse(field, 'not set');
  const { r = 8, lora_alpha: alpha = 8, lora_dropout: dropout = 0, use_rslora: rsLora = false } = json;
  if (!Number.isSafeInteger(r) || (r as number) < 1) refuse('r', 'an integer of at least 1');
  if (typeof alpha !== 'number') refuse('lora_alpha', 'a number');
  if (typeof dropout !== 'number' || !(dropout >= 0 && dropout <= 1)) refuse('lora_dropout', 'a number from 0 to 1');
  return { rank: r as number, alpha: alpha as number, dropout: dropout as number, rsLora: rsLora === true };
}

/** PEFT ignores what it does not know in the same way: its versions add fields. */
function warnOfUnknown(file: string, json: JsonObject): void {
  const unknown = Object.keys(json).filter(
    (field) => !harmless.has(field) && !beyondLora.has(field) && isSet(json[field]),
  );
  if (unknown.length === 0) return;
  process.emitWarning(`${file}: ignored what this version does not know: ${unknown.slice(0, 8).join(', ')}.`, {
    code: 'TORCHBIND_LEFT_OUT',
  });
}

function isSet(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false;
  return typeof value !== 'object' || Object.keys(value).length > 0;
}

/** Where the base model is: what the caller says, or the path that the config names where it is one. */
async function baseOf(json: JsonObject, given: string | undefined): Promise<string> {
  if (given !== undefined) return given;
  const named = json.base_model_name_or_path;
  if (typeof named === 'string' && path.isAbsolute(named) && (await exists(named))) return named;
  throw new TorchBindError(
    `an adapter needs the model that it was trained with, ${describe(named)}. Say where it is: { base: path }.`,
    'ERR_TORCHBIND_CONFIG',
  );
}

async function readWeights(
  file: string,
  device: DeviceName,
): Promise<{ kind: keyof typeof weightFiles; weights: Map<string, unknown> }> {
  if (file.endsWith('.safetensors')) return { kind: 'safetensors', weights: await loadSafetensors(file, { device }) };
  return { kind: 'bin', weights: await loadDict(file, { device }) };
}

function renamed<T>(weights: ReadonlyMap<string, T>, pattern: RegExp, to: string): Map<string, T> {
  return new Map(Array.from(weights, ([key, value]) => [key.replace(pattern, to), value]));
}

/** Writes the adapters of a model, and not the model. */
async function write(directory: string, request: WriteRequest): Promise<void> {
  const { model, kept } = request;
  if (model.lora?.keys !== 'peft') {
    throw new TorchBindError(
      `saveAdapter: PEFT's form is for models of Hugging Face with adapters, and this is ` +
        (model.lora === null
          ? 'one without. applyLora(model, options) gives it some.'
          : `a '${model.layout.name}' model.`),
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  await makeDirectory(directory);
  await withWeights(request, async (all) => {
    const own = renamed(all, /\.(lora_[AB])\.default\.weight$/, '.$1.weight');
    const wanted =
      (kept.get('keys') as string[] | undefined) ?? [...own.keys()].filter((key) => /\.lora_[AB]\./.test(key));
    const weights = new Map<string, Tensor>(wanted.sort().map((key) => [key, own.get(key)!]));
    if (kept.get('kind') === 'bin') await save(weights, path.join(directory, weightFiles.bin));
    else await saveSafetensors(weights, path.join(directory, weightFiles.safetensors), { metadata: { format: 'pt' } });
  });
  const files = (kept.get('files') as Map<string, Buffer> | undefined) ?? new Map<string, Buffer>();
  if (!files.has(configFile)) await replaceJson(path.join(directory, configFile), configOf(request));
  for (const [name, bytes] of files) {
    await writeFileAtomically(path.join(directory, name), (file) => file.writeFile(bytes));
  }
}

function configOf({ model, kept }: WriteRequest): JsonObject {
  const { rank, alpha, dropout, rsLora, targets } = model.lora!;
  return {
    base_model_name_or_path: kept.get('path') ?? null,
    bias: 'none',
    // GPT-2's weights are (in, out).
    fan_in_fan_out: model.layout.name === 'hf-gpt2' && targets.some((target) => target !== 'lmHead'),
    inference_mode: true,
    lora_alpha: alpha,
    lora_dropout: dropout,
    peft_type: 'LORA',
    r: rank,
    target_modules: peftTargets(model),
    task_type: 'CAUSAL_LM',
    use_rslora: rsLora,
  };
}

/** The adapted layers as PEFT names them: by kind where all blocks have them, else each. */
function peftTargets(model: GPTModel): string[] {
  const targets = new Set(model.lora!.targets);
  const modules = model.layout.adapters!.without.modules(model.config);
  const paths = new Map<string, string>();
  for (const { path: own, tensors } of modules) {
    const weight = tensors.filter(isParameterLine).find(({ name }) => name === 'weight');
    if (weight !== undefined) paths.set(weight.alias ? 'lmHead' : weight.parameter.replace(/\.weight$/, ''), own);
  }
  const kindOf = (name: string): string => name.replace(/^.*?\.\d+\./, '');
  const count = (layers: Iterable<string>, kind: string): number =>
    [...layers].filter((layer) => kindOf(paths.get(layer)!) === kind).length;
  const names = [...targets].map((layer) => {
    const own = paths.get(layer)!;
    return count(targets, kindOf(own)) === count(paths.keys(), kindOf(own)) ? kindOf(own) : own;
  });
  return [...new Set(names)];
}
