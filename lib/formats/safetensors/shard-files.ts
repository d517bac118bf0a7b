import path from 'node:path';
import { describe, TorchBindError } from '../../errors';
import { ByteSource } from '../files/byte-source';
import type { PlannedTensor } from './plan';
import { indexPathOf, readIndex } from './shards';

export { indexPathOf } from './shards';

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

/** The shards that an index beside `file` names, where it is one that was written under this path. */
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
