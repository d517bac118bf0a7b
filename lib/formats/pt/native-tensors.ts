import { native } from '../../native/native';
import { GlobalError } from '../../pickle/globals';
import { noGrad } from '../../tensor/autograd';
import { ops } from '../../tensor/ops';
import { dtypeCode } from '../../tensor/dtype';
import { Tensor, unwrap, wrap } from '../../tensor/tensor';
import { TorchBindError } from '../../errors';
import type { LoadedStorages } from './storage-reader';
import { markArray, markParameter, markStorage } from './tensor-marks';
import {
  type ArraySpec,
  contiguousStrides,
  type MetaSpec,
  type Quantizer,
  type SparseSpec,
  type StorageRef,
  type StorageView,
  type TensorBuilder,
  type TensorSpec,
} from './tensor-spec';
import type { DeviceName } from '../../tensor/schema-types';

/** Makes libtorch tensors over the loaded storages. */
export class NativeTensors implements TensorBuilder {
  private readonly made: Tensor[] = [];
  private readonly moved = new Map<StorageRef, Tensor>();

  constructor(
    private readonly loaded: LoadedStorages,
    private readonly device: DeviceName,
  ) {}

  tensor({ storage, dtype, offset, shape, strides, requiresGrad, conj, neg }: TensorSpec): Tensor {
    const base = this.device === 'cpu' ? this.loaded.get(storage) : unwrap(this.onDevice(storage), 'load');
    let tensor = wrap(native().viewStorage(base, dtypeCode[dtype.name], offset, shape, strides));
    if (conj) tensor = ops.aten._conj(tensor) as Tensor;
    if (neg) tensor = ops.aten._neg_view(tensor) as Tensor;
    if (requiresGrad) tensor.requiresGrad = true;
    return this.noted(tensor);
  }

  parameter(tensor: Tensor, requiresGrad: boolean): Tensor {
    if (tensor.requiresGrad !== requiresGrad) tensor.requiresGrad = requiresGrad;
    return markParameter(tensor);
  }

  isTensor(value: unknown): value is Tensor {
    return value instanceof Tensor;
  }

  /** Makes a quantized tensor. It is a contiguous copy and shares no storage. */
  quantized({ storage, dtype, offset, shape, strides }: TensorSpec, quantizer: Quantizer): Tensor {
    const integers = { qint8: dtypeCode.int8, quint8: dtypeCode.uint8, qint32: dtypeCode.int32 };
    const code = integers[dtype.name as keyof typeof integers];
    const view = wrap(native().viewStorage(this.loaded.get(storage), code, offset, shape, strides));
    const made = this.checked(() =>
      'axis' in quantizer
        ? ops.aten._make_per_channel_quantized_tensor(view, quantizer.scales, quantizer.zeroPoints, quantizer.axis)
        : ops.aten._make_per_tensor_quantized_tensor(view, quantizer.scale, quantizer.zeroPoint),
    );
    view.dispose();
    return this.noted(this.placed(made));
  }

  sparse({ layout, indices, values, shape, coalesced }: SparseSpec): Tensor {
    const dtype = (values as Tensor).dtype;
    const options = { dtype, layout, device: this.device };
    const made = this.checked(() => {
      if (layout === 'sparse_coo') {
        ops.aten._validate_sparse_coo_tensor_args(indices[0], values, shape, coalesced ?? null);
        return ops.aten._sparse_coo_tensor_unsafe(indices[0], values, shape, { ...options, isCoalesced: coalesced });
      }
      ops.aten._validate_sparse_compressed_tensor_args(indices[0], indices[1], values, shape, layout);
      return ops.aten._sparse_compressed_tensor_unsafe(indices[0], indices[1], values, shape, options);
    });
    return this.noted(made);
  }

  meta({ dtype, shape, strides, requiresGrad }: MetaSpec): Tensor {
    const options = { dtype: dtype.name, device: 'meta' };
    const tensor = ops.aten.empty_strided(shape, strides, options) as Tensor;
    if (requiresGrad) tensor.requiresGrad = true;
    return this.noted(tensor);
  }

  array({ dtype, shape, bytes, fortran, module }: ArraySpec): Tensor {
    // Column-major: the bytes are those of the transposed array, row by row.
    const handle = native().fromTypedArray(bytes, fortran ? [...shape].reverse() : shape, dtypeCode[dtype.name]);
    let tensor = wrap(handle);
    if (fortran && shape.length > 1) {
      const strides = contiguousStrides([...shape].reverse()).reverse();
      const turned = wrap(native().viewStorage(handle, dtypeCode[dtype.name], 0, shape, strides));
      tensor.dispose();
      tensor = turned;
    }
    return this.noted(markArray(this.placed(tensor), module));
  }

  storage({ storage, start, nbytes }: StorageView): Tensor {
    const { dtype, untyped } = storage;
    const place = { storage, dtype, offset: start / dtype.itemSize, shape: [nbytes / dtype.itemSize], strides: [1] };
    return markStorage(this.tensor({ ...place, requiresGrad: false, conj: false, neg: false }), untyped);
  }

  /** Frees all that was made, where the value that it was made for will not be. */
  disposeAll(): void {
    for (const tensor of this.made) tensor.dispose();
  }

  /** The tensors that were made hold their storages themselves. */
  release(): void {
    for (const tensor of this.moved.values()) tensor.dispose();
  }

  private noted(tensor: Tensor): Tensor {
    this.made.push(tensor);
    return tensor;
  }

  /** What libtorch finds wrong with the parts of a tensor is the file's fault. */
  private checked(make: () => unknown): Tensor {
    try {
      return noGrad(make) as Tensor;
    } catch (error) {
      throw error instanceof TorchBindError ? new GlobalError(error.message) : error;
    }
  }

  private placed(tensor: Tensor): Tensor {
    if (this.device === 'cpu') return tensor;
    const there = tensor.to(this.device);
    if (there !== tensor) tensor.dispose();
    return there;
  }

  /** A storage is moved once, so that what shares it continues sharing it. */
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
}
