import type { Tensor } from './core';
import { type NormOptions, norm, stft, type StftOptions } from './composites';
import { tensor } from './from-data';
import type { TensorData } from './values';
import { unique, uniqueConsecutive, type UniqueConsecutiveOptions, type UniqueOptions } from './unique';

/** Methods that Python defines above the operators. */
export interface TensorComposites {
  /** As `norm(x, ...)` (PyTorch's `Tensor.norm`). */
  norm(options?: NormOptions): Tensor;
  norm(p?: NormOptions['p'], options?: Omit<NormOptions, 'p'>): Tensor;
  norm(p: NormOptions['p'], dim: NormOptions['dim'], options?: Pick<NormOptions, 'keepdim' | 'dtype'>): Tensor;
  norm(p: NormOptions['p'], dim: NormOptions['dim'], keepdim: boolean, options?: Pick<NormOptions, 'dtype'>): Tensor;
  /** As `stft(x, ...)` (PyTorch's `Tensor.stft`). */
  stft(nFft: number, options?: StftOptions): Tensor;
  /** As `unique(x, ...)` (PyTorch's `Tensor.unique`). */
  unique(options: UniqueOptions & { returnInverse: true; returnCounts: true }): [Tensor, Tensor, Tensor];
  unique(options: UniqueOptions & ({ returnInverse: true } | { returnCounts: true })): [Tensor, Tensor];
  unique(options?: UniqueOptions): Tensor;
  /** As `uniqueConsecutive(x, ...)` (PyTorch's `Tensor.unique_consecutive`). */
  uniqueConsecutive(
    options: UniqueConsecutiveOptions & { returnInverse: true; returnCounts: true },
  ): [Tensor, Tensor, Tensor];
  uniqueConsecutive(
    options: UniqueConsecutiveOptions & ({ returnInverse: true } | { returnCounts: true }),
  ): [Tensor, Tensor];
  uniqueConsecutive(options?: UniqueConsecutiveOptions): Tensor;
  /** New values with this tensor's dtype, on its device (PyTorch's `Tensor.new_tensor`). */
  newTensor(data: TensorData): Tensor;
}

type Rest<F> = F extends (input: Tensor, ...rest: infer R) => unknown ? R : never;

export const composites = {
  norm(this: Tensor, ...rest: unknown[]): Tensor {
    return norm(this, ...(rest as Rest<typeof norm>));
  },
  stft(this: Tensor, nFft: number, ...rest: unknown[]): Tensor {
    return stft(this, nFft, ...(rest as []));
  },
  unique(this: Tensor, options?: UniqueOptions): Tensor {
    return unique(this, options);
  },
  uniqueConsecutive(this: Tensor, options?: UniqueConsecutiveOptions): Tensor {
    return uniqueConsecutive(this, options);
  },
  newTensor(this: Tensor, data: TensorData): Tensor {
    return tensor(data, { dtype: this.dtype, device: this.device });
  },
};
