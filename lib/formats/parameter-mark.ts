import type { Tensor } from '../tensor/tensor';

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
