import { describe, TorchBindError } from '../errors';
import { dropout } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { Module } from './module';
import { pythonFloat } from './print';

/** While training, zeroes each element with probability p and scales the others by 1 / (1 - p) (PyTorch's `torch.nn.Dropout`). */
export class Dropout extends Module {
  constructor(readonly p = 0.5) {
    super();
    if (typeof p !== 'number' || !(p >= 0 && p <= 1)) {
      throw new TorchBindError(
        `Dropout: the probability must lie between 0 and 1, but is ${describe(p)}.`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
  }

  override extraRepr(): string {
    return `p=${pythonFloat(this.p)}, inplace=False`;
  }

  forward(input: Tensor): Tensor {
    return this.training && this.p > 0 ? dropout(input, this.p, true) : input;
  }
}
