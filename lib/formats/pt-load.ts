import { checkOptions } from '../errors';
import { native } from '../native/native';
import { ops } from '../tensor/dispatch';
import { type DType, dtypeCode } from '../tensor/dtype';
import { Tensor, unwrap, wrap } from '../tensor/tensor';
import { ByteSource } from './byte-source';
import { markParameter } from './parameter-mark';
import { PtArchive } from './pt-archive';
import { LoadedStorages, mapStorages, readStorages } from './storage-reader';
import type { StorageRef, TensorSpec } from './tensor-spec';
import type { TensorBuilder } from './torch-globals';

export interface LoadOptions {
  /** Where the tensors go, whatever device they were saved from: `cpu`, `cuda:0`, ... Default `cpu`. */
  device?: string;
  /**
   * Map the file instead of reading it: opening takes no time, and bytes are read when they are used. Writing to such a
   * tensor does not change the file. Checksums of tensors are not verified, and the file must stay as it is. Default
   * false.
   */
  mmap?: boolean;
  /**
   * Give floats that a plain number would turn into ints, such as 1.0, as `Float`, so that `save` writes them back as
   * they were. Default false.
   */
  exact?: boolean;
}

/**
 * Reads a file that `torch.save` wrote (PyTorch's `torch.load` with `weights_only=True` and `map_location`).
 *
 * dict comes as `Map`, OrderedDict as `OrderedDict`, list as array, tuple as `Tuple`, set as `Set`, None as `null`, int
 * as `number`, or `bigint` beyond 2^53 - 1, float as `number`, str as `string`, bytes as `Uint8Array`, torch.Size as
 * `Size`, dtypes as `DTypeValue`, torch.device as `Device`, tensors and parameters as `Tensor`. Tensors that share a
 * storage in the file share it in memory.
 *
 * Nothing in the file is executed; classes and functions that are not PyTorch's own are refused by name.
 *
 * @throws CheckpointError with a stable `code`, the byte `offset` and the `record` where the file is not right
 */
export async function load(path: string, options: LoadOptions = {}): Promise<unknown> {
  checkOptions(options, ['device', 'mmap', 'exact'], 'load');
  const source = await ByteSource.open(path);
  const loaded = new LoadedStorages();
  try {
    const archive = await PtArchive.open(source);
    await (options.mmap === true ? mapStorages(archive, loaded) : readStorages(archive, loaded));
    const tensors = new NativeTensors(loaded, options.device ?? 'cpu');
    try {
      return archive.build(tensors, options.exact);
    } finally {
      tensors.release();
    }
  } finally {
    loaded.dispose();
    await source.close();
  }
}

/** Makes libtorch tensors over the loaded storages. */
class NativeTensors implements TensorBuilder {
  private readonly moved = new Map<StorageRef, Tensor>();

  constructor(
    private readonly loaded: LoadedStorages,
    private readonly device: string,
  ) {}

  tensor({ storage, dtype, offset, shape, strides, requiresGrad, conj, neg }: TensorSpec): Tensor {
    const base = this.device === 'cpu' ? this.loaded.get(storage) : unwrap(this.onDevice(storage), 'load');
    let tensor = wrap(native().viewStorage(base, dtypeCode[dtype.name as DType], offset, shape, strides));
    if (conj) tensor = ops.aten!._conj!(tensor) as Tensor;
    if (neg) tensor = ops.aten!._neg_view!(tensor) as Tensor;
    if (requiresGrad) tensor.requiresGrad = true;
    return tensor;
  }

  parameter(tensor: Tensor, requiresGrad: boolean): Tensor {
    if (tensor.requiresGrad !== requiresGrad) tensor.requiresGrad = requiresGrad;
    return markParameter(tensor);
  }

  isTensor(value: unknown): value is Tensor {
    return value instanceof Tensor;
  }

  /** A storage is moved once, so that what shares it goes on sharing it. */
  private onDevice(storage: StorageRef): Tensor {
    let tensor = this.moved.get(storage);
    if (tensor === undefined) {
      const bytes = native().viewStorage(this.loaded.get(storage), dtypeCode.uint8, 0, [storage.nbytes], [1]);
      const staged = wrap(bytes);
      tensor = staged.to(this.device);
      if (tensor !== staged) staged.dispose();
      this.moved.set(storage, tensor);
    }
    return tensor;
  }

  /** The tensors that were made hold their storages themselves. */
  release(): void {
    for (const tensor of this.moved.values()) tensor.dispose();
  }
}
