import type { Tensor } from '../tensor/tensor';
import type { Layer } from './module';
import { ModuleList } from './module-list';

/** Layers in a chain: each takes the output of the previous one (PyTorch's `torch.nn.Sequential`). */
export class Sequential extends ModuleList<Layer> {
  constructor(...layers: Layer[]) {
    super(layers);
  }

  /** PyTorch prints every layer of a Sequential, also equal neighbours. */
  override isList(): boolean {
    return false;
  }

  forward(input: Tensor): Tensor {
    let x = input;
    for (const layer of this) x = layer.forward(x);
    return x;
  }
}
