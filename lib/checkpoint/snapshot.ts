import type { GPTModel } from '../models/gpt-model';
import { optimizerStateDict } from '../models/optimizers';
import { native } from '../native/native';
import type { AnyOptimizer } from '../optim';
import { OrderedDict } from '../pickle/types';
import { noGrad } from '../tensor/autograd';
import { lazyCopy } from '../tensor/copy-on-write';
import { dtypeCode } from '../tensor/dtype';
import { clone } from '../tensor/generated/functions';
import { dispose, keep, tidy } from '../tensor/scope';
import { Tensor, wrap } from '../tensor/tensor';

/** A model's tensors as they are to be written. */
export interface TensorSnapshot {
  weights: Map<string, unknown>;
  optimizerState: Map<string, unknown> | null;
  /** Frees the copies. */
  release(): void;
}

/**
 * The state dicts of a model and of its optimizer as they are now, in the layout's form. Model and optimizer may change
 * while the snapshot is written.
 *
 * @param optimizer or its state dict in the layout's form; undefined for none
 */
export function takeSnapshot(
  model: GPTModel,
  optimizer: AnyOptimizer | ReadonlyMap<string, unknown> | undefined,
): TensorSnapshot {
  const copies = new TensorCopies();
  try {
    return noGrad(() =>
      tidy(() => ({
        weights: copies.of(model.stateDict()),
        optimizerState:
          optimizer === undefined
            ? null
            : copies.of(
                optimizer instanceof Map
                  ? (optimizer as Map<string, unknown>)
                  : optimizerStateDict(model, optimizer as AnyOptimizer),
              ),
        release: () => copies.dispose(),
      })),
    );
  } catch (error) {
    copies.dispose();
    throw error;
  }
}

/** Copies of tensors on the CPU. What shares memory, such as tied weights, shares it in the copies too. */
class TensorCopies {
  private readonly storages = new Map<number, Tensor | undefined>();
  private readonly tensors = new Map<string, Tensor>();

  /** A tree of maps and lists with copies of its tensors. */
  of<T>(tree: T): T {
    return this.copyOf(tree) as T;
  }

  dispose(): void {
    dispose([...this.tensors.values(), ...this.storages.values()]);
  }

  private copyOf(value: unknown): unknown {
    if (value instanceof Tensor) return this.tensor(value);
    if (Array.isArray(value)) return value.map((item) => this.copyOf(item));
    if (!(value instanceof Map)) return value;
    const entries = Array.from(value, ([key, item]) => [key, this.copyOf(item)] as const);
    if (!(value instanceof OrderedDict)) return new Map(entries);
    const copy = new OrderedDict(entries);
    for (const [name, attribute] of value.attributes) copy.attributes.set(name, attribute);
    return copy;
  }

  private tensor(tensor: Tensor): Tensor {
    const key = storageKey(tensor);
    const copy = this.tensors.get(key) ?? keep(this.lazily(tensor) ?? copyToCpu(tensor));
    this.tensors.set(key, copy);
    return copy;
  }

  private lazily(tensor: Tensor): Tensor | undefined {
    const { id } = native().storageInfo(tensor.handle);
    if (!this.storages.has(id)) this.storages.set(id, lazyCopy(tensor.handle));
    const storage = this.storages.get(id);
    if (storage === undefined) return undefined;
    const { dtype, shape } = tensor;
    const [offset, strides] = [tensor.storageOffset(), tensor.strides()];
    return wrap(native().viewStorage(storage.handle, dtypeCode[dtype], offset, shape, strides));
  }
}

function copyToCpu(tensor: Tensor): Tensor {
  return tensor.device === 'cpu' ? clone(tensor) : tensor.to('cpu');
}

/** The same for tensors that are the same view of one storage, such as tied weights. */
export function storageKey(tensor: Tensor): string {
  const { id } = native().storageInfo(tensor.handle);
  return [id, tensor.dtype, tensor.storageOffset(), tensor.shape, tensor.strides()].join(' ');
}
