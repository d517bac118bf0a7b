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
  /** Where the tensors go, whatever device they were saved from: `cpu`, `cuda:0`, ... Default `cpu`. */
  device?: DeviceName;
  /**
   * Map the file instead of reading it: opening takes no time, and bytes are read when they are used. Writing to such a
   * tensor does not change the file. Checksums of tensors are not verified, and the file must stay as it is. Default
   * false.
   */
  mmap?: boolean;
  /**
   * Give floats that a plain number would turn into ints, such as 1.0, as `Float`, and NumPy's scalars as `NumpyScalar`,
   * so that `save` writes them back as they were. Default false.
   */
  exact?: boolean;
  /**
   * What to do with objects of classes that torchbind does not know, such as a dataclass or an `argparse.Namespace`:
   * `refuse` the file by their name, or give them as `inert` data (`InertObject`), which `save` writes back as it was.
   * Their code is never looked for. Default `refuse`.
   */
  unknown?: 'refuse' | 'inert';
  /**
   * `memory`: bytes that the file may take besides its own size, by an estimate; what would take more is refused
   * (ERR_TORCHBIND_CHECKPOINT_LIMIT). Give more for a file that you trust and that holds a great deal of other things than
   * tensors, or compressed ones. Default 48 MB and, for each tensor with a storage of its own, what that takes.
   */
  limits?: LoadLimits;
}

/**
 * Reads a file that `torch.save` wrote (PyTorch's `torch.load` with `weights_only=True` and `map_location`): the zip of
 * today, the one stream of PyTorch before 1.6, or the tar of 0.1, in any pickle protocol. Of an index file
 * (`pytorch_model.bin.index.json`) all shards are read; safetensors files go to `loadSafetensors`. The directory of a
 * distributed checkpoint (`torch.distributed.checkpoint`) is read part by part; keys of its dicts are text, as in Python.
 *
 * dict comes as `Map`, OrderedDict as `OrderedDict`, list as array, tuple as `Tuple`, set as `Set`, None as `null`, int
 * as `number`, or `bigint` beyond 2^53 - 1, float as `number`, str as `string`, bytes as `Uint8Array`, torch.Size as
 * `Size`, dtypes as `DTypeValue`, torch.device as `Device`, tensors, parameters and NumPy arrays as `Tensor`. Tensors that
 * share a storage in the file share it in memory. docs/formats.md has the whole table.
 *
 * Nothing in the file is executed; classes and functions that are not PyTorch's own are refused by name.
 *
 * @throws CheckpointError with a stable `code`, the byte `offset` and the `record` where the file is not right
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

/** What an open file holds, as `load` gives it. */
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
