/** What is not dense prints as in PyTorch, in the names used here; nothing that is a tensor fails to print. */
import { expect, test } from 'vitest';
import { eye, memory, ones, ops, tensor, tidy, zeros } from '../../lib/index';
import type { Tensor } from '../../lib/index';

const aten = ops.aten!;
const matrix = (): Tensor =>
  tensor([
    [0, 1.5],
    [2, 0],
  ]);

test.each<[string, () => Tensor, string]>([
  [
    'sparse coordinates',
    () => matrix().toSparse(),
    `tensor(indices=tensor([[0, 1],
                       [1, 0]]),
       values=tensor([1.5000, 2.0000]),
       size=[2, 2], nnz=2, layout=sparse_coo)`,
  ],
  [
    'sparse coordinates that come twice',
    () => aten.sparse_coo_tensor!(tensor([[1, 1]]), ones(2), [3]) as Tensor,
    `tensor(indices=tensor([[1, 1]]),
       values=tensor([1., 1.]),
       size=[3], nnz=2, layout=sparse_coo)`,
  ],
  [
    'compressed rows, none of them filled',
    () => zeros(1, 3, { dtype: 'float64' }).toSparseCsr(),
    `tensor(crowIndices=tensor([0, 0]),
       colIndices=tensor([], size=[0]),
       values=tensor([], size=[0]),
       size=[1, 3], nnz=0, dtype=float64, layout=sparse_csr)`,
  ],
  [
    'compressed columns',
    () => matrix().toSparseCsc(),
    `tensor(ccolIndices=tensor([0, 1, 2]),
       rowIndices=tensor([1, 0]),
       values=tensor([2.0000, 1.5000]),
       size=[2, 2], nnz=2, layout=sparse_csc)`,
  ],
  ['no values', () => zeros(2, 2, { device: 'meta' }), "tensor(..., size=[2, 2], device='meta')"],
  [
    'quantized',
    () => aten.quantize_per_tensor!(tensor([1, 2.5, -3]), 0.1, 3, 'quint8') as Tensor,
    'tensor([ 1.0000,  2.5000, -0.3000], size=[3], scale=0.1, zeroPoint=3, dtype=quint8)',
  ],
  [
    'quantized by channels',
    () => aten.quantize_per_channel!(eye(2), tensor([0.5, 1]), zeros(2, { dtype: 'int64' }), 0, 'qint8') as Tensor,
    `tensor([[1., 0.],
        [0., 1.]], size=[2, 2], scale=tensor([0.5000, 1.0000], dtype=float64), zeroPoint=tensor([0, 0]), axis=0, dtype=qint8)`,
  ],
  [
    'quantized, two elements to a byte',
    () => aten.quantize_per_channel!(eye(2), tensor([0.5, 1]), zeros(2), 0, 'quint4x2') as Tensor,
    `tensor([[1., 0.],
        [0., 1.]], size=[2, 2], scale=tensor([0.5000, 1.0000]), zeroPoint=tensor([0., 0.]), axis=0, dtype=quint4x2)`,
  ],
  [
    'nested',
    () => aten._nested_tensor_from_tensor_list!([ones(1, 2), eye(2)]) as Tensor,
    `nested_tensor([
  tensor([[1., 1.]]),
  tensor([[1., 0.],
          [0., 1.]])
])`,
  ],
  [
    'of MKL-DNN',
    () => matrix().toMkldnn(),
    `tensor([[0.0000, 1.5000],
        [2.0000, 0.0000]], layout=mkldnn)`,
  ],
  [
    'that requires a gradient',
    () => ones(1).toSparse().requiresGrad_(),
    `tensor(indices=tensor([[0]]),
       values=tensor([1.]),
       size=[1], nnz=1, layout=sparse_coo, requiresGrad=true)`,
  ],
])('%s', (_name, make, expected) => {
  tidy(() => {
    expect(String(make())).toBe(expected);
  });
});

test('printing leaves no tensor behind', () => {
  tidy(() => {
    const large = zeros(40, 40);
    const sparse = matrix().toSparse();
    const before = memory().numTensors;
    String(large);
    String(sparse);
    expect(memory().numTensors).toBe(before);
  });
});
