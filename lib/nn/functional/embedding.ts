import { checkArgument, checkOptions } from '../../errors';
import { byPosition } from '../positional';
import * as aten from '../../tensor/generated/functions';
import { tidy } from '../../tensor/scope';
import { arange, isTensor } from '../../tensor/creation';
import type { Tensor } from '../../tensor/tensor';

export { oneHot } from '../../tensor/generated/functions';

/** Rows of `weight` (count, dim) for int64 indices (...): (..., dim). */
export const embedding = byPosition(
  ['paddingIdx'],
  function embedding(input: Tensor, weight: Tensor, options: { paddingIdx?: number } = {}): Tensor {
    checkOptions(options, ['paddingIdx'], 'embedding');
    return aten.embedding(weight, input, options.paddingIdx ?? -1);
  },
);

/** Options of `embeddingBag`. */
export interface EmbeddingBagOptions {
  /** Where each bag begins in a row of indices; indices (B, N) are bags of N. */
  offsets?: Tensor;
  /** Default `mean`. */
  mode?: 'sum' | 'mean' | 'max';
  /** Factor of each index, where the mode is `sum`. */
  perSampleWeights?: Tensor | null;
  /** Whether `offsets` has the end of the last bag too. Default false. */
  includeLastOffset?: boolean;
  /** Index that counts for nothing. */
  paddingIdx?: number;
  /** Divide gradients by how often an index occurs. Default false. */
  scaleGradByFreq?: boolean;
  /** Make the gradient a sparse tensor. Default false. */
  sparse?: boolean;
}

const BAG_OPTIONS = ['offsets', 'mode', 'perSampleWeights', 'includeLastOffset', 'paddingIdx', 'scaleGradByFreq'];

/** Sums, means or maxima of the rows of `weight` (count, dim) over bags of indices: (B, dim). */
export const embeddingBag = byPosition(
  ['offsets', null, null, 'scaleGradByFreq', 'mode', 'sparse', 'perSampleWeights', 'includeLastOffset', 'paddingIdx'],
  function embeddingBag(input: Tensor, weight: Tensor, options: EmbeddingBagOptions = {}): Tensor {
    checkOptions(options, [...BAG_OPTIONS, 'sparse'], 'embeddingBag');
    const { mode = 'mean', perSampleWeights = null, includeLastOffset = false, paddingIdx = null } = options;
    const { offsets, scaleGradByFreq = false, sparse = false } = options;
    const code = ['sum', 'mean', 'max'].indexOf(mode);
    checkArgument(code >= 0, "'sum', 'mean' or 'max'", mode, 'embeddingBag: mode');
    checkArgument(
      isTensor(input) && (input.ndim === 1 || input.ndim === 2),
      '1 or 2 dimensions',
      input,
      'embeddingBag',
    );
    const isBatch = input.ndim === 2;
    checkArgument(isBatch === (offsets === undefined), isBatch ? 'no offsets' : 'offsets', offsets, 'embeddingBag');
    return tidy(() => {
      const flat = isBatch ? input.reshape(-1) : input;
      const starts = offsets ?? arange(0, input.numel(), Math.max(1, input.size(1)), { device: input.device });
      const weights = isBatch && perSampleWeights !== null ? perSampleWeights.reshape(-1) : perSampleWeights;
      return aten.embeddingBag(
        weight,
        flat,
        starts,
        scaleGradByFreq,
        code,
        sparse,
        weights,
        includeLastOffset,
        paddingIdx,
      )[0];
    });
  },
);
