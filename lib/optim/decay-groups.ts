import { describe, TorchBindError } from '../errors';
import type { Parameter } from '../nn/parameter';
import type { AdamWGroupOptions } from './adamw';

/**
 * Groups for `AdamW` as nanoGPT makes them: matrices and embeddings decay, biases and the weights of norms, which have
 * one dimension, do not.
 */
export function decayGroups(named: Iterable<[string, Parameter]>, weightDecay: number): AdamWGroupOptions[] {
  if (!(weightDecay >= 0)) {
    throw new TorchBindError(
      `decayGroups: weightDecay must be a number of at least 0, got ${describe(weightDecay)}`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const entries = [...named];
  const decaying = entries.filter(([, parameter]) => parameter.ndim >= 2);
  const others = entries.filter(([, parameter]) => parameter.ndim < 2);
  return [
    { params: decaying, weightDecay },
    { params: others, weightDecay: 0 },
  ].filter(({ params }) => params.length > 0);
}
