/** PyTorch's `torch.nn.functional`, in its argument order; arguments with defaults in trailing options. */
export * from './activations';
export * from './dropout';
export * from './embedding';
export * from './images';
export * from './losses';
export * from './margin-losses';
export * from './normalization';
export {
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveAvgPool3d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  adaptiveMaxPool3d,
  avgPool1d,
  avgPool2d,
  avgPool3d,
  conv1d,
  conv2d,
  conv3d,
  convTranspose1d,
  convTranspose2d,
  convTranspose3d,
  lpPool1d,
  lpPool2d,
  lpPool3d,
  maxPool1d,
  maxPool2d,
  maxPool3d,
  maxUnpool1d,
  maxUnpool2d,
  maxUnpool3d,
} from './pooling';
export type { LpPoolOptions, MaxPoolOptions, Sizes, UnpoolOptions } from './pooling';
export type { LossOptions, Reduction } from './reduction';
export {
  bilinear,
  cosineSimilarity,
  linear,
  pairwiseDistance,
  pdist,
  scaledDotProductAttention,
} from '../../tensor/generated/functions';
