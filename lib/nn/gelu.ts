import { checkOptions } from '../errors';
import { gelu } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { Module } from './module';
import { optionsFrom, type Positional } from './positional';

/** The optional arguments in Python's order. */
const PLACES = ['approximate'] as const;

/** Gaussian error linear unit (PyTorch's `torch.nn.GELU`; Hendrycks and Gimpel 2016). */
export class GELU extends Module {
  readonly approximate: 'none' | 'tanh';

  /** @param rest `approximate`: `none` (default) is the exact form with erf, `tanh` the approximation of GPT-2 */
  constructor(...rest: Positional<{ approximate?: 'none' | 'tanh' }, typeof PLACES>) {
    super();
    const options = optionsFrom<{ approximate?: 'none' | 'tanh' }>(rest, PLACES, 'GELU', 0);
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
