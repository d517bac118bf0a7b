/**
 * What the types allow runs, and what they refuse is wrong. `npm run check` compiles this file: each `@ts-expect-error` fails
 * there when the compiler accepts the line. The calls that compile are run here.
 */
import { expect, expectTypeOf, test } from 'vitest';
import {
  addmm,
  arange,
  argmax,
  avgPool2d,
  bucketize,
  cat,
  conv1d,
  conv2d,
  convTranspose2d,
  cumsum,
  type DeviceName,
  div,
  type DType,
  eye,
  fft,
  flatten,
  full,
  gelu,
  isTensor,
  linalg,
  linspace,
  logSoftmax,
  manualSeed,
  max,
  mean,
  nn,
  ones,
  optim,
  pad,
  quantile,
  randint,
  randn,
  repeatInterleave,
  scaledDotProductAttention,
  searchsorted,
  softmax,
  sort,
  std,
  sum,
  tensor,
  Tensor,
  tidy,
  topk,
  where,
  zeros,
} from '../lib/index';

const F = nn.functional;
const x = ones(2, 3);
const square = eye(2).add(1);
const image = ones(1, 2, 4, 4);
const kernel = ones(2, 2, 3, 3);
const bias = zeros(2);
const classes = tensor([0, 2]);
const weight = ones(3);
const parameters = [new nn.Parameter(ones(2))];

/** Calls that compile, and the type of what they return. Each also runs. */
const returnTensor: readonly (() => Tensor)[] = [
  // options after any optional positional argument
  () => conv2d(image, kernel),
  () => conv2d(image, kernel, bias),
  () => conv2d(image, kernel, bias, { stride: 2 }),
  () => conv2d(image, kernel, null, { stride: 2, padding: 1 }),
  () => conv2d(image, kernel, undefined, { padding: 'same' }),
  () => conv2d(image, kernel, bias, 2, { padding: [1, 1] }),
  () => conv2d(image, kernel, bias, 2, 1, { groups: 1 }),
  () => conv2d(image, kernel, bias, 2, 1, 1, { groups: 1 }),
  () => conv2d(image, kernel, bias, 2, 1, 1, 1),
  () => conv2d(image, kernel, { bias, dilation: 1 }),
  () => conv1d(ones(1, 2, 4), ones(2, 2, 3), null, { padding: 'valid' }),
  () => convTranspose2d(image, kernel, null, 2, { outputPadding: 1 }),
  () => avgPool2d(image, 2, 1, { padding: 1 }),
  () => avgPool2d(image, 2, undefined, { ceilMode: true }),
  () => sum(x, 1, { keepdim: true }),
  () => sum(x, 1, true, { dtype: 'float64' }),
  () => mean(x, [0, 1], { keepdim: true }),
  () => std(x, 1, { keepdim: true }),
  () => argmax(x, 1, { keepdim: true }),
  () => x.argmax(1, { keepdim: true }),
  () => x.sum(1, { keepdim: true, dtype: 'float64' }),
  () => flatten(x, 0, { endDim: 1 }),
  () => x.flatten(0, { endDim: -1 }),
  () => quantile(x, 0.5, 1, { keepdim: true }),
  () => quantile(x, 0.5, 1, true, { interpolation: 'nearest' }),
  () => scaledDotProductAttention(image, image, image, null, { isCausal: true }),
  () => scaledDotProductAttention(image, image, image, null, 0, { isCausal: true }),
  () => repeatInterleave(x, 2, 1, { outputSize: 6 }),
  () => addmm(square, square, square, { beta: 2 }),
  () => cat([x, x], 1),
  () => cumsum(x, 1, { dtype: 'float64' }),
  () => softmax(x, { dim: 1 }),
  () => softmax(x, 1, { dtype: 'float64' }),
  () => softmax(x, 1, 'float64'),
  () => logSoftmax(x, 1),
  () => linspace(0, 1, { steps: 3 }),
  // strings
  () => gelu(x, { approximate: 'tanh' }),
  () => div(x, 2, { roundingMode: 'floor' }),
  () => x.div(2, { roundingMode: 'trunc' }),
  () => pad(ones(2, 3, 4), [1, 1], 'reflect'),
  () => pad(ones(2, 3, 4), [1, 1], { mode: 'replicate' }),
  () => fft.rfft(x, null, -1, 'ortho').abs(),
  () => fft.fft(x, { norm: 'forward' }).abs(),
  () => linalg.qr(square, 'complete').Q,
  () => linalg.matrixNorm(square, 'nuc'),
  () => linalg.eigvalsh(square, 'U'),
  () => searchsorted(weight, weight, { side: 'right' }),
  () => bucketize(x, weight, { right: true }),
  () => zeros(2, 3).scatterReduce(1, tensor([[0], [1]]), ones(2, 1), 'amax', { includeSelf: false }),
  () => zeros([2], { dtype: 'bfloat16', device: 'cpu' }),
  () => x.to('float64'),
  () => x.to('meta'),
  () => x.to('cpu', 'float16'),
  () => x.to({ device: x.device, dtype: x.dtype }),
  () => full([2], 1, { device: 'cpu' }),
  () => randint(0, 5, [2]),
  () => randn([2], { dtype: 'float64' }),
  () => where(x.gt(0), x, 0),
  () => arange(0, 4, 2),
  // nn.functional, in Python's order
  () => F.crossEntropy(x, classes),
  () => F.crossEntropy(x, classes, weight),
  () => F.crossEntropy(x, classes, weight, { labelSmoothing: 0.1 }),
  () => F.crossEntropy(x, classes, weight, null, -100, null, 'sum', 0.1),
  () => F.crossEntropy(x, classes, undefined, { reduction: 'none' }),
  () => F.nllLoss(x, classes, weight, { ignoreIndex: 1 }),
  () => F.mseLoss(x, x, null, null, 'sum'),
  () => F.mseLoss(x, x, { reduction: 'none' }),
  () => F.huberLoss(x, x, 'mean', 0.5),
  () => F.huberLoss(x, x, 'mean', { delta: 0.5 }),
  () => F.klDiv(x, x, { reduction: 'batchmean' }),
  () => F.binaryCrossEntropyWithLogits(x, x, null, null, null, 'sum', x),
  () => F.tripletMarginLoss(x, x, x, 1, 2, 1e-6, false),
  () => F.layerNorm(x, [3], weight, weight, 1e-6),
  () => F.layerNorm(x, [3], weight, { eps: 1e-6 }),
  () => F.layerNorm(x, [3], { bias: weight }),
  () => F.groupNorm(image, 2, bias, bias, 1e-5),
  () => F.batchNorm(image, null, null, bias, bias, true, 0.1, 1e-5),
  () => F.batchNorm(image, bias, ones(2), { training: false }),
  () => F.normalize(x, 1, 0),
  () => F.normalize(x, 1, { eps: 1e-6 }),
  () => F.gumbelSoftmax(x, 0.5, true, null, -1),
  () => F.dropout(x, 0.5, false),
  () => F.embedding(classes, ones(3, 2), 0),
  () => F.interpolate(image, 2),
  () => F.interpolate(image, null, 2, 'bilinear', false),
  () => F.interpolate(image, { scaleFactor: 2, mode: 'nearest' }),
  () => F.gridSample(image, zeros(1, 2, 2, 2), 'nearest', 'border', true),
  () => F.unfold(image, 3, 1, 1, 1),
  () => F.unfold(image, 3, { padding: 1 }),
  () => F.fold(F.unfold(image, 3), [4, 4], 3, 1, 0, 1),
  () => F.maxPool2d(image, 2),
  () => F.maxPool2d(image, 2, 2, 0, 1, false),
  () => F.maxPool2d(image, 2, 1, { padding: 1 }),
  () => F.lpPool2d(image, 2, 2, 1, true),
  () => F.localResponseNorm(image, 2, 1e-4, 0.75, 1),
  // constructors, in Python's order
  () => new nn.Linear(3, 2).weight,
  () => new nn.Linear(3, 2, false).weight,
  () => new nn.Linear(3, 2, true, 'cpu', 'float64').weight,
  () => new nn.Linear(3, 2, true, { dtype: 'float64' }).weight,
  () => new nn.Linear(3, 2, { bias: false }).weight,
  () => new nn.Embedding(3, 2, 0).weight,
  () => new nn.LayerNorm(3, 1e-6, true, false).forward(x),
  () => new nn.LayerNorm([3], 1e-6, { bias: false }).forward(x),
  () => new nn.RMSNorm(3, 1e-6, false).forward(x),
  () => new nn.GELU('tanh').forward(x),
];

test('calls that compile run, and return what their types say', () => {
  manualSeed(0);
  for (const call of returnTensor) tidy(() => expect(isTensor(call()), String(call)).toBe(true));
  expect(returnTensor.length).toBeGreaterThan(100);
});

test('optimizers take Python’s positions', () => {
  expect(new optim.AdamW(parameters, 1e-2, [0.9, 0.95], 1e-8, 0.1).paramGroups[0]).toMatchObject({
    ...{ lr: 1e-2, betas: [0.9, 0.95], weightDecay: 0.1 },
  });
  expect(new optim.AdamW(parameters, 1e-2, { weightDecay: 0 }).paramGroups[0]).toMatchObject({
    lr: 1e-2,
    weightDecay: 0,
  });
  expect(new optim.Adam(parameters, 1e-2).paramGroups[0]!.lr).toBe(1e-2);
  expect(new optim.SGD(parameters, 0.1, 0.9).paramGroups[0]).toMatchObject({ lr: 0.1, momentum: 0.9 });
  expect(new optim.Adagrad(parameters, 0.1, 0.5).paramGroups[0]).toMatchObject({ lr: 0.1, lrDecay: 0.5 });
});

test('types of results', () => {
  const found = topk(x, 2, 1, { largest: false });
  expect(found.indices.tolist()).toHaveLength(2);
  expectTypeOf(found.values).toEqualTypeOf<Tensor>();
  expectTypeOf(x.topk(2, 1, true, { sorted: false }).indices).toEqualTypeOf<Tensor>();
  expectTypeOf(sort(x, 1, { descending: true }).indices).toEqualTypeOf<Tensor>();
  expectTypeOf(max(x, 1, { keepdim: true }).values).toEqualTypeOf<Tensor>();
  expectTypeOf(max(x)).toEqualTypeOf<Tensor>();
  expectTypeOf(F.maxPool2d(image, 2, { returnIndices: true })).toEqualTypeOf<[Tensor, Tensor]>();
  expectTypeOf(F.maxPool2d(image, 2, 2, 0, 1, false, true)).toEqualTypeOf<[Tensor, Tensor]>();
  expectTypeOf(F.adaptiveMaxPool2d(image, 2, true)).toEqualTypeOf<[Tensor, Tensor]>();
  expectTypeOf(F.adaptiveMaxPool2d(image, 2)).toEqualTypeOf<Tensor>();
  expectTypeOf(x.dtype).toEqualTypeOf<DType>();
  expectTypeOf(x.device).toEqualTypeOf<DeviceName>();
  expectTypeOf(x.shape).toExtend<readonly number[]>();
  expectTypeOf(x.add_(1)).toEqualTypeOf<Tensor>();
  expectTypeOf(x.equal(x)).toEqualTypeOf<boolean>();
  expectTypeOf(x.split(1)).toEqualTypeOf<Tensor[]>();
  expectTypeOf<'cuda:3'>().toExtend<DeviceName>();
  expectTypeOf<'gpu'>().not.toExtend<DeviceName>();
  expectTypeOf<'float'>().not.toExtend<DType>();
});

/** Calls that are wrong. They are compiled and not run. */
export const wrongCalls: readonly (() => unknown)[] = [
  // @ts-expect-error a misspelled option
  () => conv2d(image, kernel, bias, { strides: 2 }),
  // @ts-expect-error an option given by position already
  () => conv2d(image, kernel, bias, { bias }),
  // @ts-expect-error an option of another type
  () => conv2d(image, kernel, bias, { stride: '2' }),
  // @ts-expect-error an unknown padding
  () => conv2d(image, kernel, { padding: 'smae' }),
  // @ts-expect-error one argument too many
  () => conv2d(image, kernel, bias, 1, 0, 1, 1, 1),
  // @ts-expect-error no tensor
  () => conv2d(1, kernel),
  // @ts-expect-error a misspelled option
  () => topk(x, 2, 1, { biggest: true }),
  // @ts-expect-error a required argument is missing
  () => topk(x),
  // @ts-expect-error an option of another type
  () => sum(x, 1, { keepdim: 1 }),
  // @ts-expect-error an unknown dtype
  () => sum(x, 1, true, { dtype: 'double' }),
  // @ts-expect-error an unknown form of GELU
  () => gelu(x, { approximate: 'sigmoid' }),
  // @ts-expect-error an unknown rounding
  () => div(x, 2, { roundingMode: 'round' }),
  // @ts-expect-error an unknown mode
  () => pad(image, [1, 1], 'mirror'),
  // @ts-expect-error an unknown interpolation
  () => quantile(x, 0.5, 1, { interpolation: 'cubic' }),
  // @ts-expect-error an unknown norm
  () => fft.fft(x, { norm: 'unit' }),
  // @ts-expect-error an unknown side
  () => searchsorted(weight, weight, { side: 'middle' }),
  // @ts-expect-error an unknown reduction
  () => x.scatterReduce(1, classes, x, 'max'),
  // @ts-expect-error an unknown device
  () => zeros([2], { device: 'gpu' }),
  // @ts-expect-error an unknown device
  () => x.to('gpu'),
  // @ts-expect-error an unknown device
  () => new nn.Linear(2, 2).to('gpu'),
  // @ts-expect-error an unknown dtype
  () => zeros([2], { dtype: 'float' }),
  // @ts-expect-error a misspelled option
  () => zeros([2], { dtpye: 'float32' }),
  // @ts-expect-error an unknown memory format
  () => x.contiguous({ memoryFormat: 'channels' }),
  // @ts-expect-error an unknown reduction
  () => F.crossEntropy(x, classes, { reduction: 'avg' }),
  // @ts-expect-error Python's size_average is not here
  () => F.crossEntropy(x, classes, weight, true),
  // @ts-expect-error an option given by position already
  () => F.crossEntropy(x, classes, weight, { weight }),
  // @ts-expect-error a misspelled option
  () => F.crossEntropy(x, classes, { labelSmooth: 0.1 }),
  // @ts-expect-error the reduction is not the third argument
  () => F.mseLoss(x, x, 'sum'),
  // @ts-expect-error a misspelled option
  () => F.layerNorm(x, [3], weight, { epsilon: 1 }),
  // @ts-expect-error sizes are needed
  () => F.layerNorm(x),
  // @ts-expect-error an unknown mode
  () => F.interpolate(image, { scaleFactor: 2, mode: 'linera' }),
  // @ts-expect-error an unknown padding mode
  () => F.gridSample(image, image, { paddingMode: 'wrap' }),
  // @ts-expect-error one argument too many
  () => F.normalize(x, 2, 1, 1e-12, 0),
  // @ts-expect-error a misspelled option
  () => new nn.Linear(3, 2, { biass: false }),
  // @ts-expect-error an option of another type
  () => new nn.Linear(3, 2, 'no'),
  // @ts-expect-error an option given by position already
  () => new nn.Linear(3, 2, true, { bias: false }),
  // @ts-expect-error a required argument is missing
  () => new nn.Linear(3),
  // @ts-expect-error an unknown form of GELU
  () => new nn.GELU('exact'),
  // @ts-expect-error an option of another type
  () => new nn.LayerNorm(3, 1e-6, 'yes'),
  // @ts-expect-error an option of another type
  () => new optim.AdamW(parameters, { lr: '1e-3' }),
  // @ts-expect-error a misspelled option
  () => new optim.AdamW(parameters, 1e-3, { decay: 0.1 }),
  // @ts-expect-error an option given by position already
  () => new optim.SGD(parameters, 0.1, { lr: 0.1 }),
];
