import { GlobalError } from '../../pickle/globals';
import type { Tensor } from '../../tensor/tensor';
import { NotedTensor, TensorChecker } from './archive';
import { CheckpointCode, CheckpointError } from '../../errors';
import type { NativeTensors } from './native-tensors';
import type { ArraySpec, MetaSpec, Quantizer, SparseSpec, StorageView, TensorSpec } from './tensor-spec';
import { changeValues } from './walk';

/** A tensor that is made when the whole pickle was read, and all of it found right. */
abstract class PlannedTensor<Spec = unknown> extends NotedTensor {
  private made: Tensor | undefined = undefined;

  constructor(
    { dtype, shape }: NotedTensor,
    protected spec: Spec,
  ) {
    super(dtype, shape);
  }

  /** The one tensor that this stands for. */
  make(tensors: NativeTensors): Tensor {
    return (this.made ??= this.create(tensors));
  }

  /** Another tensor over the same bytes. */
  abstract create(tensors: NativeTensors): Tensor;
}

class PlannedStrided extends PlannedTensor<TensorSpec> {
  override create(tensors: NativeTensors): Tensor {
    return tensors.tensor(this.spec);
  }
}

class PlannedQuantized extends PlannedTensor<{ tensor: TensorSpec; quantizer: Quantizer }> {
  override create(tensors: NativeTensors): Tensor {
    const { tensor, quantizer } = this.spec;
    if (!('axis' in quantizer)) return tensors.quantized(tensor, quantizer);
    const [scales, zeroPoints] = [part(quantizer.scales, tensors), part(quantizer.zeroPoints, tensors)];
    return tensors.quantized(tensor, { ...quantizer, scales, zeroPoints });
  }
}

class PlannedSparse extends PlannedTensor<SparseSpec> {
  override create(tensors: NativeTensors): Tensor {
    const indices = this.spec.indices.map((planned) => part(planned, tensors));
    return tensors.sparse({ ...this.spec, indices, values: part(this.spec.values, tensors) });
  }
}

class PlannedMeta extends PlannedTensor<MetaSpec> {
  override create(tensors: NativeTensors): Tensor {
    return tensors.meta(this.spec);
  }
}

class PlannedArray extends PlannedTensor<ArraySpec> {
  override create(tensors: NativeTensors): Tensor {
    return tensors.array(this.spec);
  }
}

/** A parameter is a tensor of its own over the bytes of its data, however often that is wrapped. */
class PlannedParameter extends PlannedTensor<{ data: PlannedTensor; requiresGrad: boolean }> {
  override create(tensors: NativeTensors): Tensor {
    return tensors.parameter(this.spec.data.create(tensors), this.spec.requiresGrad);
  }
}

class PlannedStorage extends PlannedTensor<StorageView> {
  override create(tensors: NativeTensors): Tensor {
    return tensors.storage(this.spec);
  }
}

function part(planned: unknown, tensors: NativeTensors): Tensor {
  return (planned as PlannedTensor).make(tensors);
}

/** Plans tensors, with all the checks that can be made without their bytes. */
export class TensorPlanner extends TensorChecker {
  override tensor(spec: TensorSpec): PlannedTensor {
    return new PlannedStrided(super.tensor(spec), spec);
  }

  override parameter(tensor: NotedTensor, requiresGrad: boolean): NotedTensor {
    super.parameter(tensor, requiresGrad);
    return new PlannedParameter(tensor, { data: tensor as PlannedTensor, requiresGrad });
  }

  override quantized(spec: TensorSpec, quantizer: Quantizer): PlannedTensor {
    return new PlannedQuantized(super.quantized(spec, quantizer), { tensor: spec, quantizer });
  }

  override sparse(spec: SparseSpec): PlannedTensor {
    return new PlannedSparse(super.sparse(spec), spec);
  }

  override meta(spec: MetaSpec): PlannedTensor {
    return new PlannedMeta(super.meta(spec), spec);
  }

  override array(spec: ArraySpec): PlannedTensor {
    return new PlannedArray(super.array(spec), spec);
  }

  override storage(view: StorageView): PlannedTensor {
    return new PlannedStorage(super.storage(view), view);
  }
}

/**
 * Makes the tensors that a `TensorPlanner` put into a value, in place of their plans.
 *
 * @throws CheckpointError where libtorch refuses one for what its bytes are
 */
export function* makePlanned(root: unknown, tensors: NativeTensors, record: string): Generator<void, unknown, void> {
  try {
    return yield* changeValues(root, (value) => (value instanceof PlannedTensor ? value.make(tensors) : value));
  } catch (error) {
    if (!(error instanceof GlobalError)) throw error;
    throw new CheckpointError(error.message, CheckpointCode.pickle, { record, cause: error });
  }
}
