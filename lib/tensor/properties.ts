import type { Tensor } from './core';
import { itemSize } from './dtype';
import { overloadSet } from './dispatch';

/** PyTorch's properties and small methods of tensors that are not operators. */
export interface TensorProperties {
  /** All dimensions in reverse order (PyTorch's `Tensor.T`); of a matrix, its transpose. */
  readonly T: Tensor;
  /** The conjugate transpose of a matrix (PyTorch's `Tensor.H`). */
  readonly H: Tensor;
  /** Transpose of the last two dimensions (PyTorch's `Tensor.mT`). */
  readonly mT: Tensor;
  /** Conjugate transpose of the last two dimensions (PyTorch's `Tensor.mH`). */
  readonly mH: Tensor;
  /** The real parts, as a view; the tensor itself where it is real. */
  readonly real: Tensor;
  /** The imaginary parts of a complex tensor, as a view. */
  readonly imag: Tensor;
  /** The same values and memory outside the graph (PyTorch's `Tensor.data`); `detach()` is to be preferred. */
  readonly data: Tensor;
  readonly isCpu: boolean;
  readonly isCuda: boolean;
  readonly isMeta: boolean;
  readonly isSparse: boolean;
  readonly isSparseCsr: boolean;
  readonly isQuantized: boolean;
  /** Bytes of one element. */
  readonly itemsize: number;
  /** Bytes of all elements. */
  readonly nbytes: number;
  /** Bytes of one element. */
  elementSize(): number;
  /** Number of dimensions. */
  ndimension(): number;
  /** Number of elements. */
  nelement(): number;
  /** Steps in elements between neighbours along each dimension, or along one. */
  stride(): number[];
  stride(dim: number): number;
  /** The elements of the tensor where `condition` is true, elsewhere those of `other`. */
  where(condition: Tensor, other: Tensor | number): Tensor;
  /** The n-th derivative of the digamma function. */
  polygamma(n: number): Tensor;
}

export const properties: TensorProperties & ThisType<Tensor> = {
  get T(): Tensor {
    return overloadSet('aten::numpy_T').call1(this) as Tensor;
  },
  get H(): Tensor {
    return overloadSet('aten::matrix_H').call1(this) as Tensor;
  },
  get mT(): Tensor {
    return overloadSet('aten::mT').call1(this) as Tensor;
  },
  get mH(): Tensor {
    return overloadSet('aten::mH').call1(this) as Tensor;
  },
  get real(): Tensor {
    return overloadSet('aten::real').call1(this) as Tensor;
  },
  get imag(): Tensor {
    return overloadSet('aten::imag').call1(this) as Tensor;
  },
  get data(): Tensor {
    return this.detach();
  },
  get isCpu(): boolean {
    return this.device.startsWith('cpu');
  },
  get isCuda(): boolean {
    return this.device.startsWith('cuda');
  },
  get isMeta(): boolean {
    return this.device.startsWith('meta');
  },
  get isSparse(): boolean {
    return this.layout === 'sparse_coo';
  },
  get isSparseCsr(): boolean {
    return this.layout === 'sparse_csr';
  },
  get isQuantized(): boolean {
    return /^qu?int/.test(this.dtype);
  },
  get itemsize(): number {
    return itemSize(this.dtype);
  },
  get nbytes(): number {
    return this.numel() * itemSize(this.dtype);
  },
  elementSize() {
    return itemSize(this.dtype);
  },
  ndimension() {
    return this.ndim;
  },
  nelement() {
    return this.numel();
  },
  stride: function (this: Tensor, dim?: number) {
    const strides = this.strides();
    if (dim === undefined) return strides;
    this.size(dim); // refuses a dimension that is not there
    return strides.at(dim)!;
  } as TensorProperties['stride'],
  where(condition, other) {
    return overloadSet('aten::where').call([condition, this, other]) as Tensor;
  },
  polygamma(n) {
    return overloadSet('aten::polygamma').call2(n, this) as Tensor;
  },
};
