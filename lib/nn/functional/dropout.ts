import * as aten from '../../tensor/generated/functions';
import { tidy } from '../../tensor/scope';
import { checkTensor } from '../../tensor/creation';
import type { Tensor } from '../../tensor/tensor';

/** Zeroes each element with probability `p` and scales the others by 1 / (1 - p), when `training`. */
export function dropout(input: Tensor, p = 0.5, training = true): Tensor {
  return aten.dropout(input, p, training);
}

/** Zeroes whole channels of (N, C, L) or (C, L). */
export function dropout1d(input: Tensor, p = 0.5, training = true): Tensor {
  return ofChannels(input, 2, [p, training], 'dropout1d');
}

/** Zeroes whole channels of (N, C, H, W); what has three dimensions counts as (N, C, L), as in PyTorch. */
export function dropout2d(input: Tensor, p = 0.5, training = true): Tensor {
  return aten.featureDropout(input, p, training);
}

/** Zeroes whole channels of (N, C, D, H, W) or (C, D, H, W). */
export function dropout3d(input: Tensor, p = 0.5, training = true): Tensor {
  return ofChannels(input, 4, [p, training], 'dropout3d');
}

/** Dropout that keeps mean and variance of what has mean 0 and variance 1, for SELU networks. */
export function alphaDropout(input: Tensor, p = 0.5, training = false): Tensor {
  return aten.alphaDropout(input, p, training);
}

/** `alphaDropout` of whole channels. */
export function featureAlphaDropout(input: Tensor, p = 0.5, training = false): Tensor {
  return aten.featureAlphaDropout(input, p, training);
}

/** Without a batch, which has `dims` dimensions, each channel counts all the same. */
function ofChannels(input: Tensor, dims: number, rest: [number, boolean], where: string): Tensor {
  checkTensor(input, where);
  if (input.ndim !== dims) return aten.featureDropout(input, ...rest);
  return tidy(() => aten.featureDropout(input.unsqueeze(0), ...rest).squeeze(0));
}
