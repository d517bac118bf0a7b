/**
 * PyTorch's `torch.nn.functional`, in its argument order. Optional arguments come by position or in trailing options.
 *
 * @module
 */

export * from './activations';
export * from './dropout';
export * from './embedding';
export * from './images';
export * from './linear-cross-entropy';
export * from './losses';
export * from './margin-losses';
export * from './normalization';
export * from './pooling';
export type { LossOptions, Reduction } from './reduction';
export type { Sizes } from './sizes';
export {
  bilinear,
  cosineSimilarity,
  linear,
  pairwiseDistance,
  pdist,
  scaledDotProductAttention,
} from '../../tensor/generated/functions';
