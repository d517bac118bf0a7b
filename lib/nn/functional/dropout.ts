import { checkOptions, takes } from '../../errors';
import * as aten from '../../tensor/generated/functions';
import { tidy } from '../../tensor/scope';
import { checkTensor } from '../../tensor/creation';
import type { Tensor } from '../../tensor/tensor';

/** Options of `dropout` and its variants. */
export interface DropoutOptions {
  /** Probability of a zero. Default 0.5. */
  p?: number;
  /** Without training nothing is changed. Default true, for `alphaDropout` and `featureAlphaDropout` false. */
  training?: boolean;
}

/** By position or by name: `dropout(x, 0.1, this.training)`, `dropout(x, { p: 0.1, training: this.training })`. */
type DropoutArguments =
  [p?: number, training?: boolean] | [p: number, options: DropoutOptions] | [options: DropoutOptions];

/** The probability, and whether it applies. */
function settings(rest: DropoutArguments, where: string, byDefault = true): [p: number, training: boolean] {
  const options = rest.find((value) => typeof value === 'object');
  checkOptions(options, ['p', 'training'], where);
  const [p, training] = rest.filter((value) => value !== options) as [number?, boolean?];
  return [options?.p ?? p ?? 0.5, options?.training ?? training ?? byDefault];
}

/** Zeroes each element with probability `p` and scales the others by 1 / (1 - p), when `training`. */
export const dropout = takes(3, function dropout(input: Tensor, ...rest: DropoutArguments): Tensor {
  return aten.dropout(input, ...settings(rest, 'dropout'));
});

/** Zeroes whole channels of (N, C, L) or (C, L). */
export const dropout1d = takes(3, function dropout1d(input: Tensor, ...rest: DropoutArguments): Tensor {
  return ofChannels(input, 2, settings(rest, 'dropout1d'), 'dropout1d');
});

/** Zeroes whole channels of (N, C, H, W); what has three dimensions counts as (N, C, L), as in PyTorch. */
export const dropout2d = takes(3, function dropout2d(input: Tensor, ...rest: DropoutArguments): Tensor {
  return aten.featureDropout(input, ...settings(rest, 'dropout2d'));
});

/** Zeroes whole channels of (N, C, D, H, W) or (C, D, H, W). */
export const dropout3d = takes(3, function dropout3d(input: Tensor, ...rest: DropoutArguments): Tensor {
  return ofChannels(input, 4, settings(rest, 'dropout3d'), 'dropout3d');
});

/** Dropout that keeps mean and variance of what has mean 0 and variance 1, for SELU networks. */
export const alphaDropout = takes(3, function alphaDropout(input: Tensor, ...rest: DropoutArguments): Tensor {
  return aten.alphaDropout(input, ...settings(rest, 'alphaDropout', false));
});

/** `alphaDropout` of whole channels. */
export const featureAlphaDropout = takes(
  3,
  function featureAlphaDropout(input: Tensor, ...rest: DropoutArguments): Tensor {
    return aten.featureAlphaDropout(input, ...settings(rest, 'featureAlphaDropout', false));
  },
);

/** Without a batch, which has `dims` dimensions, each channel counts all the same. */
function ofChannels(input: Tensor, dims: number, rest: [number, boolean], where: string): Tensor {
  checkTensor(input, where);
  if (input.ndim !== dims) return aten.featureDropout(input, ...rest);
  return tidy(() => aten.featureDropout(input.unsqueeze(0), ...rest).squeeze(0));
}
