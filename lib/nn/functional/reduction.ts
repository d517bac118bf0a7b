import { describe, TorchBindError } from '../../errors';
import type { Tensor } from '../../tensor/tensor';

const REDUCTIONS = { none: 0, mean: 1, sum: 2 } as const;

/** What becomes of the losses of the elements. */
export type Reduction = keyof typeof REDUCTIONS;

/** What every loss takes. */
export interface LossOptions {
  /** `mean` (default), `sum`, or `none`: the loss of each element. */
  reduction?: Reduction;
}

/** The number by which aten knows a reduction. */
export function reductionCode(reduction: Reduction = 'mean', where: string): number {
  if (typeof reduction === 'string' && Object.hasOwn(REDUCTIONS, reduction)) return REDUCTIONS[reduction];
  throw new TorchBindError(
    `${where}: the reduction must be 'none', 'mean' or 'sum', but is ${describe(reduction)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** The reduction of losses that are computed here. */
export function reduce(losses: Tensor, reduction: Reduction = 'mean', where: string): Tensor {
  const code = reductionCode(reduction, where);
  if (code === REDUCTIONS.none) return losses;
  return code === REDUCTIONS.mean ? losses.mean() : losses.sum();
}
