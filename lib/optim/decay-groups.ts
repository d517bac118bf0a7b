import { checkArgument, checkIterable, describe, isAtLeast, takes, TorchBindError } from '../errors';
import { Parameter } from '../nn/parameter';
import type { AdamWGroupOptions } from './adam';

/**
 * Groups for `AdamW` as nanoGPT makes them: matrices and embeddings decay, biases and the weights of norms, which have
 * one dimension, do not.
 */
export const decayGroups = takes(
  2,
  function decayGroups(named: Iterable<[string, Parameter]>, weightDecay: number): AdamWGroupOptions[] {
    if (!isAtLeast(weightDecay, 0)) {
      throw new TorchBindError(
        `decayGroups: weightDecay must be a number of at least 0, got ${describe(weightDecay)}`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    checkIterable(named, 'the namedParameters() of a model', 'decayGroups');
    const entries = Array.from(named, (entry) => {
      const isPair = Array.isArray(entry) && entry[1] instanceof Parameter;
      checkArgument(isPair, 'pairs of a name and a parameter', entry, 'decayGroups');
      return entry;
    });
    const decaying = entries.filter(([, parameter]) => parameter.ndim >= 2);
    const others = entries.filter(([, parameter]) => parameter.ndim < 2);
    return [
      { params: decaying, weightDecay },
      { params: others, weightDecay: 0 },
    ].filter(({ params }) => params.length > 0);
  },
);
