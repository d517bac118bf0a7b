// A valid call of every function of nn.functional that is written by hand, as in calls.cjs.
const torch = require('../../../dist/index.js');
const { ones, tensor } = torch;

const of = (name, make) => [`nn.functional.${name}`, make];
const classes = () => tensor([0, 1]);
const signs = () => tensor([1.5, -1]).sign();
const image = () => ones(1, 2, 4, 4);
const window = () => ({ dilation: 1, padding: 0, stride: 1 });
const affine = (size) => ({ weight: ones(size), bias: ones(size), eps: 1e-5 });
const pooled = (dims) => torch.nn.functional[`maxPool${dims}d`](ones(1, 1, ...sizes(dims)), 2, { returnIndices: true });
const sizes = (dims) => new Array(dims).fill(4);

module.exports = [
  of('embedding', () => [tensor([[1, 2]]), ones(3, 2), { paddingIdx: 0 }]),
  of('embeddingBag', () => [
    classes(),
    ones(3, 2),
    {
      ...{ offsets: tensor([0]), mode: 'sum', perSampleWeights: ones(2), includeLastOffset: false, paddingIdx: 1 },
      ...{ scaleGradByFreq: false, sparse: false },
    },
  ]),
  of('layerNorm', () => [ones(2, 3), [3], ones(3), ones(3), 1e-5]),
  of('batchNorm', () => [image(), ones(2), ones(2), { ...affine(2), training: true, momentum: 0.1 }]),
  of('instanceNorm', () => [
    image(),
    { ...affine(2), runningMean: ones(2), runningVar: ones(2), useInputStats: true, momentum: 0.1 },
  ]),
  of('groupNorm', () => [image(), 2, affine(2)]),
  of('localResponseNorm', () => [image(), 2, { alpha: 1e-4, beta: 0.75, k: 1 }]),
  of('normalize', () => [ones(2, 3), { p: 2, dim: 1, eps: 1e-12 }]),
  of('gelu', () => [ones(2), { approximate: 'none' }]),
  of('softmin', () => [ones(2), 0]),
  of('softsign', () => [ones(2)]),
  of('tanhshrink', () => [ones(2)]),
  of('gumbelSoftmax', () => [ones(2), { tau: 1, hard: true, dim: 0 }]),
  ...['dropout', 'alphaDropout', 'featureAlphaDropout'].map((name) => of(name, () => [ones(2, 3), 0.5, true])),
  ...[1, 2, 3].flatMap((dims) => [
    of(`dropout${dims}d`, () => [ones(1, 2, ...sizes(dims)), 0.5, true]),
    of(`maxPool${dims}d`, () => [
      ones(1, 1, ...sizes(dims)),
      2,
      { stride: 1, padding: 1, dilation: 1, ceilMode: false, returnIndices: true },
    ]),
    of(`adaptiveMaxPool${dims}d`, () => [ones(1, 1, ...sizes(dims)), 2, { returnIndices: true }]),
    of(`maxUnpool${dims}d`, () => [...pooled(dims), 2, { stride: 2, padding: 0, outputSize: sizes(dims) }]),
    of(`lpPool${dims}d`, () => [ones(1, 1, ...sizes(dims)), 2, 2, { stride: 1, ceilMode: false }]),
  ]),
  of('interpolate', () => [
    image(),
    { size: [2, 2], mode: 'bilinear', alignCorners: false, recomputeScaleFactor: false, antialias: false },
  ]),
  of('interpolate', () => [image(), { scaleFactor: [2, 0.5] }]),
  of('gridSample', () => [image(), ones(1, 2, 2, 2), { mode: 'nearest', paddingMode: 'border', alignCorners: false }]),
  of('affineGrid', () => [ones(1, 2, 3), [1, 2, 4, 4], { alignCorners: false }]),
  of('unfold', () => [image(), 2, window()]),
  of('fold', () => [ones(1, 8, 9), [4, 4], 2, window()]),
  ...['mseLoss', 'l1Loss', 'smoothL1Loss', 'huberLoss', 'softMarginLoss'].map((name) =>
    of(name, () => [ones(2), ones(2), { reduction: 'mean' }]),
  ),
  of('crossEntropy', () => [
    ones(2, 3),
    classes(),
    { weight: ones(3), ignoreIndex: -100, reduction: 'mean', labelSmoothing: 0.1 },
  ]),
  of('linearCrossEntropy', () => [
    ones(2, 4),
    ones(3, 4),
    classes(),
    {
      linearBias: ones(3),
      weight: ones(3),
      ignoreIndex: -100,
      reduction: 'mean',
      labelSmoothing: 0,
      options: { batchChunkSize: 1, allowRetainGraph: false },
    },
  ]),
  of('nllLoss', () => [ones(2, 3), classes(), { weight: ones(3), ignoreIndex: -100, reduction: 'mean' }]),
  of('binaryCrossEntropy', () => [ones(2), ones(2), { weight: ones(2), reduction: 'mean' }]),
  of('binaryCrossEntropyWithLogits', () => [
    ones(2),
    ones(2),
    { weight: ones(2), posWeight: ones(2), reduction: 'mean' },
  ]),
  of('klDiv', () => [ones(2), ones(2), { reduction: 'batchmean', logTarget: true }]),
  of('poissonNllLoss', () => [ones(2), ones(2), { logInput: true, full: true, eps: 1e-8, reduction: 'mean' }]),
  of('gaussianNllLoss', () => [ones(2), ones(2), 1, { full: true, eps: 1e-6, reduction: 'mean' }]),
  of('ctcLoss', () => [ones(4, 1, 3), tensor([[1]]), [4], [1], { blank: 0, reduction: 'mean', zeroInfinity: true }]),
  of('cosineEmbeddingLoss', () => [ones(2, 3), ones(2, 3), signs(), { margin: 0, reduction: 'mean' }]),
  of('hingeEmbeddingLoss', () => [ones(2), signs(), { margin: 1, reduction: 'mean' }]),
  of('marginRankingLoss', () => [ones(2), ones(2), signs(), { margin: 0, reduction: 'mean' }]),
  of('multiMarginLoss', () => [ones(2, 3), classes(), { p: 1, margin: 1, weight: ones(3), reduction: 'mean' }]),
  of('multilabelMarginLoss', () => [
    ones(2, 3),
    tensor([
      [0, 1, -1],
      [0, -1, 1],
    ]),
    { reduction: 'mean' },
  ]),
  of('multilabelSoftMarginLoss', () => [ones(2, 3), ones(2, 3), { weight: ones(3), reduction: 'mean' }]),
  of('tripletMarginLoss', () => [
    ...[ones(2, 3), ones(2, 3), ones(2, 3)],
    { margin: 1, p: 2, eps: 1e-6, swap: true, reduction: 'mean' },
  ]),
  of('tripletMarginWithDistanceLoss', () => [
    ...[ones(2, 3), ones(2, 3), ones(2, 3)],
    { distanceFunction: torch.pairwiseDistance, margin: 1, swap: true, reduction: 'mean' },
  ]),
];
