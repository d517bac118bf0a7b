import { checkOptions } from '../errors';
import { gelu } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { Module } from './module';

/** Gaussian error linear unit (PyTorch's `torch.nn.GELU`; Hendrycks and Gimpel 2016). */
export class GELU extends Module {
  readonly approximate: 'none' | 'tanh';

  /** @param options.approximate `none` (default) is the exact form with erf, `tanh` the approximation of GPT-2 */
  constructor(options: { approximate?: 'none' | 'tanh' } = {}) {
    super();
    checkOptions(options, ['approximate'], 'GELU');
    this.approximate = options.approximate ?? 'none';
  }

  override extraRepr(): string {
    return `approximate='${this.approximate}'`;
  }

  forward(input: Tensor): Tensor {
    return gelu(input, { approximate: this.approximate });
  }
}
