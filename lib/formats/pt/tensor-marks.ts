import type { Tensor } from '../../tensor/tensor';

const parameters = new WeakSet<Tensor>();

/** Marks a tensor as an `nn.Parameter`, so that `save` writes it as one. Returns it. */
export function markParameter<T extends Tensor>(tensor: T): T {
  parameters.add(tensor);
  return tensor;
}

/** Whether a tensor is an `nn.Parameter`: one of a module, or one that was read as such from a file. */
export function isParameter(tensor: Tensor): boolean {
  return parameters.has(tensor);
}

const arrays = new WeakMap<Tensor, string>();

/** Marks a tensor as a NumPy array that was read from a file, so that `save` writes it back as one. Returns it. */
export function markArray<T extends Tensor>(tensor: T, module: string): T {
  arrays.set(tensor, module);
  return tensor;
}

/** The module that the file named for the NumPy array; undefined for tensors that were none. */
export function arrayModule(tensor: Tensor): string | undefined {
  return arrays.get(tensor);
}

const storages = new WeakMap<Tensor, { untyped: boolean }>();

/**
 * Marks a tensor as a storage that was a value of its own in a file, so that `save` writes it back as one. Returns it.
 *
 * @param untyped whether it is an `UntypedStorage`, which is bytes
 */
export function markStorage<T extends Tensor>(tensor: T, untyped: boolean): T {
  storages.set(tensor, { untyped });
  return tensor;
}

/** Which sort of storage the file had; undefined for tensors. */
export function storageMark(tensor: Tensor): { untyped: boolean } | undefined {
  return storages.get(tensor);
}
