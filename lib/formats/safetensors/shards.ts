import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Tensor } from '../../tensor/tensor';
import type { ByteSource } from '../files/byte-source';
import { CheckpointCode, CheckpointError } from '../../errors';
import { JsonReader } from '../files/json-reader';
import { NamedTensors } from './named-tensors';

/** Index files of the largest models have a few megabytes. */
const maxIndexSize = 100_000_000;

/** The name of the index beside `model.safetensors` or `pytorch_model.bin`. */
export function indexPathOf(file: string): string {
  return `${file}.index.json`;
}

/** The file itself, or the index of its shards where only that is there. */
export function existing(file: string): string {
  // At once: each wait for a thread of the pool would cost more than opening a mapped file does.
  return !existsSync(file) && existsSync(indexPathOf(file)) ? indexPathOf(file) : file;
}

/** Whether a file is JSON text, which can only be the index of shards. */
export async function isShardIndex(source: ByteSource): Promise<boolean> {
  const head = await source.read(0, Math.min(source.size, 64));
  return /^\s*\{\s*("|$|\})/.test(head.toString('latin1'));
}

/**
 * Reads all the files that an index (`{ "metadata": {...}, "weight_map": { name: file } }`) names, which lie beside it.
 *
 * @param load what reads one of them
 * @throws CheckpointError where the index is malformed or leads elsewhere, or where a tensor is missing or comes twice
 */
export async function loadShards(source: ByteSource, load: (file: string) => Promise<unknown>): Promise<NamedTensors> {
  const weightMap = await readIndex(source);
  const all = new NamedTensors();
  try {
    for (const file of new Set(weightMap.values())) {
      const shard = requireTensors(await load(path.join(path.dirname(source.path), file)), file);
      addShard(all, shard, file);
    }
    for (const [name, file] of weightMap)
      if (!all.has(name)) throw damaged(`the index promises ${quoted(name)} in '${file}', which does not hold it`);
  } catch (error) {
    for (const tensor of all.values()) tensor.dispose();
    throw error;
  }
  return all;
}

/** Name -> file of each tensor. */
export async function readIndex(source: ByteSource): Promise<Map<string, string>> {
  if (source.size > maxIndexSize)
    throw new CheckpointError(
      `an index of ${source.size} bytes; at most ${maxIndexSize} are read`,
      CheckpointCode.format,
    );
  const json = new JsonReader(await source.read(0, source.size));
  let weightMap: Map<string, string> | undefined;
  json.object((name) => {
    if (name === 'weight_map') weightMap = readWeightMap(json);
    else json.skip();
  });
  json.end();
  if (weightMap !== undefined) return weightMap;
  throw new CheckpointError(
    `'${source.path}' is JSON without a 'weight_map': not the index of a sharded checkpoint`,
    CheckpointCode.format,
  );
}

function readWeightMap(json: JsonReader): Map<string, string> {
  const map = new Map<string, string>();
  json.object((name, offset) => {
    const file = json.string();
    // A file beside the index and nothing else: no directory, drive, device name or stream.
    if (!/^[^/\\:\0]+$/.test(file) || file === '.' || file === '..')
      throw json.error(`${quoted(name)} is in ${quoted(file)}, which is not the plain name of a file`, offset);
    map.set(name, file);
  });
  return map;
}

function addShard(all: NamedTensors, shard: Map<string, Tensor>, file: string): void {
  let twice: string | undefined;
  for (const [name, tensor] of shard) {
    if (all.has(name)) {
      twice ??= name;
      tensor.dispose();
    } else all.set(name, tensor);
  }
  if (twice !== undefined) throw damaged(`${quoted(twice)} is in '${file}' and in another file of the index too`);
  if (shard instanceof NamedTensors) for (const [key, value] of shard.metadata) all.metadata.set(key, value);
}

/** A shard of a `.bin` checkpoint is a dict of tensors. */
function requireTensors(value: unknown, file: string): Map<string, Tensor> {
  const isTensor = (item: unknown): boolean => typeof item === 'object' && item !== null && 'dispose' in item;
  const isDict = value instanceof Map && [...value].every(([name, item]) => typeof name === 'string' && isTensor(item));
  if (isDict) return value as Map<string, Tensor>;
  throw damaged(`'${file}' is not a dict of tensors, as a shard must be`);
}

function damaged(message: string): CheckpointError {
  return new CheckpointError(message, CheckpointCode.container);
}

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 200));
}
