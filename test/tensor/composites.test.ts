import { expect, test } from 'vitest';
import * as torch from '../../lib/index';
import { arange, tensor, tidy, type Tensor } from '../../lib/index';
import { expectSameAsPython } from '../helpers/expressions';
import { pythonTimeout } from '../helpers/python';

const setup = `
x = torch.arange(12.).view(3, 4).sin()
y = torch.arange(4.).cos()
b = torch.arange(48.).view(2, 6, 4).sin()
i = torch.tensor([3, 3, 1, 1, 1, 3])
s = torch.arange(64.).sin()
w = torch.hann_window(16)
`;

function values(): Record<'x' | 'y' | 'b' | 'i' | 's' | 'w', Tensor> {
  return {
    x: arange(12, { dtype: 'float32' }).view(3, 4).sin(),
    y: arange(4, { dtype: 'float32' }).cos(),
    b: arange(48, { dtype: 'float32' }).view(2, 6, 4).sin(),
    i: tensor([3, 3, 1, 1, 1, 3]),
    s: arange(64, { dtype: 'float32' }).sin(),
    w: torch.hannWindow(16),
  };
}

test(
  'what Python defines above the operators gives what it gives there',
  () => {
    const { x, y, b, i, s, w } = values();
    return expectSameAsPython(setup, [
      ["torch.einsum('ij,kj->ik', x, x)", () => torch.einsum('ij,kj->ik', x, x)],
      ["torch.einsum('ij,j->i', [x, y])", () => torch.einsum('ij,j->i', [x, y])],
      ["torch.einsum('bij,kj->bik', b, x)", () => torch.einsum('bij,kj->bik', b, x)],
      ['torch.tensordot(b, x.T, 1)', () => torch.tensordot(b, x.T, 1)],
      ['torch.tensordot(x, x)', () => torch.tensordot(x, x)],
      ['torch.tensordot(x, y, dims=0)', () => torch.tensordot(x, y, { dims: 0 })],
      ['torch.tensordot(b, x, ([2], [1]))', () => torch.tensordot(b, x, [[2], [1]])],
      ["torch.meshgrid(y, s, indexing='ij')", () => torch.meshgrid(y, s)],
      ["torch.meshgrid([y, y[:2]], indexing='xy')", () => torch.meshgrid([y, y.at(':2')], { indexing: 'xy' })],
      ["torch.meshgrid(y, y[:2], indexing='xy')", () => torch.meshgrid(y, y.at(':2'), { indexing: 'xy' })],
      ['torch.broadcast_tensors(x, y)', () => torch.broadcastTensors(x, y)],
      ['torch.cartesian_prod(y, y[:2])', () => torch.cartesianProd(y, y.at(':2'))],
      ['torch.block_diag(x, y, torch.tensor(3.))', () => torch.blockDiag(x, y, tensor(3, { dtype: 'float32' }))],
      ['torch.chain_matmul(x, x.T, x)', () => torch.chainMatmul(x, x.T, x)],
      ['torch.atleast_2d(y)', () => torch.atleast2d(y)],
      ['torch.atleast_2d(y, x)', () => torch.atleast2d(y, x)],
      ['torch.atleast_3d([y, x])', () => torch.atleast3d([y, x])],
      ['torch.atleast_1d(torch.tensor(2))', () => torch.atleast1d(tensor(2))],
      ['list(torch.broadcast_shapes((2, 1), (3,), 1))', () => torch.broadcastShapes([2, 1], [3], 1)],
      ['torch.unravel_index(i, (2, 3))', () => torch.unravelIndex(i, [2, 3])],
      ['torch.unravel_index(i.int(), 9)', () => torch.unravelIndex(i.int(), 9)],
      ['torch.norm(x)', () => torch.norm(x)],
      ['torch.norm(x, 1)', () => torch.norm(x, 1)],
      ["torch.norm(x, 'nuc')", () => torch.norm(x, 'nuc')],
      ["torch.norm(x, p='fro', dim=(0, 1))", () => torch.norm(x, { p: 'fro', dim: [0, 1] })],
      ["torch.norm(x, float('inf'), 1, keepdim=True)", () => torch.norm(x, Infinity, 1, { keepdim: true })],
      ['x.norm(dim=-1)', () => x.norm({ dim: -1 })],
      ['x.norm(2, 0, True)', () => x.norm(2, 0, true)],
      ['x.norm(dtype=torch.float64)', () => x.norm({ dtype: 'float64' })],
      ['x.to_sparse().norm()', () => x.toSparse().norm()],
      ['torch.cdist(b, b[:, :3])', () => torch.cdist(b, b.at(':', ':3'))],
      ['torch.cdist(b, b[:, :3], p=1)', () => torch.cdist(b, b.at(':', ':3'), { p: 1 })],
      [
        "torch.cdist(x, x + 1, compute_mode='donot_use_mm_for_euclid_dist')",
        () => torch.cdist(x, x.add(1), { computeMode: 'donot_use_mm_for_euclid_dist' }),
      ],
      ['torch.stft(s, 16, window=w, return_complex=True)', () => torch.stft(s, 16, { window: w, returnComplex: true })],
      [
        's.stft(16, 4, 16, w, center=False, return_complex=True)',
        () => torch.stft(s, 16, 4, 16, w, { center: false, returnComplex: true }),
      ],
      [
        "torch.stft(s.view(2, 32), 16, pad_mode='constant', onesided=False, return_complex=True)",
        () => s.view(2, 32).stft(16, { padMode: 'constant', onesided: false, returnComplex: true }),
      ],
      ['torch.unique_consecutive(i)', () => torch.uniqueConsecutive(i)],
      ['i.unique_consecutive(return_counts=True)', () => i.uniqueConsecutive({ returnCounts: true })],
      [
        'torch.unique_consecutive(i, return_inverse=True, return_counts=True)',
        () => torch.uniqueConsecutive(i, { returnInverse: true, returnCounts: true }),
      ],
      ['i.unique()', () => i.unique()],
      ['i.unique(return_inverse=True)', () => i.unique({ returnInverse: true })],
      ['i.new_tensor([1, 2])', () => i.newTensor([1, 2])],
      ['x.new_tensor([1, 2])', () => x.newTensor([1, 2])],
    ]);
  },
  pythonTimeout,
);

test('shapes that do not broadcast, and other wrong arguments, are named', () => {
  expect(() => torch.broadcastShapes([2, 3], [4])).toThrow(
    'shapes [2,3] and [4] do not broadcast: 3 and 4 in dimension 1',
  );
  expect(() => torch.broadcastShapes([-1])).toThrow('expected shapes');
  expect(() => torch.unravelIndex(tensor([0.5]), [2])).toThrow('a tensor of integers, got string "float32"');
  expect(() => torch.norm(tensor([1.5]), { dimension: 0 } as never)).toThrow("unknown option 'dimension'");
  expect(() => torch.tensordot(tensor([1.5]), tensor([1.5]), -1)).toThrow('how many dimensions');
  expect(() => torch.cdist(tensor([[1.5]]), tensor([[1.5]]), { computeMode: 'fast' })).toThrow('computeMode');
});

test('gradients go through', () => {
  tidy(() => {
    const x = arange(12, { dtype: 'float64' }).view(3, 4).sin().requiresGrad_();
    const check = torch.autograd.gradcheck;
    expect(check((a) => torch.norm(a, { dim: 1 }), [x])).toBe(true);
    expect(check((a) => torch.einsum('ij,kj->ik', a, a), [x])).toBe(true);
    expect(check((a) => torch.cdist(a, a.add(1)), [x])).toBe(true);
  });
});
