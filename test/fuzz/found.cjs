// What the fuzzer found, each as the smallest call that showed it. Every call must throw a TorchBindError with the code
// next to it, or give the text. All run in one process: one that crashes ends the output at its name.
const { writeSync } = require('node:fs');
const torch = require('../../dist/index.js');
const { native } = require('../../dist/native/native.js');

const { arange, ones, ops, randn, randint, tensor, zeros } = torch;
const { aten } = ops;
const binding = native();

const INVALID = 'ERR_TORCHBIND_INVALID_ARGUMENT';
const UNSAFE = 'ERR_TORCHBIND_UNSAFE_OPERATOR';
const twoInAByte = () => aten.quantize_per_channel(randn(8, 4), torch.rand(8).add(0.1), zeros(8), 0, 'quint4x2');
const sparse = () => Object.assign([1, 2], { length: 2 ** 32 - 1 });

/** [what was wrong, code or text, call] */
const found = [
  // libtorch's kernels
  [
    'oneDNN takes memory and gives it back',
    '[ 4, 32, 62, 62 ]',
    () => torch.conv2d(randn(4, 16, 64, 64), randn(32, 16, 3, 3)).shape,
  ],
  ["oneDNN's own layout", "'mkldnn'", () => randn(4, 4).toMkldnn().layout],
  ['int[2] of no elements', INVALID, () => aten.avg_pool2d(randn(1, 4, 4), [], [1, 1])],
  ['int[3] of two', INVALID, () => torch.maxPool3d(randn(1, 4, 4, 4), [1, 2])],
  ['int[2] of one counts for both', '[ 1, 2, 2 ]', () => aten.avg_pool2d(randn(1, 4, 4), [2]).shape],
  ['an empty stride is the kernel', '[ 1, 2, 2 ]', () => aten.avg_pool2d(randn(1, 4, 4), [2, 2], []).shape],
  [
    'reflection_pad2d_backward without padding',
    INVALID,
    () => torch.ops.aten.reflection_pad2d_backward(randn(2, 2, 2), randn(2, 4), []),
  ],
  [
    'nothing to concatenate into a quantized tensor',
    INVALID,
    () => aten.cat.out([], { out: aten.quantize_per_tensor(randn(4), 0.1, 3, 'quint8') }),
  ],
  ['an array of 2^32 holes to dispose of', 'undefined', () => torch.dispose(sparse())],
  ['weight norm of nothing', INVALID, () => aten._weight_norm(zeros(0, 1), zeros(0, 1))],
  [
    'gradient of another shape',
    INVALID,
    () => aten._log_softmax_backward_data(zeros(3, 0), randn(2, 3), -1, 'float32'),
  ],
  ['chunks of a tensor without dimensions', INVALID, () => aten._chunk_cat([zeros()], 0, 2)],
  ['no groups', INVALID, () => torch.nativeGroupNorm(randn(2, 4), null, null, 2, 4, 1, 0, 1e-5)],
  [
    'more indices than dimensions',
    INVALID,
    () => aten._unsafe_masked_index(zeros(0, 8, { dtype: 'int64' }), zeros(0, 8).bool(), [null, null, arange(1)], 0),
  ],
  [
    'a pooled gradient of another batch',
    INVALID,
    () => aten._adaptive_avg_pool2d_backward(randn(8, 1, 1), zeros(0, 16, 1)),
  ],
  [
    'weights that are not one a channel, without statistics',
    INVALID,
    () => aten._native_batch_norm_legit.no_stats(randn(8, 16), zeros(5, 3, 0), zeros(1), true, 0, 2),
  ],
  [
    'a pooled gradient of fewer channels, into a result',
    INVALID,
    () =>
      aten.adaptive_avg_pool3d_backward.grad_input(randn(3, 8, 17, 1), randn(17, 4, 1, 1), {
        grad_input: zeros(17, 4, 1, 1),
      }),
  ],
  [
    'a result of another dtype',
    INVALID,
    () => aten._logcumsumexp.out(randn(9), 0, { out: zeros(9, { dtype: 'int8' }) }),
  ],
  [
    'statistics of a wrong length',
    INVALID,
    () => aten.native_batch_norm(randn(2, 3), null, null, zeros(1), zeros(1), true, 0.1, 1e-5),
  ],
  [
    'statistics of a wrong length, to be updated',
    INVALID,
    () => aten._batch_norm_with_update(randn(2, 3), null, null, zeros(1), zeros(1), 0.1, 1e-5),
  ],
  [
    'statistics of a wrong length, legit',
    INVALID,
    () => aten._native_batch_norm_legit(randn(2, 3), null, null, zeros(1), zeros(1), true, 0.1, 1e-5),
  ],
  [
    'no statistics, no training',
    INVALID,
    () => aten._native_batch_norm_legit.no_stats(randn(2, 3), null, null, false, 0.1, 1e-5),
  ],
  [
    'quantized as another dtype',
    INVALID,
    () => aten.view_copy.dtype(aten.quantize_per_tensor(randn(4), 0.1, 3, 'quint8'), 'quint8'),
  ],
  ['quantized and negated', INVALID, () => aten._neg_view_copy(aten.quantize_per_tensor(randn(4), 0.1, 3, 'quint8'))],
  [
    'grouped queries without heads',
    INVALID,
    () => {
      const [q, k] = [randn(1, 4, 2, 8), zeros(1, 0, 2, 8)];
      return torch.scaledDotProductAttention(q, k, k, { enableGqa: true });
    },
  ],
  ['bins below one', INVALID, () => aten.choose_qparams_optimized(randn(2, 2), 4, -3, 1, 8)],
  ['a ratio without end', INVALID, () => aten.choose_qparams_optimized(randn(2, 2), 4, 4, Infinity, 8)],
  ['a beta that is no integer', INVALID, () => torch.smoothL1Loss(arange(3), arange(3), 1, 0.5)],
  [
    'a beta that is no integer, backward',
    INVALID,
    () => torch.ops.aten.smooth_l1_loss_backward(arange(3), arange(3), arange(3), 1, 0.5),
  ],
  [
    'a cell state with fewer layers than the hidden state',
    INVALID,
    () => torch.lstm(randn(5, 3, 2), [randn(16, 3, 2), randn(5, 3, 2)], [], false, 16, 0, true, false, true),
  ],
  [
    'a cell state with fewer layers, of packed sequences',
    INVALID,
    () => aten.lstm.data(randn(3, 2), tensor([3]), [randn(3, 1, 2), randn(2, 1, 2)], [], true, 4, 0.5, true, false),
  ],
  ['elements that share bytes read as bytes', 'ERR_TORCHBIND_UNSUPPORTED', () => twoInAByte().toTypedArray()],
  ['elements that share bytes listed', 'ERR_TORCHBIND_UNSUPPORTED', () => twoInAByte().tolist()],
  ['elements that share bytes, shared', 'ERR_TORCHBIND_UNSUPPORTED', () => twoInAByte().toTypedArray({ copy: false })],
  [
    'sparse indices outside',
    'ERR_TORCHBIND_TORCH',
    () =>
      aten
        .sparse_coo_tensor(
          tensor([
            [0, 9],
            [1, -3],
          ]),
          randn(2),
          [4, 4],
        )
        .arcsin(),
  ],
  [
    'fused optimizer: a moment of another shape',
    INVALID,
    () => {
      const [p, g] = [[randn(64)], [randn(64)]];
      const options = { lr: 1, beta1: 0.9, beta2: 0.9, weight_decay: 0, eps: 1e-8, amsgrad: false, maximize: false };
      return aten._fused_adamw_(p, g, [randn(1)], [randn(64)], [], [zeros([])], options);
    },
  ],
  [
    'fused optimizer: lists of two lengths',
    INVALID,
    () => {
      const options = {
        weight_decay: 0,
        momentum: 0,
        lr: 1,
        dampening: 0,
        nesterov: false,
        maximize: false,
        is_first_step: true,
      };
      return aten._fused_sgd_([randn(2)], [randn(2), randn(2)], [], options);
    },
  ],
  ['zeros without memory as an array', '[ 0, 0, 0 ]', () => aten._efficientzerotensor([3]).tolist()],
  [
    'zeros without memory as bytes',
    'ERR_TORCHBIND_UNSUPPORTED',
    () => binding.sliceBytes(aten._efficientzerotensor([3]).handle, 0, 4),
  ],
  ['an inner step', UNSAFE, () => aten._fft_r2c(randn(4), [7], 0, true)],
  ['an inner step, an overload', UNSAFE, () => aten._stack.out([], 3, { out: randn(2) })],
  [
    'an inner step, natively',
    UNSAFE,
    () => binding.call(binding.findOperator('aten::_pdist_backward', ''), 1, 2, 3, 4),
  ],
  [
    'an inner step, as a function',
    UNSAFE,
    () =>
      torch.ops.aten.quantized_lstm_cell(
        randn(2),
        [],
        randn(2),
        randn(2),
        randn(2),
        randn(2),
        randn(2),
        randn(2),
        randn(2),
        randn(2),
        1,
        1,
        1,
        1,
      ),
  ],

  // Memory that nobody has
  ['2^50 elements', 'ERR_TORCHBIND_OUT_OF_MEMORY', () => zeros([2 ** 40, 2 ** 10])],
  [
    'an ArrayBuffer of 2^50 bytes',
    'ERR_TORCHBIND_OUT_OF_MEMORY',
    () =>
      ones(1)
        .to('uint8')
        .expand([2 ** 50])
        .toTypedArray(),
  ],
  ['a size that wraps around', 'ERR_TORCHBIND_TORCH', () => zeros([2 ** 40, 2 ** 40])],

  // TypeScript
  ['no function', INVALID, () => torch.noGrad(5)],
  ['no function, inference', INVALID, () => torch.inferenceMode()],
  ['no tensor to fill', INVALID, () => torch.nn.init.ones_({})],
  ['no tensor to measure', INVALID, () => torch.nn.init.xavierNormal_()],
  ['no tensor as parameter', INVALID, () => new torch.nn.Parameter(3)],
  ['a probability of 2^32 elements', INVALID, () => new torch.nn.Dropout(sparse())],
  ['a vocabulary of 2^32 holes', INVALID, () => new torch.CharTokenizer(sparse())],
  ['a vocabulary that is none', INVALID, () => new torch.CharTokenizer()],
  ['tokens that are none', INVALID, () => new torch.TokenStream([1, 2])],
  ['windows without options', INVALID, () => new torch.RandomWindows(new Int32Array(9))],
  ['parameters that are none', INVALID, () => torch.optim.clipGradNorm_(5, 1)],
  ['an optimizer of nothing', INVALID, () => new torch.optim.AdamW()],
  ['modules that are none', INVALID, () => new torch.nn.ModuleList(1)],
  ['a shape that is none', INVALID, () => new torch.nn.LayerNorm(null)],
  ['a model without config', 'ERR_TORCHBIND_CONFIG', () => new torch.GPT()],
  ['a cache without sizes', INVALID, () => new torch.KVCache()],
  ['keys that are none', INVALID, () => torch.detectLayout(5)],
  ['a dimension that is a bigint', 'ERR_TORCHBIND_INDEX', () => ones(2).size(0n)],
  ...['dim', 'numel', 'isContiguous', 'requiresGrad_', 'cpu', 'cuda', 'to', 'tolist'].map((method) => [
    `a wrong this for ${method}`,
    INVALID,
    () => torch.Tensor.prototype[method].call({}),
  ]),
  [
    'a wrong this for iteration',
    INVALID,
    () => {
      const { value } = Object.getOwnPropertyDescriptor(torch.Tensor.prototype, Symbol.iterator);
      return [...value.call({})];
    },
  ],
  [
    'a mode that cannot become a string',
    INVALID,
    () => torch.nn.functional.interpolate(randn(1, 1, 4), { size: 2, mode: Object.create(null) }),
  ],
  [
    'a wrong this for a print',
    "'[object Object]'",
    () => torch.Tensor.prototype[Symbol.for('nodejs.util.inspect.custom')].call(Object.create(null)),
  ],
  ['a wrong this for mT', INVALID, () => Reflect.get(torch.Tensor.prototype, 'mT', {})],
  ['a library without a name', INVALID, () => ops.loadLibrary('\0')],
  ['indices stay in range', '[ 2 ]', () => randint(3, [2]).shape],
];

const { inspect } = require('node:util');
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

for (const name of binding.operatorNames()) {
  const dot = name.indexOf('.');
  const id = binding.findOperator(dot < 0 ? name : name.slice(0, dot), dot < 0 ? '' : name.slice(dot + 1));
  if (binding.schema(id).unsafe !== null) writeSync(1, `refused ${name.replace(/\..*/, '')}\n`);
}
