/** Mistakes in calls: names, options, arguments, tensors that are gone. */
import {
  full,
  manualSeed,
  ones,
  type OperatorNamespace,
  ops,
  receive,
  setRngState,
  stack,
  tensor,
  Tensor,
  tidy,
  zeros,
} from '../../lib/index';
import { describeMistakes, wrong } from '../helpers/mistakes';
import type { Mistake } from '../helpers/mistakes';

/** The operators as JavaScript sees them, without the list of names. */
const untyped: Readonly<Record<string, OperatorNamespace>> = ops;

const mistakes: Mistake[] = [
  [
    'a bigint beyond int64 as an argument',
    () => ones(1).add(wrong(2n ** 70n)),
    'INVALID_ARGUMENT',
    "Expected an integer of 64 bits for 'other', got a bigint.",
  ],
  [
    'a misspelled option of a creation function',
    () => zeros([2], wrong({ dtpe: 'float32' })),
    'UNKNOWN_OPTION',
    "zeros(): unknown option 'dtpe'. Did you mean 'dtype'?",
  ],
  [
    'a misspelled option of an operator',
    () => ones(2).add(ones(2), wrong({ alhpa: 2 })),
    'INVALID_ARGUMENT',
    [
      'add() received an invalid combination of arguments: got (Tensor, Tensor, { alhpa }), but expected one of:',
      ' * aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor',
      ' * aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor',
      "Unknown option 'alhpa'. Did you mean 'alpha'?",
    ].join('\n'),
  ],
  [
    "NumPy's name of an argument",
    () => ones(2).sum(wrong({ axis: 0, keepdims: true })),
    'INVALID_ARGUMENT',
    [
      'sum() received an invalid combination of arguments: got (Tensor, { axis, keepdims }), but expected one of:',
      ' * aten::sum(Tensor self, *, ScalarType? dtype=None) -> Tensor',
      ' * aten::sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor',
      "Unknown option 'axis'. Did you mean 'dim'?",
    ].join('\n'),
  ],
  [
    'tensors one by one where an array of them is wanted',
    () => stack(wrong(ones(2)), wrong(ones(2))),
    'INVALID_ARGUMENT',
    [
      'stack() received an invalid combination of arguments: got (Tensor, Tensor), but expected one of:',
      ' * aten::stack(Tensor[] tensors, int dim=0) -> Tensor',
      'The tensors come in one array: [a, b].',
    ].join('\n'),
  ],
  [
    'tensors as the values of a tensor',
    () => tensor(wrong([ones(2), ones(2)])),
    'INVALID_ARGUMENT',
    'tensor(): expected numbers, got Tensor object. stack([a, b]) makes one of several tensors.',
  ],
  [
    'a dtype as Python writes it',
    () => zeros(2, { dtype: wrong('torch.float32') }),
    'INVALID_ARGUMENT',
    "zeros(): expected a dtype such as 'float32', got string \"torch.float32\". Did you mean 'float32'?",
  ],
  [
    'one size where an array of them is wanted',
    () => full(wrong(2), 3),
    'INVALID_ARGUMENT',
    'full(): expected an array of sizes, got number 2.',
  ],
  [
    'a misspelled operator',
    () => untyped.aten!.sofmax,
    'UNKNOWN_OPERATOR',
    'libtorch has no operator aten::sofmax. Did you mean aten::softmax?',
  ],
  [
    'a misspelled overload',
    () => untyped.aten!.add!.Tensr,
    'UNKNOWN_OPERATOR',
    "aten::add has no overload 'Tensr'. It has: Scalar, Scalar_out, Tensor, out.",
  ],
  [
    'a misspelled namespace',
    () => ops.atn!.add,
    'UNKNOWN_OPERATOR',
    'libtorch has no operator atn::add. Did you mean aten::add?',
  ],
  [
    'a missing argument',
    () => (ones(2).matmul as () => unknown)(),
    'INVALID_ARGUMENT',
    [
      'matmul() received an invalid combination of arguments: got (Tensor), but expected one of:',
      ' * aten::matmul(Tensor self, Tensor other) -> Tensor',
    ].join('\n'),
  ],
  [
    'too many arguments',
    () => (ones(2).relu as (...a: number[]) => unknown)(1, 2, 3),
    'INVALID_ARGUMENT',
    [
      'relu() received an invalid combination of arguments: got (Tensor, number 1, number 2, number 3), but expected one of:',
      ' * aten::relu(Tensor self) -> Tensor',
    ].join('\n'),
  ],
  [
    'a string for a tensor or number',
    () => ones(2).add(wrong('a')),
    'INVALID_ARGUMENT',
    [
      'add() received an invalid combination of arguments: got (Tensor, string "a"), but expected one of:',
      ' * aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor',
      ' * aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor',
    ].join('\n'),
  ],
  [
    'a number for a tensor',
    () => ones(2).matmul(wrong(3)),
    'INVALID_ARGUMENT',
    [
      'matmul() received an invalid combination of arguments: got (Tensor, number 3), but expected one of:',
      ' * aten::matmul(Tensor self, Tensor other) -> Tensor',
      'Numbers become a tensor with tensor(...).',
    ].join('\n'),
  ],
  [
    'an array for a tensor',
    () => ones(2).matmul(wrong([1, 2])),
    'INVALID_ARGUMENT',
    [
      'matmul() received an invalid combination of arguments: got (Tensor, [number 1, number 2]), but expected one of:',
      ' * aten::matmul(Tensor self, Tensor other) -> Tensor',
      'Numbers become a tensor with tensor(...).',
    ].join('\n'),
  ],
  [
    'a foreign object for a tensor',
    () => ones(2).matmul(wrong({ handle: 1 })),
    'INVALID_ARGUMENT',
    [
      'matmul() received an invalid combination of arguments: got (Tensor, { handle }), but expected one of:',
      ' * aten::matmul(Tensor self, Tensor other) -> Tensor',
      "Unknown option 'handle'.",
    ].join('\n'),
  ],
  [
    'a tensor object of a made-up number',
    () => new Tensor(5).add(1),
    'DISPOSED',
    "The tensor given for 'self' was disposed. Keep it alive with keep(), or return it from tidy().",
  ],
  [
    'null for a tensor',
    () => ones(2).matmul(wrong(null)),
    'INVALID_ARGUMENT',
    [
      'matmul() received an invalid combination of arguments: got (Tensor, null), but expected one of:',
      ' * aten::matmul(Tensor self, Tensor other) -> Tensor',
    ].join('\n'),
  ],
  [
    'a method on what is no tensor',
    () => (Tensor.prototype.add as (this: unknown, x: number) => unknown).call({}, 1),
    'INVALID_ARGUMENT',
    [
      'add() received an invalid combination of arguments: got ({}, number 1), but expected one of:',
      ' * aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor',
      ' * aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor',
    ].join('\n'),
  ],
  [
    'a property of what is no tensor',
    () => Reflect.get(Tensor.prototype, 'shape', {}),
    'INVALID_ARGUMENT',
    'shape: expected a Tensor, got Object object.',
  ],
  [
    'the constructor called by hand',
    () => new Tensor(wrong('x')),
    'INVALID_ARGUMENT',
    'Make tensors with tensor(), zeros(), randn() and the like.',
  ],
  [
    'a disposed tensor',
    () => {
      const t = ones(2);
      t.dispose();
      return t.add(1);
    },
    'DISPOSED',
    'self: the tensor was disposed. Keep it alive with keep(), or return it from tidy().',
  ],
  [
    'a disposed tensor as an argument',
    () => {
      const t = ones(2);
      t.dispose();
      return ones(2).add(t);
    },
    'DISPOSED',
    'other: the tensor was disposed. Keep it alive with keep(), or return it from tidy().',
  ],
  [
    'a tensor whose scope has ended',
    () => {
      let t: Tensor;
      tidy(() => void (t = ones(2)));
      return t!.add(1);
    },
    'DISPOSED',
    "The tensor given for 'self' was disposed. Keep it alive with keep(), or return it from tidy().",
  ],
  [
    'tidy without a function',
    () => tidy(wrong(5)),
    'INVALID_ARGUMENT',
    'tidy(): expected a function, as in tidy(() => ...), got number 5.',
  ],
  [
    'a seed that is no integer',
    () => manualSeed(1.5),
    'INVALID_ARGUMENT',
    'manualSeed(): expected an integer seed, got number 1.5.',
  ],
  [
    'a random state of the wrong kind',
    () => setRngState(ones(3)),
    'TYPE',
    'RNG state must be a torch.ByteTensor. Pass what getRngState() or generator.getState() gave.',
  ],
  [
    'a ticket that nobody issued',
    () => receive({ torchbindTicket: 12345678 }),
    'TICKET',
    'No tensor was ever shared under this ticket.',
  ],
];

describeMistakes(mistakes);
