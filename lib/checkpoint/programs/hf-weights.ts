import path from 'node:path';
import { CheckpointCode, CheckpointError } from '../../errors';
import { load, save } from '../../formats/pt';
import { loadSafetensors, saveSafetensors } from '../../formats/safetensors';
import { OrderedDict } from '../../pickle/types';
import { itemSize } from '../../tensor/dtype';
import type { Tensor } from '../../tensor/tensor';
import { exists, type JsonObject, readJson, replaceJson } from '../files';
import { mapIn, wrong } from '../saved-model';

/** The files that Hugging Face keeps weights in: one, or several with an index that says which holds which. */

/** How weights lie in a directory. */
export interface HfContainer {
  kind: 'bin' | 'safetensors';
  /** Of several files: which key is in which. */
  weightMap: ReadonlyMap<string, string> | null;
  /** What the index says beside that. */
  indexMetadata?: JsonObject;
  /** What safetensors says beside the tensors. */
  metadata: Readonly<Record<string, string>>;
}

/** In the order in which transformers looks for them. */
const candidates = ['model.safetensors', 'pytorch_model.bin'].flatMap((file) => [file, `${file}.index.json`]);

/** The file of weights in a directory; undefined where there is none. */
export async function findHfWeights(directory: string): Promise<string | undefined> {
  for (const name of candidates) if (await exists(path.join(directory, name))) return path.join(directory, name);
  return undefined;
}

/** Whether a file is one of those that weights are kept in. */
export function isHfWeightsName(name: string): boolean {
  return /^(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?$/.test(name);
}

/** Whether a file is an index of several files of weights. */
export function isHfIndex(file: string): boolean {
  return /\.(bin|safetensors)\.index\.json$/.test(file);
}

export interface HfWeights {
  weights: Map<string, unknown>;
  container: HfContainer;
}

/** Reads the weights that a file holds, or an index names. */
export async function readHfWeights(file: string, device: string): Promise<HfWeights> {
  if (!file.endsWith('.index.json')) {
    const { weights, metadata } = await readOne(file, device);
    return { weights, container: { kind: kindOf(file), weightMap: null, metadata } };
  }
  const { weightMap, indexMetadata } = await readIndex(file);
  const weights = new OrderedDict<string, unknown>();
  let metadata: Record<string, string> = {};
  const shards = [...new Set(weightMap.values())];
  for (const shard of shards) {
    const read = await readOne(path.join(path.dirname(file), shard), device);
    for (const [key, value] of read.weights) {
      if (weightMap.get(key) !== shard)
        throw wrong(file, `it says that ${key} is in ${weightMap.get(key) ?? 'no file'}, but it is in ${shard}`);
      weights.set(key, value);
    }
    metadata = { ...metadata, ...read.metadata };
  }
  for (const [key, shard] of weightMap) {
    if (!weights.has(key)) throw wrong(file, `it says that ${key} is in ${shard}, but it is not`);
  }
  return { weights, container: { kind: kindOf(shards[0] ?? file), weightMap, indexMetadata, metadata } };
}

async function readIndex(file: string): Promise<{ weightMap: Map<string, string>; indexMetadata: JsonObject }> {
  const { weight_map: map, metadata } = await readJson(file);
  if (typeof map !== 'object' || map === null) throw wrong(file, 'expected an object weight_map');
  const entries = Object.entries(map);
  for (const [key, shard] of entries) {
    if (typeof shard !== 'string' || path.basename(shard) !== shard || shard === '' || shard === '..')
      throw wrong(file, `weight_map should name a file beside it for ${key}`);
  }
  const indexMetadata = typeof metadata === 'object' && metadata !== null ? (metadata as JsonObject) : {};
  return { weightMap: new Map(entries as [string, string][]), indexMetadata };
}

async function readOne(
  file: string,
  device: string,
): Promise<{ weights: Map<string, unknown>; metadata: Record<string, string> }> {
  if (!(await exists(file))) throw new CheckpointError(`cannot open ${file}: no such file`, CheckpointCode.open);
  if (kindOf(file) === 'safetensors') {
    const weights = await loadSafetensors(file, { device });
    return { weights, metadata: Object.fromEntries(weights.metadata) };
  }
  return { weights: mapIn(file, await load(file, { device })), metadata: {} };
}

function kindOf(file: string): HfContainer['kind'] {
  return file.endsWith('.safetensors') || file.endsWith('.safetensors.index.json') ? 'safetensors' : 'bin';
}

/** Writes weights as they lay before: in the same kind of file, divided alike. */
export async function writeHfWeights(
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
  else await saveSafetensors(weights, file, { metadata, tied: 'copy' });
}
