import path from 'node:path';
import { existsSync } from 'node:fs';
import type { Tensor } from '../../tensor/tensor';
import { ByteSource } from '../files/byte-source';
import { containerError, CheckpointCode, CheckpointError, describe, TorchBindError } from '../../errors';
import { JsonReader } from '../files/json-reader';
import type { PlannedTensor } from './plan';

/** Tensors by name, in the order of the file, as safetensors files and sharded checkpoints hold them. */
export class NamedTensors extends Map<string, Tensor> {
  /** The text that a safetensors file carries besides its tensors, `format` for instance. */
  readonly metadata = new Map<string, string>();
}

/** Index files of the largest models have a few megabytes. */
const maxIndexSize = 100_000_000;

/** The name of the index next to `model.safetensors` or `pytorch_model.bin`. */
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
 * Reads all the files that an index (`{ "metadata": {...}, "weight_map": { name: file } }`) names, which is next to it.
 *
 * @param load what reads one of them
 * @throws CheckpointError where the index is malformed or leads elsewhere, or where a tensor is missing or comes twice
 */
export async function loadShards(source: ByteSource, load: (file: string) => Promise<unknown>): Promise<NamedTensors> {
  const weightMap = await readIndex(source);
  const all = new NamedTensors();
  try {
    for (const file of new Set(weightMap.values())) {
      const shard = checkedShard(await load(path.join(path.dirname(source.path), file)), file);
      addShard(all, shard, file);
    }
    for (const [name, file] of weightMap)
      if (!all.has(name))
        throw containerError(`the index promises ${quoted(name)} in '${file}', which does not hold it`);
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
    'expected the index of a sharded checkpoint, got JSON without a "weight_map"',
    CheckpointCode.format,
  );
}

function readWeightMap(json: JsonReader): Map<string, string> {
  const map = new Map<string, string>();
  json.object((name, offset) => {
    const file = json.string();
    // A file next to the index and nothing else: no directory, drive, device name or stream.
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
  if (twice !== undefined)
    throw containerError(`${quoted(twice)} is in '${file}' and in another file of the index too`);
  if (shard instanceof NamedTensors) for (const [key, value] of shard.metadata) all.metadata.set(key, value);
}

/** A shard of a `.bin` checkpoint is a dict of tensors. */
function checkedShard(value: unknown, file: string): Map<string, Tensor> {
  const isTensor = (item: unknown): boolean => typeof item === 'object' && item !== null && 'dispose' in item;
  const isDict = value instanceof Map && [...value].every(([name, item]) => typeof name === 'string' && isTensor(item));
  if (isDict) return value as Map<string, Tensor>;
  throw containerError(`'${file}' is not a dict of tensors, as a shard must be`);
}

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 200));
}

/** `model-00002-of-00003.safetensors` for `model.safetensors`. */
export function shardPath(file: string, number: number, count: number): string {
  const { dir, name, ext } = path.parse(file);
  const five = (value: number): string => String(value).padStart(5, '0');
  return path.join(dir, `${name}-${five(number)}-of-${five(count)}${ext}`);
}

const units: Record<string, number> = {
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/** Bytes of a size such as 5000000, '5MB' or '5MiB'; without one, no limit. */
export function parseSize(size: number | string | undefined): number {
  if (size === undefined) return Infinity;
  const match = typeof size === 'string' ? /^(\d+(?:\.\d+)?) ?([KMGT]i?B)$/i.exec(size) : null;
  const bytes = match === null ? size : Math.floor(Number(match[1]) * units[match[2]!.toUpperCase()]!);
  if (typeof bytes === 'number' && bytes >= 1) return bytes;
  throw new TorchBindError(
    `saveSafetensors(): maxShardSize must be a number of bytes, or text such as '5GB', got ${describe(size)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** Fills shard after shard, in the order of the tensors; one that is larger than a shard gets one of its own. */
export function splitShards(tensors: PlannedTensor[], maxSize: number): PlannedTensor[][] {
  const shards: PlannedTensor[][] = [[]];
  let size = 0;
  for (const tensor of tensors) {
    if (size > 0 && size + tensor.nbytes > maxSize) {
      shards.push([]);
      size = 0;
    }
    shards.at(-1)!.push(tensor);
    size += tensor.nbytes;
  }
  return shards;
}

/** The index file, as Hugging Face's libraries write it. */
export function indexText(shards: readonly PlannedTensor[][], files: readonly string[]): string {
  const pairs = shards.flatMap((shard, i) => shard.map(({ name }) => [name, path.basename(files[i]!)] as const));
  pairs.sort(([a], [b]) => (a < b ? -1 : 1));
  const totalSize = shards.flat().reduce((sum, { nbytes }) => sum + nbytes, 0);
  const lines = pairs.map(([name, file]) => `    ${JSON.stringify(name)}: ${JSON.stringify(file)}`);
  return `{\n  "metadata": {\n    "total_size": ${totalSize}\n  },\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`;
}

/** The shards that an index next to `file` names, where it is one that was written under this path. */
export async function existingShards(file: string): Promise<string[]> {
  const { name, ext } = path.parse(file);
  const isOurs = (shard: string): boolean =>
    shard.startsWith(`${name}-`) &&
    /^\d{5,}-of-\d{5,}$/.test(path.parse(shard).name.slice(name.length + 1)) &&
    shard.endsWith(ext);
  let source: ByteSource;
  try {
    source = ByteSource.open(indexPathOf(file));
  } catch {
    return [];
  }
  try {
    const shards = new Set((await readIndex(source)).values());
    return [...shards].filter(isOurs).map((shard) => path.join(path.dirname(file), shard));
  } catch {
    // An index that cannot be read joins nothing.
    return [];
  } finally {
    source.close();
  }
}
