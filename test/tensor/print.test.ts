/** What is not dense prints as in PyTorch, in the names used here; nothing that is a tensor fails to print. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { arange, eye, memory, ones, ops, setDefaultDtype, tensor, tidy, viewAsComplex, zeros } from '../../lib/index';
import type { Tensor } from '../../lib/index';
import { pythonJson, pythonTimeout } from '../helpers/python';

const aten = ops.aten;
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
    () => aten.sparse_coo_tensor(tensor([[1, 1]]), ones(2), [3]) as Tensor,
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
    () => aten.quantize_per_tensor(tensor([1, 2.5, -3]), 0.1, 3, 'quint8') as Tensor,
    'tensor([ 1.0000,  2.5000, -0.3000], size=[3], scale=0.1, zeroPoint=3, dtype=quint8)',
  ],
  [
    'quantized by channels',
    () => aten.quantize_per_channel(eye(2), tensor([0.5, 1]), zeros(2, { dtype: 'int64' }), 0, 'qint8') as Tensor,
    `tensor([[1., 0.],
        [0., 1.]], size=[2, 2], scale=tensor([0.5000, 1.0000], dtype=float64), zeroPoint=tensor([0, 0]), axis=0, dtype=qint8)`,
  ],
  [
    'quantized, two elements to a byte',
    () => aten.quantize_per_channel(eye(2), tensor([0.5, 1]), zeros(2), 0, 'quint4x2') as Tensor,
    `tensor([[1., 0.],
        [0., 1.]], size=[2, 2], scale=tensor([0.5000, 1.0000]), zeroPoint=tensor([0., 0.]), axis=0, dtype=quint4x2)`,
  ],
  [
    'nested',
    () => aten._nested_tensor_from_tensor_list([ones(1, 2), eye(2)]) as Tensor,
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

const floats = (end: number): Tensor => arange(end, { dtype: 'float32' });

/** What print.py makes. */
const CASES: Readonly<Record<string, () => Tensor>> = {
  'lines of floats': () => floats(30).div(7),
  'a line that is just full': () => zeros(18),
  'a line that is one too long': () => zeros(19),
  'wide rows': () => floats(50).view(2, 25).mul(1000),
  'a long row, shortened': () => floats(2000).div(3),
  'a large matrix, shortened': () => floats(10000).view(100, 100),
  'shortened in three dimensions': () => arange(8000).view(20, 20, 20),
  integers: () => arange(25).mul(1000003),
  booleans: () => arange(20).remainder(3).eq(0),
  complex: () => viewAsComplex(floats(24).view(12, 2).div(8)),
  'complex in double precision': () => ones(2, { dtype: 'complex128' }),
  'no elements': () => zeros(0),
  'no integers': () => zeros(0, { dtype: 'int64' }),
  'no booleans in two dimensions': () => zeros(2, 0, { dtype: 'bool' }),
  'half precision': () => zeros(3, { dtype: 'float16' }),
  'not finite': () => tensor([NaN, Infinity, -2.5]),
};

test(
  'lines break where those of Python do, and the dtype is said where Python says it',
  async () => {
    const printed = await pythonJson<Record<string, string>>(path.join(__dirname, 'print.py'), []);
    const inJs = (text: string): string =>
      text
        .replaceAll('torch.', '')
        .replace(/True|False/g, (word) => word.toLowerCase())
        .replace(/size=\((.*?)\)/, 'size=[$1]');
    expect(Object.keys(printed)).toEqual(Object.keys(CASES));
    for (const [name, make] of Object.entries(CASES)) expect(String(make()), name).toBe(inJs(printed[name]!));
  },
  pythonTimeout,
);

test('the dtype is said of what is not of the default dtype', () => {
  try {
    setDefaultDtype('float64');
    expect(String(tensor([0.5]))).toBe('tensor([0.5000])');
    expect(String(tensor([0.5], { dtype: 'float32' }))).toBe('tensor([0.5000], dtype=float32)');
    expect(String(ones(1, { dtype: 'complex64' }))).toBe('tensor([1.+0.j], dtype=complex64)');
  } finally {
    setDefaultDtype('float32');
  }
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
