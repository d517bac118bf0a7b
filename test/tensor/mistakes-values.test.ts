/** Mistakes with shapes, values, dtypes, devices and sizes. */
import { arange, cat, cuda, Generator, ones, ops, randint, randn, stack, tensor, zeros } from '../../lib/index';
import { describeMistakes, wrong } from '../helpers/mistakes';
import type { Mistake } from '../helpers/mistakes';

const mistakes: Mistake[] = [
  [
    'matrices whose shapes do not fit',
    () => randn(2, 3).matmul(randn(4, 5)),
    'TORCH',
    'mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5). The first must have as many columns as the second has rows: see both shapes, and transpose(-2, -1) where one is the other way round.',
  ],
  [
    'shapes that do not broadcast',
    () => ones(3).add(ones(4)),
    'TORCH',
    'The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0. Sizes are compared from the last dimension and must be equal or 1; unsqueeze(dim) adds a dimension of size 1.',
  ],
  [
    'a view of the wrong number of elements',
    () => arange(6).view(4, 2),
    'TORCH',
    "shape '[4, 2]' is invalid for input of size 6. The sizes must multiply to the number of elements; one of them may be -1.",
  ],
  [
    'a view of what is not contiguous',
    () => ones(2, 3).transpose(0, 1).view(6),
    'TORCH',
    "view size is not compatible with input tensor's size and stride (at least one dimension spans across two contiguous subspaces). Use .reshape(...) instead.",
  ],
  [
    'two sizes to infer',
    () => ones(4).reshape(-1, -1),
    'TORCH',
    'only one dimension can be inferred. Give all sizes but one.',
  ],
  [
    'cat of shapes that differ',
    () => cat([ones(2, 3), ones(2, 4)]),
    'TORCH',
    'Sizes of tensors must match except in dimension 0. Expected size 3 but got size 4 for tensor number 1 in the list. Name the dimension to join along: cat(tensors, dim).',
  ],
  [
    'cat of nothing',
    () => cat([]),
    'VALUE',
    'torch.cat(): expected a non-empty list of Tensors. Give it at least one tensor.',
  ],
  [
    'stack of shapes that differ',
    () => stack([ones(2), ones(3)]),
    'TORCH',
    'stack expects each tensor to be equal size, but got [2] at entry 0 and [3] at entry 1. Tensors that differ in one size are joined along it with cat(tensors, dim).',
  ],
  [
    'an index out of range',
    () => ones(3).select(0, 5),
    'INDEX',
    'select(): index 5 out of range for tensor of size [3] at dimension 0',
  ],
  [
    'a dimension out of range',
    () => ones(3).sum(2),
    'INDEX',
    'Dimension out of range (expected to be in range of [-1, 0], but got 2)',
  ],
  [
    'NaN as an index',
    () => ones(3).select(0, NaN),
    'INVALID_ARGUMENT',
    [
      'select() received an invalid combination of arguments: got (Tensor, number 0, number NaN), but expected one of:',
      ' * aten::select.int(Tensor(a) self, int dim, SymInt index) -> Tensor(a)',
      'An index, a dimension or a size is a whole number, not NaN.',
    ].join('\n'),
  ],
  [
    'a fraction as an index',
    () => ones(3).select(0, 1.5),
    'INVALID_ARGUMENT',
    [
      'select() received an invalid combination of arguments: got (Tensor, number 0, number 1.5), but expected one of:',
      ' * aten::select.int(Tensor(a) self, int dim, SymInt index) -> Tensor(a)',
      'An index, a dimension or a size is a whole number, not 1.5.',
    ].join('\n'),
  ],
  [
    'an item of many',
    () => ones(3).item(),
    'TORCH',
    'a Tensor with 3 elements cannot be converted to Scalar. item() reads one element; tolist() and toTypedArray() read all.',
  ],
  [
    'ragged rows',
    () => tensor([[1], [2, 3]]),
    'INVALID_ARGUMENT',
    'tensor(): rows at depth 1 differ in length: row 0 has 1 elements, row 1 has 2. Pad them, or make one tensor each.',
  ],
  ['strings as values', () => tensor(wrong(['a'])), 'INVALID_ARGUMENT', 'tensor(): expected numbers, got string "a".'],
  ['no values', () => tensor(wrong(undefined)), 'INVALID_ARGUMENT', 'tensor(): expected numbers, got undefined.'],
  [
    'a bigint beyond int64',
    () => tensor(2n ** 70n),
    'INVALID_ARGUMENT',
    'tensor(): 1180591620717411303424 does not fit int64, which holds -9223372036854775808 to 9223372036854775807.',
  ],
  [
    'a misspelled dtype',
    () => zeros([2], wrong({ dtype: 'flaot32' })),
    'INVALID_ARGUMENT',
    "zeros(): expected a dtype such as 'float32', got string \"flaot32\". Did you mean 'float32'?",
  ],
  [
    'a second name of Python for a dtype',
    () => ones(2).to(wrong({ dtype: 'double' })),
    'INVALID_ARGUMENT',
    "to(): expected a dtype such as 'float32', got string \"double\". Did you mean 'float64'?",
  ],
  [
    'a word that is neither dtype nor device',
    () => ones(2).to('flaot64' as 'float64'),
    'TORCH',
    "Invalid device string: 'flaot64'. Devices are named 'cpu', 'cuda', 'cuda:1', 'meta'; dtypes 'float32', 'int64', ...",
  ],
  [
    'a device that libtorch does not know',
    () => zeros([2], { device: 'gpu' as 'cpu' }),
    'TORCH',
    "Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, vulkan, mps, meta, hpu, mtia, privateuseone device type at start of device string: gpu. Devices are named 'cpu', 'cuda', 'cuda:1', 'meta'; dtypes 'float32', 'int64', ...",
  ],
  [
    'memory that nobody has',
    () => zeros([2 ** 40, 2 ** 10]),
    'OUT_OF_MEMORY',
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory). Free tensors that are no longer needed with tidy() or dispose(), or compute on less at a time.",
  ],
  [
    'sizes beyond counting',
    () => zeros([2 ** 40, 2 ** 40]),
    'TORCH',
    'Storage size calculation overflowed with sizes=[1099511627776, 1099511627776]. No machine has so much memory: look at the sizes.',
  ],
  [
    'a negative size',
    () => zeros(-1),
    'TORCH',
    'zeros: Dimension size must be non-negative. Sizes are numbers of elements, 0 or more.',
  ],
  ['a fraction as a size', () => zeros(1.5), 'INVALID_ARGUMENT', "Expected an integer for 'size', got number 1.5."],
  [
    'an in-place result of another dtype',
    () => tensor([1, 2]).add_(1.5),
    'TORCH',
    "result type Float can't be cast to the desired output type Long. Use the operator without the trailing underscore, or convert first.",
  ],
  [
    'matrices of different dtypes',
    () => ones(2, 2).matmul(ones([2, 2], { dtype: 'float64' })),
    'TORCH',
    'expected m1 and m2 to have the same dtype, but got: float != double. Convert one with .to(dtype).',
  ],
  [
    'a difference of booleans',
    () => tensor([true]).sub(tensor([false])),
    'TORCH',
    'Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` operator instead.',
  ],
  [
    'a mean of integers',
    () => arange(3).mean(),
    'TORCH',
    "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. Got: Long. Convert first: .to('float32').",
  ],
  [
    'an empty range of random integers',
    () => randint(5, 5, [1]),
    'TORCH',
    "random_ expects 'from' to be less than 'to', but got from=5 >= to=5. The lower bound comes first and is drawn, the upper one is not.",
  ],
  [
    'weights that are no floats',
    () => tensor([-1, 2]).multinomial(1),
    'TORCH',
    "multinomial only supports floating-point dtypes for input, got: Long. Convert first: .to('float32').",
  ],
  [
    'a matrix that is not positive-definite',
    () =>
      ops.aten.linalg_cholesky(
        tensor([
          [1.5, 2],
          [2, 1],
        ]),
      ),
    'LINALG',
    'linalg.cholesky: The factorization could not be completed because the input is not positive-definite (the leading minor of order 2 is not positive-definite). Add a small multiple of the identity where rounding is the cause.',
  ],
];

/** On a machine with a GPU these are no mistakes. */
const withoutCuda: Mistake[] = [
  [
    'CUDA if there is none',
    () => ones(2).cuda(),
    'DEVICE',
    "Device 'cuda' is not available: libtorch sees 0 devices of this type. Use 'cpu', or see what `torchbind doctor` says.",
  ],
  [
    'a device index that does not exist',
    () => ones(1).to('cuda:99'),
    'DEVICE',
    "Device 'cuda:99' is not available: libtorch sees 0 devices of this type. Use 'cpu', or see what `torchbind doctor` says.",
  ],
  [
    'a generator on a device that is not there',
    () => new Generator('cuda'),
    'DEVICE',
    "Device 'cuda' is not available: libtorch sees 0 devices of this type. Use 'cpu', or see what `torchbind doctor` says.",
  ],
];

describeMistakes([...mistakes, ...(cuda.isAvailable() ? [] : withoutCuda)]);
