import { rm } from 'node:fs/promises';
import { checkFlags, checkOptions, checkWatchers, describe, type PathLike, toPath, TorchBindError } from '../../errors';
import type { Tensor } from '../../tensor/tensor';
import { stageFile, type StagedFile, syncDirectoryOf } from '../files/atomic-file';
import { existingShards, indexPathOf, indexText, NamedTensors, parseSize, shardPath, splitShards } from './shards';
import { disposePlanned, freezePlanned, type PlannedTensor, planTensors, resolveTied, type TiedMode } from './plan';
import { encodeHeader, inFileOrder, type Progress, writeSafetensors } from './write';

/** Options of `saveSafetensors`. */
export interface SaveSafetensorsOptions {
  /**
   * Metadata of the file. Default: that of a `loadSafetensors` result, else none. transformers expects `{ format: 'pt'
   * }`.
   */
  metadata?: Record<string, string> | ReadonlyMap<string, string>;
  /**
   * Maximum bytes of tensors per file: a number, or text such as '5GB' or '500MiB'. Larger checkpoints are split into
   * `name-00001-of-00003.safetensors` and so on, with `name.safetensors.index.json`; a tensor is never split. Default:
   * one file.
   */
  maxShardSize?: number | string;
  /**
   * What to do with tensors that share memory: 'refuse' (default) throws; 'drop' writes the first of equal views and
   * records the others in the metadata, as Python's `save_model` does; 'copy' writes each.
   */
  tied?: TiedMode;
  /** Called after each part is written. */
  onProgress?: (progress: Progress) => void;
  /** Cancels the save; the old file stays. */
  signal?: AbortSignal;
  /**
   * Sync the file to disk, so that a power failure leaves the old file or the new one. `false` is faster, like Python's
   * writers, which do not sync; a crash of the program is harmless either way. Default true.
   */
  durable?: boolean;
}

/**
 * Saves named tensors as a safetensors file, byte for byte as Python's `safetensors.torch.save_file` for the same
 * tensors and metadata (Python writes several metadata entries in no fixed order).
 *
 * Tensors that are not contiguous are packed one at a time; tensors on other devices are written as CPU tensors. The
 * files get the values that the tensors have at the call, as with `save`. Each file is written atomically, the index
 * last. An earlier save under the same path is replaced, including its shards.
 *
 * @returns the paths of the files: the file; or the shards and, last, their index
 * @throws TorchBindError ERR_TORCHBIND_UNSUPPORTED_VALUE for a tensor or name that the format cannot hold;
 *   ERR_TORCHBIND_SAVE if tensors share memory or a file cannot be written; the signal's reason if it was aborted
 */
export async function saveSafetensors(
  tensors: ReadonlyMap<string, Tensor> | Record<string, Tensor>,
  target: PathLike,
  options: SaveSafetensorsOptions = {},
): Promise<string[]> {
  const path = toPath(target, 'saveSafetensors');
  checkOptions(options, ['metadata', 'maxShardSize', 'tied', 'onProgress', 'signal', 'durable'], 'saveSafetensors');
  checkFlags({ durable: options.durable }, 'saveSafetensors');
  checkWatchers(options, 'saveSafetensors');
  const { signal, tied = 'refuse' } = options;
  if (!['refuse', 'drop', 'copy'].includes(tied))
    throw optionError(`tied must be 'refuse', 'drop' or 'copy', got ${describe(tied)}`);
  const maxShardSize = parseSize(options.maxShardSize);
  const metadata = metadataOf(options.metadata ?? (tensors instanceof NamedTensors ? tensors.metadata : undefined));
  signal?.throwIfAborted();
  let planned = planTensors(entriesOf(tensors));
  try {
    const { kept, dropped } = resolveTied(planned, tied);
    planned = kept;
    freezePlanned(kept);
    for (const [name, keptName] of dropped) if (!metadata.has(name)) metadata.set(name, keptName);
    return await writeFiles(path, splitShards(kept, maxShardSize), metadata, options);
  } finally {
    disposePlanned(planned);
  }
}

/** Writes all files under temporary names, then moves them into place. */
async function writeFiles(
  path: string,
  shards: PlannedTensor[][],
  metadata: Map<string, string>,
  { onProgress, signal, durable = true }: SaveSafetensorsOptions,
): Promise<string[]> {
  const isSplit = shards.length > 1;
  const files = isSplit ? shards.map((_, i) => shardPath(path, i + 1, shards.length)) : [path];
  const ordered = shards.map(inFileOrder);
  const headers = ordered.map((shard) => encodeHeader(shard, metadata));
  const totalBytes = shards.flat().reduce((sum, { nbytes }) => sum + nbytes, 0);
  let bytes = 0;
  const onWritten = (count: number): void => onProgress?.({ bytes: (bytes += count), totalBytes });
  const staged: StagedFile[] = [];
  try {
    for (const [i, file] of files.entries())
      staged.push(
        await stageFile(
          file,
          (handle) => writeSafetensors(handle, headers[i]!, ordered[i]!, { onWritten, signal }),
          durable,
        ),
      );
    if (isSplit) {
      files.push(indexPathOf(path));
      staged.push(
        await stageFile(indexPathOf(path), async (file) => file.writeFile(indexText(shards, files)), durable),
      );
    }
    await replace(path, files, staged, durable);
  } finally {
    for (const file of staged) await file.discard();
  }
  return files;
}

/**
 * The order in which a crash at any moment leaves the old checkpoint, none, or the new one, and never a mixture: before
 * shards are overwritten, the index that joins them goes.
 */
async function replace(
  path: string,
  files: readonly string[],
  staged: readonly StagedFile[],
  durable: boolean,
): Promise<void> {
  const replaced = await existingShards(path);
  if (replaced.some((file) => files.includes(file))) {
    await rm(indexPathOf(path), { force: true });
    if (durable) await syncDirectoryOf(replaced[0]!);
  }
  for (const file of staged) await file.commit();
  if (durable) await syncDirectoryOf(files[0]!);
  const obsolete = [path, indexPathOf(path), ...replaced].filter((file) => !files.includes(file));
  for (const file of obsolete) await rm(file, { force: true });
}

function entriesOf(tensors: unknown): Iterable<[unknown, unknown]> {
  if (tensors instanceof Map) return tensors as Map<unknown, unknown>;
  const prototype: unknown =
    typeof tensors === 'object' && tensors !== null ? Object.getPrototypeOf(tensors) : undefined;
  if (prototype === Object.prototype || prototype === null) return Object.entries(tensors as object);
  throw optionError(
    `expected a Map or plain object of tensors, got ${describe(tensors)}; a module gives its stateDict()`,
  );
}

function metadataOf(metadata: unknown): Map<string, string> {
  if (metadata === undefined) return new Map();
  const entries = [...entriesOf(metadata)];
  for (const [key, value] of entries) {
    if (typeof key !== 'string' || typeof value !== 'string')
      throw optionError(`metadata must map text to text, but ${describe(key)} is ${describe(value)}`);
    if (/\p{Surrogate}/u.test(key + value)) throw optionError(`metadata ${describe(key)} holds half a surrogate pair`);
  }
  return new Map(entries as [string, string][]);
}

function optionError(message: string): TorchBindError {
  return new TorchBindError(`saveSafetensors(): ${message}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
