import { bindFunction as bind } from '../tensor/dispatch';
import type { Tensor } from '../tensor/tensor';

/** Operators over lists of tensors, which PyTorch's own optimizers call too and which have no public name. */

type Tensors = readonly Tensor[];

let updates = 0;

/**
 * Number of updates that fused kernels have made on this thread. They do not change the tensors' version counters, as
 * in PyTorch.
 */
export function fusedUpdates(): number {
  return updates;
}

function counted<A extends unknown[]>(update: (...args: A) => void): (...args: A) => void {
  return (...args) => {
    updates++;
    update(...args);
  };
}

type AdamStep = (
  params: Tensors,
  gradients: Tensors,
  expAvgs: Tensors,
  expAvgSqs: Tensors,
  maxExpAvgSqs: Tensors,
  steps: Tensors,
  options: {
    lr: number;
    beta1: number;
    beta2: number;
    weightDecay: number;
    eps: number;
    amsgrad: boolean;
    maximize: boolean;
    foundInf: Tensor | undefined;
  },
) => void;

/** `aten::_fused_adam_`: one Adam step over all tensors, in place. */
export const fusedAdam = counted(bind<AdamStep>('_fused_adam_'));

/** `aten::_fused_adamw_`: one AdamW step over all tensors, in place. */
export const fusedAdamW = counted(bind<AdamStep>('_fused_adamw_'));

/** `aten::_fused_adagrad_`: one Adagrad step over all tensors, in place. */
export const fusedAdagrad = counted(
  bind<
    (
      params: Tensors,
      gradients: Tensors,
      sums: Tensors,
      steps: Tensors,
      options: { lr: number; lrDecay: number; weightDecay: number; eps: number; maximize: boolean },
    ) => void
  >('_fused_adagrad_'),
);

/** `aten::_fused_sgd_`: one SGD step over all tensors, in place. */
export const fusedSgd = counted(
  bind<
    (
      params: Tensors,
      gradients: Tensors,
      momentumBuffers: Tensors,
      options: {
        weightDecay: number;
        momentum: number;
        lr: number;
        dampening: number;
        nesterov: boolean;
        maximize: boolean;
        isFirstStep: boolean;
      },
    ) => void
  >('_fused_sgd_'),
);

/** `aten::_foreach_add_`: adds a number, or a tensor of one, to each tensor, in place. */
export const foreachAdd_ = bind<(tensors: Tensors, value: number | Tensor) => void>('_foreach_add_');

/** `aten::_foreach_mul_`: multiplies each tensor by a single value, in place. */
export const foreachMul_ = bind<(tensors: Tensors, factor: Tensor) => void>('_foreach_mul_');

/** `aten::_foreach_norm`: the norm of each tensor. */
export const foreachNorm = bind<(tensors: Tensors, order: number) => Tensor[]>('_foreach_norm');

/** `aten::_amp_foreach_non_finite_check_and_unscale_`: multiplies in place, and sets foundInf to 1 where one is not finite. */
export const ampUnscale_ = bind<(tensors: Tensors, foundInf: Tensor, inverseScale: Tensor) => void>(
  '_amp_foreach_non_finite_check_and_unscale_',
);
