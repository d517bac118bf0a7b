import path from 'node:path';
import { readSmallFile } from '../../formats/files/small-file';
import { isDeepStrictEqual } from 'node:util';
import { writeFileAtomically } from '../../formats/files/atomic-file';
import { exists, type JsonObject, makeDirectory, readJson, replaceJson } from '../files';
import { HuggingFaceTokenizer, loadTokenizer } from '../../tokenizers';
import {
  commonDType,
  noTraining,
  type ReadOptions,
  recogniseIn,
  resolveConfig,
  resolveTokenizer,
  type SavedModel,
} from '../saved-model';
import { type ModelToWrite, withWeights } from './program';
import { hfConfigJson, hfFacts } from './hf-config';
import { type HfContainer, readHfWeights, writeHfWeights } from './hf-weights';

/** A directory of Hugging Face's GPT-2: config.json, weights, and files that are kept as they are. */

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
];

/** Reads the model that a file of weights, or its index, and the config.json beside it hold. */
export async function readHfGpt2(file: string, options: ReadOptions): Promise<SavedModel> {
  const directory = path.dirname(file);
  const configPath = path.join(directory, configFile);
  const json = (await exists(configPath)) ? await readJson(configPath) : undefined;
  const tokenizer = await resolveTokenizer(options, () => loadTokenizer(directory));
  const { weights, container } = await readHfWeights(file, options.device);
  const recognised = recogniseIn(file, weights);
  const said = json === undefined ? {} : hfFacts(configPath, json);
  const files = await readCompanions(directory);
  return {
    config: resolveConfig(file, recognised, said, options),
    tokenizer,
    weights,
    recognised,
    training: noTraining,
    optimizerState: null,
    origin: {
      form: 'hf-gpt2',
      path: directory,
      saw: [
        json === undefined ? `${path.basename(file)} without a config.json` : 'a config.json of model_type gpt2',
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

async function readCompanions(directory: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const name of hfCompanions) {
    const file = path.join(directory, name);
    if (await exists(file)) files.set(name, await readSmallFile(file));
  }
  return files;
}

export async function writeHfGpt2(directory: string, request: ModelToWrite): Promise<void> {
  const { model, kept, dtype } = request;
  const container = (kept.get('container') as HfContainer | undefined) ?? defaultContainer;
  if (container === defaultContainer) dropTied(request);
  await makeDirectory(directory);
  await withWeights(request, (weights) => writeHfWeights(directory, weights, container));
  const files = (kept.get('files') as Map<string, Buffer> | undefined) ?? new Map<string, Buffer>();
  const { tokenizer } = model;
  if (files.size === 0 && tokenizer instanceof HuggingFaceTokenizer) {
    await replaceJson(path.join(directory, 'tokenizer.json'), tokenizer.toJson());
  }
  const came = kept.get('config') as JsonObject | undefined;
  const json = hfConfigJson(model.config, came, dtype ?? 'float32');
  // Where nothing changed, the bytes stay: JSON of Python tells 0.0 from 0.
  const unchanged = isDeepStrictEqual(json, came);
  if (!unchanged) await replaceJson(path.join(directory, configFile), json);
  for (const [name, bytes] of files) {
    if (name !== configFile || unchanged)
      await writeFileAtomically(path.join(directory, name), (file) => file.writeFile(bytes));
  }
}

const configFile = 'config.json';

/** Hugging Face leaves out of safetensors what is the same as another tensor. */
function dropTied({ model, weights }: ModelToWrite): void {
  for (const { key, aliasOf } of model.stateEntries('')) if (aliasOf !== undefined) weights.delete(key);
}

const defaultContainer: HfContainer = { kind: 'safetensors', weightMap: null, metadata: { format: 'pt' } };
