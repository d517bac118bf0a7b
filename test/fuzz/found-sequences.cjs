// What sequences of calls found, each as the fewest that showed it. As in found.cjs, each must throw a TorchBindError with
// the code next to it or give the text, and one that crashes ends the output at its name.
const { writeSync } = require('node:fs');
const { inspect } = require('node:util');
const torch = require('../../dist/index.js');
const { native } = require('../../dist/native/native.js');

const { ones, ops, zeros } = torch;
const { aten } = ops;
const binding = native();

const UNSAFE = 'ERR_TORCHBIND_UNSAFE_OPERATOR';
const INVALID = 'ERR_TORCHBIND_INVALID_ARGUMENT';

/** What a call threw, and what the tensor is and holds afterwards. */
function after(subject, call) {
  let code = 'done';
  try {
    call(subject);
  } catch (error) {
    if (!(error instanceof torch.TorchBindError)) throw error;
    code = error.code.replace('ERR_TORCHBIND_', '');
  }
  return `${code}: [${subject.shape}], sum ${subject.sum().item()}`;
}

/** [what was wrong, code or text, calls] */
const found = [
  // Shapes that outlived the call that failed
  ['a resize without memory', "'OUT_OF_MEMORY: [2,3], sum 6'", () => after(ones(2, 3), (x) => x.resize_([5, 2 ** 40]))],
  ['a resize to a negative size', "'TORCH: [3], sum 3'", () => after(ones(3), (x) => x.resize_([-1]))],
  ['a resize whose size wraps', "'TORCH: [3], sum 3'", () => after(ones(3), (x) => x.resize_([2 ** 40, 2 ** 40]))],
  [
    'a storage without memory for the size',
    "'OUT_OF_MEMORY: [3], sum 3'",
    () => after(ones(3), (x) => aten.set_.source_Tensor_storage_offset(x, zeros(3), 0, [2 ** 40], [1])),
  ],
  [
    'a storage at an offset that wraps',
    "'INVALID_ARGUMENT: [3], sum 3'",
    () => after(ones(3), (x) => aten.set_.source_Tensor_storage_offset(x, zeros(3), 2n ** 62n, [2n ** 62n], [4])),
  ],
  [
    'strides that wrap, in place',
    "'INVALID_ARGUMENT: [3], sum 3'",
    () => after(ones(3), (x) => x.asStrided_([1, 2n ** 63n - 1n], [1, 4])),
  ],
  ['strides that wrap', INVALID, () => ones(3).asStrided([1, 2n ** 63n - 1n], [1, 4])],
  ['strides that wrap, copied', INVALID, () => aten.as_strided_copy(ones(3), [1, 2n ** 63n - 1n], [1, 4])],
  [
    'strides that wrap, written to',
    INVALID,
    () => aten.as_strided_scatter(ones(3), ones(3), [1, 2n ** 63n - 1n], [1, 4]),
  ],
  ['a view of more than there is', INVALID, () => aten._reshape_alias(ones(3), [100], [1])],
  [
    'an out= without memory',
    "'OUT_OF_MEMORY: [3], sum 3'",
    () => after(ones(3), (x) => aten.add.out(zeros(1).expand([2 ** 40]), zeros(1), { out: x })),
  ],

  [
    'zeros without memory that grow',
    "'TORCH: [3], sum 0'",
    () => after(aten._efficientzerotensor([3]), (x) => x.resize_([100])),
  ],
  [
    'the storage of zeros without memory',
    "'UNSUPPORTED: [3], sum 3'",
    () => after(ones(3), (x) => aten.set_.source_Storage(x, aten._efficientzerotensor([3]))),
  ],

  [
    'an array over no elements at an offset beyond everything',
    '0',
    () => aten.as_strided(ones(3), [0], [1], 2n ** 61n).toTypedArray({ copy: false }).length,
  ],

  // Memory that moved under someone who used it by its address
  [
    'a resize of what an array shares',
    "'TORCH: [3], sum 24'",
    () => {
      const x = ones(3);
      const array = x.toTypedArray({ copy: false });
      return after(x, () => {
        try {
          x.resize_([100]);
        } finally {
          globalThis.gc();
          array.fill(8);
        }
      });
    },
  ],
  [
    'a resize of what another thread shares',
    "'TORCH: [3], sum 3'",
    () => {
      const x = ones(3);
      const other = torch.receive(torch.share(x));
      return after(other, () => x.resize_([100]));
    },
  ],
  [
    'a resize of what is sliced',
    "'TORCH: [64], sum 64'",
    () => {
      const x = ones([64], { dtype: 'uint8' });
      const slice = torch.receive({ torchbindTicket: binding.shareTensor(binding.sliceBytes(x.handle, 0, 64), 0) });
      return after(slice, () => x.resize_([100_000]));
    },
  ],
  [
    'copy on write of what an array shares',
    INVALID,
    () => {
      const x = ones(3);
      x.toTypedArray({ copy: false });
      return aten._lazy_clone(x);
    },
  ],
  [
    'an array over memory that is copied on write',
    '[ 5, 5, 5 ]',
    () => {
      const x = ones(3);
      const clone = aten._lazy_clone(x);
      const array = x.toTypedArray({ copy: false });
      x.add_(4);
      clone.dispose();
      for (let i = 0; i < 100; i++) zeros(3).add_(7);
      return [...array];
    },
  ],

  ['bytes that are an object of the profiler', UNSAFE, () => ops.profiler._record_function_enter('x').zero_()],

  // Graphs over what has changed
  [
    'a target of ctcLoss that is no label',
    INVALID,
    () =>
      torch.ctcLoss(
        torch.randn([8, 2, 4]).logSoftmax(2),
        torch.tensor([
          [1, 2, 3],
          [1, 4, 2],
        ]),
        [8, 8],
        [3, 3],
      ),
  ],
  [
    'what fills a row of targets up may be anything',
    "'number'",
    () => {
      const targets = torch.tensor([
        [1, 2, -100],
        [1, 3, 2],
      ]);
      return typeof torch.ctcLoss(torch.randn([8, 2, 4]).logSoftmax(2), targets, [8, 8], [2, 3]).item();
    },
  ],
  [
    'fewer numbers than tensors that need a gradient',
    INVALID,
    () => {
      const tensors = [1, 2, 3, 4].map((n) => ones([n], { requiresGrad: true }).mul(2));
      return aten._foreach_div_.ScalarList(tensors, [2]);
    },
  ],
  [
    'row numbers that are changed through an array after embedding has saved them',
    INVALID,
    () => {
      const [weight, rows] = [ones([4, 2], { requiresGrad: true }), zeros([2], { dtype: 'int64' })];
      const array = rows.toTypedArray({ copy: false });
      const sum = torch.embedding(weight, rows).sum();
      array.fill(2n ** 40n);
      sum.backward();
    },
  ],
  [
    'a gradient that its hook resizes',
    INVALID,
    () => {
      const w = ones([4, 2], { requiresGrad: true });
      const y = torch.embedding(w, zeros([3], { dtype: 'int64' }));
      y.registerHook((gradient) => void gradient.resize_([1, 2]));
      y.mul(2).sum().backward();
    },
  ],
  [
    'a resize of what a graph has saved',
    'ERR_TORCHBIND_TORCH',
    () => {
      const [x, w] = [ones(3), ones([3], { requiresGrad: true })];
      const y = w.mul(x).sum();
      x.resize_([50]);
      y.backward();
    },
  ],
];

for (const [name, expected, call] of found) {
  writeSync(1, `${name}: `);
  let got;
  try {
    got = inspect(call());
  } catch (error) {
    got = error instanceof torch.TorchBindError ? error.code : `a raw ${error.stack}`;
  }
  writeSync(1, got === expected ? 'as expected\n' : `${got}, expected ${expected}\n`);
}
