import { checkOptions, takes } from '../../errors';
import { byPosition } from '../positional';
import * as aten from '../../tensor/generated/functions';
import { checkTensor } from '../../tensor/creation';
import { tidy } from '../../tensor/scope';
import type { Tensor } from '../../tensor/tensor';

export {
  celu,
  celu_,
  elu,
  elu_,
  glu,
  hardshrink,
  hardsigmoid,
  hardswish,
  hardtanh,
  hardtanh_,
  leakyRelu,
  leakyRelu_,
  logSigmoid as logsigmoid,
  logSoftmax,
  mish,
  prelu,
  relu,
  relu6,
  relu_,
  rrelu,
  rrelu_,
  selu,
  selu_,
  sigmoid,
  silu,
  softmax,
  softplus,
  softshrink,
  tanh,
  threshold,
  threshold_,
} from '../../tensor/generated/functions';

/** Gaussian error linear unit; `tanh` is the approximation of GPT-2. */
export const gelu = takes(2, function gelu(input: Tensor, options: { approximate?: 'none' | 'tanh' } = {}): Tensor {
  return aten.gelu(input, options);
});

/** Softmax of the negated input: the smallest gets the most. */
export const softmin = takes(2, function softmin(input: Tensor, dim: number): Tensor {
  checkTensor(input, 'softmin');
  return tidy(() => aten.softmax(input.neg(), dim));
});

/** x / (1 + |x|). */
export const softsign = takes(1, function softsign(input: Tensor): Tensor {
  checkTensor(input, 'softsign');
  return tidy(() => input.div(input.abs().add(1)));
});

/** x - tanh(x). */
export const tanhshrink = takes(1, function tanhshrink(input: Tensor): Tensor {
  checkTensor(input, 'tanhshrink');
  return tidy(() => input.sub(input.tanh()));
});

/** Options of `gumbelSoftmax`. */
export interface GumbelSoftmaxOptions {
  /** Temperature. Default 1. */
  tau?: number;
  /** Give one-hot samples, whose gradient is that of the soft ones. Default false. */
  hard?: boolean;
  /** Default -1. */
  dim?: number;
}

/** Samples of the categorical distribution of `logits` that can be differentiated (Jang et al. 2017). */
export const gumbelSoftmax = byPosition(
  ['tau', 'hard', null, 'dim'],
  function gumbelSoftmax(logits: Tensor, options: GumbelSoftmaxOptions = {}): Tensor {
    checkOptions(options, ['tau', 'hard', 'dim'], 'gumbelSoftmax');
    checkTensor(logits, 'gumbelSoftmax');
    const { tau = 1, hard = false, dim = -1 } = options;
    return tidy(() => {
      const gumbels = aten.emptyLike(logits).exponential_().log().neg();
      const soft = logits.add(gumbels).div(tau).softmax(dim);
      if (!hard) return soft;
      const largest = soft.max(dim, { keepdim: true }).indices;
      return aten.zerosLike(logits).scatter_(dim, largest, 1).sub(soft.detach()).add(soft);
    });
  },
);
