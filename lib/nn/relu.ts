import { relu } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { Module } from './module';

/** max(0, x) (PyTorch's `torch.nn.ReLU`). */
export class ReLU extends Module {
  forward(input: Tensor): Tensor {
    return relu(input);
  }
}
