import { checkOptions, describe, type PathLike, toPath, TorchBindError } from '../../errors';
import type { ValueOptions } from './archive';
import { loadDistributed } from '../dcp/load';
import { distributedDirectory } from '../dcp/place';
import { type ByteSource, withSource } from '../files/byte-source';
import { type LoadLimits, memoryLimit } from '../../pickle/budget';
import { TensorPlanner } from './planned-tensors';
import { openArchive, readArchive } from './read-archive';
import { readSafetensors } from '../safetensors/load';
import { existing, isShardIndex, loadShards } from '../safetensors/shards';
import { headOf, isSafetensorsFile } from './sniff';
import { readGguf } from '../gguf/load';
import { isGguf } from '../gguf/read';
import type { DeviceName } from '../../tensor/schema-types';

/** Options of `load`. */
export interface LoadOptions {
  /** Device of the tensors, whatever device they were saved from: `cpu`, `cuda:0`, ... Default `cpu`. */
  device?: DeviceName;
  /**
   * Memory-map the file instead of reading it: opening is immediate, and bytes are read when used. Writes to such a
   * tensor do not change the file. Tensor checksums are not verified. Do not change the file while its tensors are
   * alive. Default false.
   */
  mmap?: boolean;
  /**
   * Return floats such as 1.0, which a plain number cannot distinguish from ints, as `Float`, and NumPy's scalars as
   * `NumpyScalar`, so that `save` writes them back unchanged. Default false.
   */
  exact?: boolean;
  /**
   * What to do with objects of unknown classes, such as a dataclass or an `argparse.Namespace`: `refuse` the file with
   * the name of the class, or return them as `inert` data (`InertObject`), which `save` writes back unchanged. Their
   * code is never loaded. Default `refuse`.
   */
  unknown?: 'refuse' | 'inert';
  /**
   * `memory`: estimated bytes that the contents may take besides the size of the file. More is refused
   * (ERR_TORCHBIND_CHECKPOINT_LIMIT). Raise it for a trusted file with compressed records or with much data besides
   * tensors. Default 48 MB, plus an allowance for each tensor with its own storage.
   */
  limits?: LoadLimits;
}

/**
 * Reads a file of `torch.save` (PyTorch's `torch.load` with `weights_only=True` and `map_location`): today's zip, the
 * stream of PyTorch before 1.6, or the tar of 0.1, in any pickle protocol. An index file
 * (`pytorch_model.bin.index.json`) loads all its shards. A safetensors file is read as by `loadSafetensors`. A
 * directory of `torch.distributed.checkpoint` is read part by part; keys of its dicts are text, as in Python.
 *
 * dict becomes `Map`, OrderedDict `OrderedDict`, list an array, tuple `Tuple`, set `Set`, None `null`, int `number`
 * (`bigint` beyond 2^53 - 1), float `number`, str `string`, bytes `Uint8Array`, torch.Size `Size`, dtypes `DTypeValue`,
 * torch.device `Device`, and tensors, parameters and NumPy arrays `Tensor`. Tensors that share a storage in the file
 * share it in memory. docs/formats.md has the whole table.
 *
 * Nothing in the file is executed. Classes and functions that are not PyTorch's own are refused by name.
 *
 * @throws CheckpointError with a stable `code`, the byte `offset` and the `record`, if the file is invalid
 */
export async function load(target: PathLike, options: LoadOptions = {}): Promise<unknown> {
  const path = toPath(target, 'load');
  checkOptions(options, ['device', 'mmap', 'exact', 'unknown', 'limits'], 'load');
  const values = { exact: options.exact, inert: isInert(options.unknown), memory: memoryLimit(options.limits) };
  const directory = distributedDirectory(path);
  if (directory !== undefined) return loadDistributed(directory, { device: options.device, values });
  return withSource(existing(path), async (source) =>
    (await isShardIndex(source))
      ? loadShards(source, (file) => withSource(file, (shard) => loadFile(shard, options, values)))
      : loadFile(source, options, values),
  );
}

/** The contents of an open file, as `load` returns them. */
export async function loadFile(
  source: ByteSource,
  { device, mmap }: Pick<LoadOptions, 'device' | 'mmap'>,
  values: ValueOptions = {},
): Promise<unknown> {
  if (await isSafetensorsFile(source))
    return readSafetensors(source, { device, mmap, limits: { memory: values.memory } });
  if (isGguf(await headOf(source))) return readGguf(source, { device, mmap });
  const archive = await openArchive(source, (bigEndian) => new TensorPlanner(bigEndian), values);
  return readArchive(archive, { device, mmap });
}

function isInert(unknown: LoadOptions['unknown']): boolean {
  if (unknown === undefined || unknown === 'refuse' || unknown === 'inert') return unknown === 'inert';
  throw new TorchBindError(
    `load: expected 'refuse' or 'inert' for the option 'unknown', got ${describe(unknown)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
