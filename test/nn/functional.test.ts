import { expect, test } from 'vitest';
import { arange, full, nn, ones, tensor, type Tensor, tidy, zeros } from '../../lib/index';
import { expectSameAsPython } from '../helpers/expressions';
import { pythonTimeout } from '../helpers/python';

const F = nn.functional;
const setup = `
x = torch.arange(12.).view(3, 4).sin()
t = torch.arange(12.).view(3, 4).cos()
p = x.sigmoid()
q = t.sigmoid()
m = torch.tensor([1., -1., 1.])
c = torch.tensor([2, 0, 3])
w = torch.tensor([1., 2., .5, 1.5])
img = torch.arange(96.).view(2, 3, 4, 4).sin()
sig = torch.arange(24.).view(2, 3, 4).sin()
vol = torch.arange(192.).view(2, 3, 2, 4, 4).sin()
ch = torch.tensor([1., 2., 3.])
one = torch.ones(3)
zero = torch.zeros(3)
theta = torch.tensor([[[1., .5, 0], [0, 1, .25]]]).expand(2, 2, 3)
lp = torch.arange(60.).view(5, 3, 4).sin().log_softmax(2)
`;

function values(): Record<string, Tensor> {
  const range = (...shape: number[]): Tensor =>
    arange(
      shape.reduce((a, b) => a * b),
      { dtype: 'float32' },
    ).view(shape);
  const x = range(3, 4).sin();
  const t = range(3, 4).cos();
  return {
    x,
    t,
    p: x.sigmoid(),
    q: t.sigmoid(),
    m: tensor([1, -1, 1], { dtype: 'float32' }),
    c: tensor([2, 0, 3]),
    w: tensor([1, 2, 0.5, 1.5]),
    img: range(2, 3, 4, 4).sin(),
    sig: range(2, 3, 4).sin(),
    vol: range(2, 3, 2, 4, 4).sin(),
    ch: tensor([1, 2, 3], { dtype: 'float32' }),
    one: ones(3),
    zero: zeros(3),
    theta: tensor([
      [
        [1, 0.5, 0],
        [0, 1, 0.25],
      ],
    ]).expand(2, 2, 3),
    lp: range(5, 3, 4).sin().logSoftmax(2),
  };
}

const here = values as () => Record<
  'x' | 't' | 'p' | 'q' | 'm' | 'c' | 'w' | 'img' | 'sig' | 'vol' | 'ch' | 'one' | 'zero' | 'theta' | 'lp',
  Tensor
>;

test(
  'losses are those of Python, to the bit',
  () => {
    const { x, t, p, q, m, c, w, lp } = here();
    const lengths = [5, 4, 5];
    return expectSameAsPython(setup, [
      ['F.mse_loss(x, t)', () => F.mseLoss(x, t)],
      ["F.l1_loss(x, t, reduction='sum')", () => F.l1Loss(x, t, { reduction: 'sum' })],
      ["F.smooth_l1_loss(x, t, None, None, 'sum', .5)", () => F.smoothL1Loss(x, t, null, null, 'sum', 0.5)],
      ["F.cross_entropy(x, c, w, None, 0, None, 'sum', .1)", () => F.crossEntropy(x, c, w, null, 0, null, 'sum', 0.1)],
      ['F.triplet_margin_loss(x, t, p, .5, 1, 1e-5, True)', () => F.tripletMarginLoss(x, t, p, 0.5, 1, 1e-5, true)],
      ['F.normalize(x, 1, 0, .1)', () => F.normalize(x, 1, 0, 0.1)],
      ['F.smooth_l1_loss(x, t, beta=0.5)', () => F.smoothL1Loss(x, t, { beta: 0.5 })],
      ['F.smooth_l1_loss(x, t, beta=0)', () => F.smoothL1Loss(x, t, { beta: 0 })],
      ["F.huber_loss(x, t, delta=0.3, reduction='none')", () => F.huberLoss(x, t, { delta: 0.3, reduction: 'none' })],
      ['F.nll_loss(x.log_softmax(1), c, weight=w)', () => F.nllLoss(x.logSoftmax(1), c, { weight: w })],
      ['F.nll_loss(x, c, ignore_index=0)', () => F.nllLoss(x, c, { ignoreIndex: 0 })],
      ['F.cross_entropy(x, c, label_smoothing=0.1)', () => F.crossEntropy(x, c, { labelSmoothing: 0.1 })],
      [
        'F.binary_cross_entropy(p, q, weight=w.expand(3, 4))',
        () => F.binaryCrossEntropy(p, q, { weight: w.expand(3, 4) }),
      ],
      [
        'F.binary_cross_entropy_with_logits(x, q, pos_weight=w)',
        () => F.binaryCrossEntropyWithLogits(x, q, { posWeight: w }),
      ],
      ['F.kl_div(p.log(), q)', () => F.klDiv(p.log(), q)],
      [
        "F.kl_div(p.log(), q.log(), reduction='batchmean', log_target=True)",
        () => F.klDiv(p.log(), q.log(), { reduction: 'batchmean', logTarget: true }),
      ],
      ['F.poisson_nll_loss(x, q, full=True)', () => F.poissonNllLoss(x, q, { full: true })],
      ['F.poisson_nll_loss(p, q, log_input=False)', () => F.poissonNllLoss(p, q, { logInput: false })],
      ['F.gaussian_nll_loss(x, t, q)', () => F.gaussianNllLoss(x, t, q)],
      [
        "F.gaussian_nll_loss(x, t, q[:, 0], full=True, reduction='sum')",
        () => F.gaussianNllLoss(x, t, q.at(':', 0), { full: true, reduction: 'sum' }),
      ],
      ['F.gaussian_nll_loss(x, t, 0.5)', () => F.gaussianNllLoss(x, t, 0.5)],
      [
        'F.ctc_loss(lp, c.view(3, 1).clamp(min=1), [5, 4, 5], [1, 1, 1])',
        () => F.ctcLoss(lp, c.view(3, 1).clamp({ min: 1 }), lengths, [1, 1, 1]),
      ],
      [
        'F.ctc_loss(lp, c.view(3, 1).clamp(min=1), torch.tensor([5, 4, 5]), torch.tensor([1, 1, 1]), zero_infinity=True)',
        () => F.ctcLoss(lp, c.view(3, 1).clamp({ min: 1 }), tensor(lengths), tensor([1, 1, 1]), { zeroInfinity: true }),
      ],
      ['F.cosine_embedding_loss(x, t, m, margin=0.2)', () => F.cosineEmbeddingLoss(x, t, m, { margin: 0.2 })],
      ['F.hinge_embedding_loss(x[:, 0], m)', () => F.hingeEmbeddingLoss(x.at(':', 0), m)],
      [
        'F.margin_ranking_loss(x[:, 0], t[:, 0], m, margin=0.1)',
        () => F.marginRankingLoss(x.at(':', 0), t.at(':', 0), m, { margin: 0.1 }),
      ],
      ['F.soft_margin_loss(x[:, 0], m)', () => F.softMarginLoss(x.at(':', 0), m)],
      ['F.multi_margin_loss(x, c, p=2, weight=w)', () => F.multiMarginLoss(x, c, { p: 2, weight: w })],
      [
        'F.multilabel_margin_loss(x, torch.tensor([[1, 2, -1, 0]] * 3))',
        () => F.multilabelMarginLoss(x, tensor([1, 2, 3].map(() => [1, 2, -1, 0]))),
      ],
      [
        'F.multilabel_soft_margin_loss(x, (t > 0).float(), weight=w)',
        () => F.multilabelSoftMarginLoss(x, t.gt(0).float(), { weight: w }),
      ],
      ['F.triplet_margin_loss(x, t, p, swap=True)', () => F.tripletMarginLoss(x, t, p, { swap: true })],
      [
        "F.triplet_margin_loss(x, t, p, p=1, reduction='none')",
        () => F.tripletMarginLoss(x, t, p, { p: 1, reduction: 'none' }),
      ],
      [
        'F.triplet_margin_with_distance_loss(x, t, p, swap=True)',
        () => F.tripletMarginWithDistanceLoss(x, t, p, { swap: true }),
      ],
      [
        'F.triplet_margin_with_distance_loss(x, t, p, distance_function=lambda a, b: 1 - F.cosine_similarity(a, b), margin=2.)',
        () =>
          F.tripletMarginWithDistanceLoss(x, t, p, {
            distanceFunction: (a, b) => F.cosineSimilarity(a, b).neg().add(1),
            margin: 2,
          }),
      ],
    ]);
  },
  pythonTimeout,
);

test(
  'activations, dropout, normalisation and embeddings are those of Python, to the bit',
  () => {
    const { x, c, t, img, sig, vol, ch, one, zero, w } = here();
    return expectSameAsPython(setup, [
      ['F.softmin(x, 1)', () => F.softmin(x, 1)],
      ['F.softsign(x)', () => F.softsign(x)],
      ['F.tanhshrink(x)', () => F.tanhshrink(x)],
      ['F.logsigmoid(x)', () => F.logsigmoid(x)],
      ['F.leaky_relu(x, 0.2)', () => F.leakyRelu(x, 0.2)],
      ['F.gumbel_softmax(x, tau=0.5)', () => F.gumbelSoftmax(x, { tau: 0.5 })],
      ['F.gumbel_softmax(x, hard=True, dim=0)', () => F.gumbelSoftmax(x, { hard: true, dim: 0 })],
      ['F.dropout(x, 0.3)', () => F.dropout(x, 0.3)],
      ['F.dropout(x, p=0.3, training=True)', () => F.dropout(x, { p: 0.3, training: true })],
      ['F.dropout(x, 0.3, training=False)', () => F.dropout(x, 0.3, { training: false })],
      ['F.dropout1d(sig)', () => F.dropout1d(sig)],
      ['F.dropout1d(x)', () => F.dropout1d(x)],
      ['F.dropout2d(img, 0.4)', () => F.dropout2d(img, 0.4)],
      ['F.dropout3d(vol[0])', () => F.dropout3d(vol.at(0))],
      ['F.dropout3d(vol, training=False)', () => F.dropout3d(vol, 0.5, false)],
      ['F.alpha_dropout(x, training=True)', () => F.alphaDropout(x, { training: true })],
      ['F.feature_alpha_dropout(img, 0.5, True)', () => F.featureAlphaDropout(img, 0.5, true)],
      ['F.layer_norm(x, (4,), w)', () => F.layerNorm(x, [4], w)],
      ['F.rms_norm(x, (4,), w)', () => F.rmsNorm(x, [4], w)],
      ['F.batch_norm(img, zero, one, ch, one)', () => F.batchNorm(img, zero, one, { weight: ch, bias: one })],
      [
        'F.batch_norm(img, None, None, training=True, eps=1e-3)',
        () => F.batchNorm(img, null, null, { training: true, eps: 1e-3 }),
      ],
      [
        '(lambda r: (F.batch_norm(sig, r, one.clone(), training=True), r))(zero.clone())',
        () => {
          const mean = zero.clone();
          return [F.batchNorm(sig, mean, one.clone(), { training: true }), mean];
        },
      ],
      ['F.instance_norm(img, weight=ch)', () => F.instanceNorm(img, { weight: ch })],
      [
        'F.instance_norm(img, zero, one, use_input_stats=False)',
        () => F.instanceNorm(img, { runningMean: zero, runningVar: one, useInputStats: false }),
      ],
      ['F.group_norm(img, 3, ch, one)', () => F.groupNorm(img, 3, { weight: ch, bias: one })],
      ['F.local_response_norm(img, 2)', () => F.localResponseNorm(img, 2)],
      [
        'F.local_response_norm(sig, 3, alpha=0.5, beta=0.5, k=2.)',
        () => F.localResponseNorm(sig, 3, { alpha: 0.5, beta: 0.5, k: 2 }),
      ],
      ['F.normalize(x)', () => F.normalize(x)],
      ['F.normalize(img, p=1, dim=(2, 3))', () => F.normalize(img, { p: 1, dim: [2, 3] })],
      ['F.embedding(c, t.view(4, 3))', () => F.embedding(c, t.view(4, 3))],
      ['F.embedding_bag(c.view(1, 3), t.view(4, 3))', () => F.embeddingBag(c.view(1, 3), t.view(4, 3))],
      [
        "F.embedding_bag(c, t.view(4, 3), torch.tensor([0, 2]), mode='max')",
        () => F.embeddingBag(c, t.view(4, 3), { offsets: tensor([0, 2]), mode: 'max' }),
      ],
      [
        "F.embedding_bag(c.view(3, 1), t.view(4, 3), mode='sum', per_sample_weights=ch.view(3, 1), padding_idx=0)",
        () =>
          F.embeddingBag(c.view(3, 1), t.view(4, 3), { mode: 'sum', perSampleWeights: ch.view(3, 1), paddingIdx: 0 }),
      ],
      ['F.one_hot(c, 5)', () => F.oneHot(c, 5)],
      ['F.cosine_similarity(x, t)', () => F.cosineSimilarity(x, t)],
      ['F.pairwise_distance(x, t)', () => F.pairwiseDistance(x, t)],
    ]);
  },
  pythonTimeout,
);

test(
  'convolution, pooling and images are those of Python, to the bit',
  () => {
    const { img, sig, vol, theta, x } = here();
    const corners = { mode: 'bilinear', alignCorners: true } as const;
    return expectSameAsPython(setup, [
      [
        'F.conv2d(img, img[:, :, :2, :2], padding=1)',
        () => F.conv2d(img, img.at(':', ':', ':2', ':2'), { padding: 1 }),
      ],
      [
        'F.conv_transpose1d(sig, sig.transpose(0, 1), stride=2)',
        () => F.convTranspose1d(sig, sig.transpose(0, 1), { stride: 2 }),
      ],
      ['F.max_pool2d(img, 2)', () => F.maxPool2d(img, 2)],
      [
        'F.max_pool2d(img, 2, 1, 1, return_indices=True)',
        () => F.maxPool2d(img, 2, { stride: 1, padding: 1, returnIndices: true }),
      ],
      ['F.max_pool1d(sig, 2, 1)', () => F.maxPool1d(sig, 2, 1)],
      ['F.max_pool3d(vol, (1, 2, 2))', () => F.maxPool3d(vol, [1, 2, 2])],
      ['F.avg_pool2d(img, 3, 1, 1)', () => F.avgPool2d(img, 3, 1, 1)],
      ['F.adaptive_max_pool2d(img, 3)', () => F.adaptiveMaxPool2d(img, 3)],
      [
        'F.adaptive_max_pool1d(sig, 3, return_indices=True)',
        () => F.adaptiveMaxPool1d(sig, 3, { returnIndices: true }),
      ],
      ['F.adaptive_avg_pool3d(vol, (1, 2, 3))', () => F.adaptiveAvgPool3d(vol, [1, 2, 3])],
      [
        'F.max_unpool2d(*F.max_pool2d(img, 2, return_indices=True), 2)',
        () => F.maxUnpool2d(...F.maxPool2d(img, 2, { returnIndices: true }), 2),
      ],
      [
        'F.max_unpool1d(*F.max_pool1d(sig, 2, return_indices=True), 2, output_size=[5])',
        () => F.maxUnpool1d(...F.maxPool1d(sig, 2, { returnIndices: true }), 2, { outputSize: [5] }),
      ],
      [
        'F.max_unpool3d(*F.max_pool3d(vol, 2, return_indices=True), 2)',
        () => F.maxUnpool3d(...F.maxPool3d(vol, 2, { returnIndices: true }), 2),
      ],
      ['F.lp_pool1d(sig, 2, 2)', () => F.lpPool1d(sig, 2, 2)],
      [
        'F.lp_pool2d(img, 3, (2, 1), stride=1, ceil_mode=True)',
        () => F.lpPool2d(img, 3, [2, 1], { stride: 1, ceilMode: true }),
      ],
      ['F.pad(img, (1, 2))', () => F.pad(img, [1, 2])],
      ["F.pad(img, (1, 1, 2, 0), mode='reflect')", () => F.pad(img, [1, 1, 2, 0], { mode: 'reflect' })],
      ['F.pad(x, (0, 1), value=2.5)', () => F.pad(x, [0, 1], { value: 2.5 })],
      ['F.pixel_shuffle(img.repeat(1, 4, 1, 1), 2)', () => F.pixelShuffle(img.repeat(1, 4, 1, 1), 2)],
      ['F.unfold(img, 2, padding=1)', () => F.unfold(img, 2, { padding: 1 })],
      ['F.fold(F.unfold(img, (2, 1)), (4, 4), (2, 1))', () => F.fold(F.unfold(img, [2, 1]), [4, 4], [2, 1])],
      ['F.affine_grid(theta, (2, 3, 4, 5))', () => F.affineGrid(theta, [2, 3, 4, 5])],
      [
        "F.grid_sample(img, F.affine_grid(theta, (2, 3, 4, 5), align_corners=True), mode='bicubic', padding_mode='reflection')",
        () =>
          F.gridSample(img, F.affineGrid(theta, [2, 3, 4, 5], { alignCorners: true }), {
            mode: 'bicubic',
            paddingMode: 'reflection',
          }),
      ],
      ['F.interpolate(img, 7)', () => F.interpolate(img, { size: 7 })],
      ['F.interpolate(sig, scale_factor=1.7)', () => F.interpolate(sig, { scaleFactor: 1.7 })],
      [
        "F.interpolate(vol, (3, 5, 6), mode='trilinear')",
        () => F.interpolate(vol, { size: [3, 5, 6], mode: 'trilinear' }),
      ],
      ["F.interpolate(sig, 9, mode='linear')", () => F.interpolate(sig, { size: 9, mode: 'linear' })],
      [
        "F.interpolate(img, scale_factor=(1.5, 0.6), mode='bilinear', align_corners=True)",
        () => F.interpolate(img, { scaleFactor: [1.5, 0.6], ...corners }),
      ],
      [
        "F.interpolate(img, scale_factor=1.3, mode='bicubic', recompute_scale_factor=True)",
        () => F.interpolate(img, { scaleFactor: 1.3, mode: 'bicubic', recomputeScaleFactor: true }),
      ],
      [
        "F.interpolate(img, 3, mode='bilinear', antialias=True)",
        () => F.interpolate(img, { size: 3, mode: 'bilinear', antialias: true }),
      ],
      [
        "F.interpolate(img, scale_factor=0.7, mode='bicubic', antialias=True)",
        () => F.interpolate(img, { scaleFactor: 0.7, mode: 'bicubic', antialias: true }),
      ],
      [
        "F.interpolate(img, scale_factor=0.5, mode='area')",
        () => F.interpolate(img, { scaleFactor: 0.5, mode: 'area' }),
      ],
      ["F.interpolate(img, 5, mode='nearest-exact')", () => F.interpolate(img, { size: 5, mode: 'nearest-exact' })],
    ]);
  },
  pythonTimeout,
);

test('wrong arguments are named', () => {
  tidy(() => {
    const img = zeros(1, 1, 4, 4);
    expect(() => F.interpolate(img, {})).toThrow('give either size or scaleFactor');
    expect(() => F.interpolate(img, { size: [1, 2, 3] })).toThrow('an integer, or 2 of them');
    expect(() => F.interpolate(img, { size: 2, mode: 'linear' })).toThrow(
      'takes the modes nearest, nearest-exact, bilinear',
    );
    expect(() => F.interpolate(img, { size: 2, alignCorners: true })).toThrow('alignCorners is for');
    expect(() => F.gridSample(img, zeros(1, 2, 2, 2), { mode: 'cubic' as never })).toThrow(
      "'bilinear', 'nearest' or 'bicubic'",
    );
    expect(() => F.l1Loss(img, img, { reduction: 'avg' as never })).toThrow("must be 'none', 'mean' or 'sum'");
    expect(() => F.gaussianNllLoss(img, img, -1)).toThrow('a variance is negative');
    expect(() => F.batchNorm(img, null, null, { train: true } as never)).toThrow("unknown option 'train'");
    expect(() => F.maxPool2d(img, 2, { returnIndeces: true } as never)).toThrow('returnIndeces');
    expect(() => F.embeddingBag(tensor([1]), full([2, 2], 1.5))).toThrow('expected offsets');
  });
});
