import type { Tensor } from '../core';
import { backward } from './grad';
import type { BackwardOptions } from './grad';
import { registerHook, registerPostAccumulateGradHook } from './hooks';
import type { GradientHook, RemovableHandle } from './hooks';

/** Backward passes and hooks. */
export interface TensorAutograd {
  /**
   * Computes gradients of this tensor for all leaves that require them, and adds them to their `grad`.
   *
   * @param gradient derivative of the end result for this tensor, of its shape; may be left out for a single value
   */
  backward(gradient?: Tensor | null, options?: BackwardOptions): void;
  /**
   * Calls `hook` with the gradient of this tensor whenever one is computed (PyTorch's `Tensor.register_hook`). A tensor
   * that it returns takes the gradient's place. Hooks run in the order of their registration, before the gradient
   * reaches `grad`; an error that one throws comes out of `backward()`.
   *
   * A hook lives as long as the graph of its tensor. One that refers to that tensor keeps it alive until it is
   * removed, or the tensor is disposed, by `tidy()` for instance.
   *
   * @throws {TorchBindError} `ERR_TORCHBIND_INVALID_ARGUMENT` when the tensor does not require a gradient, or takes
   * part in the backward pass that is running
   */
  registerHook(hook: GradientHook): RemovableHandle;
  /**
   * Calls `hook` with this leaf after a gradient was added to its `grad` (PyTorch's
   * `Tensor.register_post_accumulate_grad_hook`): for an optimizer step in the midst of the backward pass, say.
   */
  registerPostAccumulateGradHook(hook: (tensor: Tensor) => void): RemovableHandle;
}

export const autograd: TensorAutograd & ThisType<Tensor> = {
  backward(gradient, options) {
    backward(this as Tensor, gradient, options);
  },
  registerHook(hook) {
    return registerHook(this as Tensor, hook);
  },
  registerPostAccumulateGradHook(hook) {
    return registerPostAccumulateGradHook(this as Tensor, hook);
  },
};
