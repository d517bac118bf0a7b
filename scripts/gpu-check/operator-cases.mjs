// Calls of operators for the check against the CPU: names in groups, each with the arguments that its group takes.

const words = (text) => text.trim().split(/\s+/);

/** Groups whose operators take one tensor; `domain` makes its values such as the functions are defined for. */
const UNARY = [
  [
    'elementwise',
    'any',
    `abs sin cos tan sinh cosh tanh asinh atan exp exp2 expm1 erf erfc sigmoid logSigmoid relu relu6 gelu
    silu mish softplus softsign hardtanh hardswish hardsigmoid elu selu celu leakyRelu square neg negative positive sign sgn
    ceil floor round trunc frac fix deg2rad rad2deg sinc isfinite isinf isnan signbit nanToNum logit digamma lgamma`,
  ],
  ['elementwise', 'positive', 'sqrt rsqrt log log2 log10 log1p reciprocal i0 mvlgamma1 acosh1 xlog'],
  ['elementwise', 'unit', 'asin acos atanh arcsin arccos arctanh erfinv'],
  [
    'reductions',
    'any',
    `sum mean prod std var max min amax amin argmax argmin all anyOf norm logsumexp1 cumsum1 cumprod1 cummax1
    cummin1 logcumsumexp1 median nanmedian nansum nanmean sumDim meanDim prodDim stdDim varDim amaxDim aminDim maxDim minDim
    medianDim stdMean varMean aminmax countNonzero softmax1 logSoftmax1 normDim kthvalue mode quantile nanquantile`,
  ],
  [
    'shapes',
    'any',
    `t flatten ravel squeeze unsqueeze0 transpose01 permute10 reshape view expand repeat tile flip fliplr flipud
    roll rot90 narrow select unbind chunk split tril triu diag diagonal diagEmbed unfold movedim swapaxes contiguous clone
    detach pad broadcastTo unflatten hsplit vsplit tensorSplit catSelf stackSelf trace repeatInterleave asStrided`,
  ],
  [
    'linear algebra',
    'square',
    `det inverse slogdet matrixExp matrixPower pinverse choleskyOf qrR eighValues svdValues lu solve
    lstsq linalgNorm linalgCond matrixNorm vectorNorm multiDot crossOf tensorinv`,
  ],
  ['Fourier', 'any', 'fft ifftReal rfft irfft fft2 rfft2 fftshift ifftshift hfft stft'],
];

/** What a name means where it is not the operator itself with one tensor. */
const FORMS = {
  mvlgamma1: (tb, x) => tb.mvlgamma(x.add(2), 2),
  acosh1: (tb, x) => tb.acosh(x.add(1)),
  xlog: (tb, x) => tb.xlogy(x, x),
  logit: (tb, x) => tb.logit(x.sigmoid()),
  digamma: (tb, x) => tb.digamma(x.abs().add(1)),
  lgamma: (tb, x) => tb.lgamma(x.abs().add(1)),
  anyOf: (tb, x) => tb.any(x.gt(0)),
  all: (tb, x) => tb.all(x.gt(0)),
  logsumexp1: (tb, x) => x.logsumexp([1]),
  cumsum1: (tb, x) => x.cumsum(1),
  cumprod1: (tb, x) => x.cumprod(1),
  cummax1: (tb, x) => x.cummax(1)[0],
  cummin1: (tb, x) => x.cummin(1)[0],
  logcumsumexp1: (tb, x) => x.logcumsumexp(1),
  nanmean: (tb, x) => x.nanmean(),
  sumDim: (tb, x) => x.sum([1]),
  meanDim: (tb, x) => x.mean([1]),
  prodDim: (tb, x) => x.prod(1),
  stdDim: (tb, x) => x.std([1]),
  varDim: (tb, x) => x.var([1]),
  amaxDim: (tb, x) => x.amax([1]),
  aminDim: (tb, x) => x.amin([1]),
  maxDim: (tb, x) => x.max(1)[0],
  minDim: (tb, x) => x.min(1)[0],
  medianDim: (tb, x) => x.median(1)[0],
  stdMean: (tb, x) => tb.stdMean(x, [1])[0],
  varMean: (tb, x) => tb.varMean(x, [1])[1],
  aminmax: (tb, x) => tb.aminmax(x.detach())[1], // 2.11 has no derivative of it, nor of nextafter
  softmax1: (tb, x) => x.softmax(1),
  logSoftmax1: (tb, x) => x.logSoftmax(1),
  normDim: (tb, x) => x.norm(2, { dim: 1 }),
  kthvalue: (tb, x) => x.kthvalue(2, 1)[0],
  mode: (tb, x) => tb.cat([x, x.narrow(1, 0, 1)], 1).mode(1)[0], // the only value that comes twice
  quantile: (tb, x) => x.quantile(0.3),
  nanquantile: (tb, x) => x.nanquantile(0.7),
  contiguous: (tb, x) => x.t().contiguous(),
  unsqueeze0: (tb, x) => x.unsqueeze(0),
  transpose01: (tb, x) => x.transpose(0, 1),
  permute10: (tb, x) => x.permute([1, 0]),
  reshape: (tb, x) => x.reshape([-1]),
  view: (tb, x) => x.view([-1, 2]),
  expand: (tb, x) => x.expand([3, ...x.shape]),
  repeat: (tb, x) => x.repeat([2, 1]),
  tile: (tb, x) => tb.tile(x, [1, 2]),
  flip: (tb, x) => x.flip([0]),
  roll: (tb, x) => x.roll([1], [0]),
  rot90: (tb, x) => tb.rot90(x, 1, [0, 1]),
  narrow: (tb, x) => x.narrow(1, 1, 3),
  select: (tb, x) => x.select(0, 1),
  unbind: (tb, x) => x.unbind(0)[1],
  chunk: (tb, x) => x.chunk(2, 1)[1],
  split: (tb, x) => x.split(2, 1)[1],
  diagonal: (tb, x) => x.diagonal(),
  unfold: (tb, x) => x.unfold(1, 2, 2),
  movedim: (tb, x) => tb.movedim(x, 0, 1),
  swapaxes: (tb, x) => tb.swapaxes(x, 0, 1),
  pad: (tb, x) => tb.nn.functional.pad(x, [1, 2]),
  broadcastTo: (tb, x) => x.broadcastTo([2, ...x.shape]),
  unflatten: (tb, x) => x.unflatten(1, [2, -1]),
  hsplit: (tb, x) => tb.hsplit(x, 2)[1],
  vsplit: (tb, x) => tb.vsplit(x, 2)[1],
  tensorSplit: (tb, x) => tb.tensorSplit(x, 2, 1)[0],
  catSelf: (tb, x) => tb.cat([x, x], 1),
  stackSelf: (tb, x) => tb.stack([x, x], 1),
  repeatInterleave: (tb, x) => x.repeatInterleave(2, { dim: 0 }),
  asStrided: (tb, x) => x.asStrided([2, 2], [1, 2]),
  det: (tb, x) => tb.linalg.det(x),
  slogdet: (tb, x) => tb.linalg.slogdet(x)[1],
  matrixExp: (tb, x) => tb.matrixExp(x.mul(0.1)),
  matrixPower: (tb, x) => tb.linalg.matrixPower(x, 3),
  choleskyOf: (tb, x) => tb.linalg.cholesky(x.matmul(x.t()).add(tb.eye(x.size(0), { device: x.device }))),
  qrR: (tb, x) => tb.linalg.qr(x)[1].abs(),
  eighValues: (tb, x) => tb.linalg.eigvalsh(x.add(x.t())),
  svdValues: (tb, x) => tb.linalg.svdvals(x),
  lu: (tb, x) => tb.linalg.lu(x)[2],
  solve: (tb, x) => tb.linalg.solve(x, x.t()),
  lstsq: (tb, x) => tb.linalg.lstsq(x, x.t())[0],
  linalgNorm: (tb, x) => tb.linalg.norm(x),
  linalgCond: (tb, x) => tb.linalg.cond(x),
  matrixNorm: (tb, x) => tb.linalg.matrixNorm(x),
  vectorNorm: (tb, x) => tb.linalg.vectorNorm(x),
  multiDot: (tb, x) => tb.linalg.multiDot([x, x, x]),
  crossOf: (tb, x) => tb.linalg.cross(x.narrow(1, 0, 3), x.narrow(1, 1, 3)),
  tensorinv: (tb, x) => tb.linalg.inv(x),
  fft: (tb, x) => tb.viewAsReal(tb.fft.fft(x)),
  ifftReal: (tb, x) => tb.viewAsReal(tb.fft.ifft(x).resolveConj()),
  rfft: (tb, x) => tb.viewAsReal(tb.fft.rfft(x)),
  irfft: (tb, x) => tb.fft.irfft(tb.fft.rfft(x)),
  fft2: (tb, x) => tb.viewAsReal(tb.fft.fft2(x)),
  rfft2: (tb, x) => tb.viewAsReal(tb.fft.rfft2(x)),
  fftshift: (tb, x) => tb.fft.fftshift(x),
  ifftshift: (tb, x) => tb.fft.ifftshift(x),
  hfft: (tb, x) => tb.fft.hfft(tb.fft.rfft(x)),
  stft: (tb, x) =>
    tb.viewAsReal(tb.stft(x.reshape([-1]), 8, { returnComplex: true, window: tb.ones(8, { device: x.device }) })),
};

/** Operators of two tensors of one shape. */
const BINARY =
  words(`add sub mul div maximum minimum fmax fmin hypot atan2 copysign dist where lerp addcmul addcdiv eq ne lt le gt
  ge logaddexp logaddexp2 heaviside logicalAnd logicalOr logicalXor nextafter floorDivide remainder fmod pow xlogy subtract
  multiply divide trueDivide ldexp isclose allclose rsub crossEntropySoft`);
const BINARY_FORMS = {
  where: (tb, a, b) => tb.where(a.gt(b), a, b),
  lerp: (tb, a, b) => tb.lerp(a, b, 0.3),
  addcmul: (tb, a, b) => tb.addcmul(a, a, b),
  addcdiv: (tb, a, b) => tb.addcdiv(a, a, b.abs().add(1)),
  nextafter: (tb, a, b) => tb.nextafter(a.detach(), b.detach()),
  heaviside: (tb, a, b) => tb.heaviside(a.detach(), b.detach()),
  logicalAnd: (tb, a, b) => tb.logicalAnd(a.gt(0), b.gt(0)),
  logicalOr: (tb, a, b) => tb.logicalOr(a.gt(0), b.gt(0)),
  logicalXor: (tb, a, b) => tb.logicalXor(a.gt(0), b.gt(0)),
  div: (tb, a, b) => a.div(b.abs().add(1)),
  divide: (tb, a, b) => tb.divide(a, b.abs().add(1)),
  trueDivide: (tb, a, b) => tb.trueDivide(a, b.abs().add(1)),
  floorDivide: (tb, a, b) => tb.floorDivide(a.detach().mul(10), b.detach().abs().add(1)),
  remainder: (tb, a, b) => tb.remainder(a, b.abs().add(1)),
  fmod: (tb, a, b) => tb.fmod(a, b.abs().add(1)),
  pow: (tb, a, b) => tb.pow(a.abs().add(0.1), b),
  xlogy: (tb, a, b) => tb.xlogy(a, b.abs().add(0.1)),
  ldexp: (tb, a, b) => tb.ldexp(a, b.round().detach()),
  allclose: (tb, a, b) => tb.tensor([tb.allclose(a, b) ? 1 : 0]),
  crossEntropySoft: (tb, a, b) => tb.nn.functional.crossEntropy(a, b.softmax(1)),
};

const f = (tb) => tb.nn.functional;
const image = (x) => x.reshape([1, 2, 4, -1]); // (N, C, H, W) of (8, 6)
const kernel = (tb, x) => tb.ones(3, 2, 3, 3, { device: x.device }).mul(0.1);
const integers = (tb, x, count, below) => tb.arange(count, { device: x.device }).remainder(below);
const heads = (x) => x.reshape([1, 2, 4, 6]); // (B, nh, T, hs)

/** Operators of networks and of indices, of one tensor (8, 6). */
const NETWORKS = {
  linear: (tb, x) => f(tb).linear(x, x.narrow(0, 0, 3)),
  matmul: (tb, x) => x.matmul(x.t()),
  mm: (tb, x) => tb.mm(x, x.t()),
  bmm: (tb, x) => tb.bmm(x.reshape([2, 4, 6]), x.reshape([2, 6, 4])),
  baddbmm: (tb, x) => tb.baddbmm(x.reshape([2, 4, 6]), x.reshape([2, 4, 6]), tb.ones(2, 6, 6, { device: x.device })),
  addmm: (tb, x) => tb.addmm(x, x, tb.eye(6, { device: x.device })),
  addmv: (tb, x) => tb.addmv(x.select(1, 0), x, x.select(0, 0)),
  addr: (tb, x) => tb.addr(x, x.select(1, 0), x.select(0, 0)),
  mv: (tb, x) => tb.mv(x, x.select(0, 1)),
  dot: (tb, x) => tb.dot(x.select(0, 0), x.select(0, 1)),
  outer: (tb, x) => tb.outer(x.select(0, 0), x.select(0, 1)),
  kron: (tb, x) => tb.kron(x.narrow(0, 0, 2), x.narrow(0, 2, 2)),
  einsum: (tb, x) => tb.einsum('ij,kj->ik', x, x),
  tensordot: (tb, x) => tb.tensordot(x, x, [[1], [1]]),
  cdist: (tb, x) => tb.cdist(x.narrow(0, 0, 4), x.narrow(0, 4, 4)),
  layerNorm: (tb, x) => f(tb).layerNorm(x, [6]),
  rmsNorm: (tb, x) => f(tb).rmsNorm(x, [6]),
  groupNorm: (tb, x) => f(tb).groupNorm(image(x), 2),
  instanceNorm: (tb, x) => f(tb).instanceNorm(image(x)),
  batchNorm: (tb, x) => f(tb).batchNorm(image(x), null, null, { training: true }),
  localResponseNorm: (tb, x) => f(tb).localResponseNorm(image(x), 2),
  normalize: (tb, x) => f(tb).normalize(x),
  softmax: (tb, x) => f(tb).softmax(x, -1),
  logSoftmax: (tb, x) => f(tb).logSoftmax(x, -1),
  softmin: (tb, x) => f(tb).softmin(x, -1),
  glu: (tb, x) => f(tb).glu(x),
  prelu: (tb, x) => f(tb).prelu(x, tb.full([1], 0.2, { device: x.device })),
  threshold: (tb, x) => f(tb).threshold(x, 0.1, 0.5),
  hardshrink: (tb, x) => f(tb).hardshrink(x),
  softshrink: (tb, x) => f(tb).softshrink(x),
  tanhshrink: (tb, x) => f(tb).tanhshrink(x),
  crossEntropy: (tb, x) => f(tb).crossEntropy(x, integers(tb, x, 8, 6)),
  nllLoss: (tb, x) => f(tb).nllLoss(x.logSoftmax(1), integers(tb, x, 8, 6)),
  mseLoss: (tb, x) => f(tb).mseLoss(x, x.detach().flip([0])),
  l1Loss: (tb, x) => f(tb).l1Loss(x, x.detach().flip([0])),
  smoothL1Loss: (tb, x) => f(tb).smoothL1Loss(x, x.detach().flip([0])),
  huberLoss: (tb, x) => f(tb).huberLoss(x, x.detach().flip([0])),
  klDiv: (tb, x) => f(tb).klDiv(x.logSoftmax(1), x.detach().softmax(1), { reduction: 'sum' }),
  bceLogits: (tb, x) => f(tb).binaryCrossEntropyWithLogits(x, x.detach().sigmoid()),
  bce: (tb, x) => f(tb).binaryCrossEntropy(x.sigmoid(), x.detach().sigmoid()),
  cosineSimilarity: (tb, x) => f(tb).cosineSimilarity(x, x.flip([0])),
  pairwiseDistance: (tb, x) => f(tb).pairwiseDistance(x, x.flip([0])),
  marginRanking: (tb, x) => f(tb).marginRankingLoss(x, x.flip([0]), x.detach().sign()),
  hingeEmbedding: (tb, x) => f(tb).hingeEmbeddingLoss(x, x.detach().sign()),
  softMargin: (tb, x) => f(tb).softMarginLoss(x, x.detach().sign()),
  multiMargin: (tb, x) => f(tb).multiMarginLoss(x, integers(tb, x, 8, 6)),
  gaussianNll: (tb, x) => f(tb).gaussianNllLoss(x, x.detach().flip([0]), x.detach().abs().add(0.5)),
  poissonNll: (tb, x) => f(tb).poissonNllLoss(x, x.detach().abs()),
  tripletMargin: (tb, x) => f(tb).tripletMarginLoss(x, x.flip([0]), x.detach().mul(2)),
  conv1d: (tb, x) => f(tb).conv1d(x.reshape([2, 4, 6]), tb.ones(3, 4, 3, { device: x.device })),
  conv2d: (tb, x) => f(tb).conv2d(image(x), kernel(tb, x), undefined, { padding: 1 }),
  convTranspose2d: (tb, x) => f(tb).convTranspose2d(image(x), tb.ones(2, 3, 3, 3, { device: x.device })),
  maxPool2d: (tb, x) => f(tb).maxPool2d(image(x), 2),
  avgPool2d: (tb, x) => f(tb).avgPool2d(image(x), 2),
  adaptiveAvgPool2d: (tb, x) => f(tb).adaptiveAvgPool2d(image(x), [2, 2]),
  adaptiveMaxPool2d: (tb, x) => f(tb).adaptiveMaxPool2d(image(x), [2, 2]),
  lpPool2d: (tb, x) => f(tb).lpPool2d(image(x).abs(), 2, 2),
  interpolate: (tb, x) => f(tb).interpolate(image(x), { scaleFactor: 2, mode: 'bilinear', alignCorners: false }),
  pixelShuffle: (tb, x) => f(tb).pixelShuffle(x.reshape([1, 4, 3, 4]), 2),
  unfoldImage: (tb, x) => f(tb).unfold(image(x), 2),
  gridSample: (tb, x) =>
    f(tb).gridSample(image(x), image(x).permute([0, 2, 3, 1]).detach().tanh(), { alignCorners: false }),
  embedding: (tb, x) => f(tb).embedding(integers(tb, x, 5, 8), x),
  oneHot: (tb, x) => f(tb).oneHot(integers(tb, x, 5, 4), 4),
  attention: (tb, x) => f(tb).scaledDotProductAttention(heads(x), heads(x), heads(x)),
  causalAttention: (tb, x) => f(tb).scaledDotProductAttention(heads(x), heads(x), heads(x), { isCausal: true }),
  maskedAttention: (tb, x) =>
    f(tb).scaledDotProductAttention(heads(x), heads(x), heads(x), {
      attnMask: tb.ones(4, 4, { device: x.device }).tril().bool(),
    }),
  bilinear: (tb, x) => f(tb).bilinear(x, x, tb.ones(2, 6, 6, { device: x.device })),
  indexSelect: (tb, x) => x.indexSelect(0, integers(tb, x, 5, 8)),
  gather: (tb, x) => x.gather(0, integers(tb, x, 12, 8).reshape([2, 6])),
  scatter: (tb, x) => x.scatter(0, integers(tb, x, 6, 8).reshape([1, 6]), x.narrow(0, 0, 1)),
  scatterAdd: (tb, x) => x.scatterAdd(0, integers(tb, x, 12, 8).reshape([2, 6]), x.narrow(0, 0, 2)),
  scatterReduce: (tb, x) => x.scatterReduce(0, integers(tb, x, 12, 8).reshape([2, 6]), x.narrow(0, 0, 2), 'amax'),
  indexAdd: (tb, x) => x.indexAdd(0, integers(tb, x, 5, 8), x.narrow(0, 0, 5)),
  indexCopy: (tb, x) => x.indexCopy(0, integers(tb, x, 5, 8), x.narrow(0, 2, 5)),
  indexFill: (tb, x) => x.indexFill(0, integers(tb, x, 3, 8), 0.5),
  maskedFill: (tb, x) => x.maskedFill(x.gt(0), 0.5),
  maskedSelect: (tb, x) => x.maskedSelect(x.gt(0)),
  takeAlongDim: (tb, x) => tb.takeAlongDim(x, integers(tb, x, 12, 8).reshape([2, 6]), 0),
  take: (tb, x) => x.take(integers(tb, x, 7, 48)),
  nonzero: (tb, x) => x.gt(0).nonzero(),
  sort: (tb, x) => x.sort(1)[0],
  argsort: (tb, x) => x.argsort(1),
  topk: (tb, x) => x.topk(3, 1)[0],
  msort: (tb, x) => tb.msort(x),
  searchsorted: (tb, x) => tb.searchsorted(x.sort(1)[0], x),
  bucketize: (tb, x) => tb.bucketize(x, tb.arange(-2, 3, { device: x.device }).float()),
  histc: (tb, x) => tb.histc(x, 5, -2, 2),
  bincount: (tb, x) => tb.bincount(integers(tb, x, 20, 6)),
  unique: (tb, x) => tb.unique(x.detach().round()),
  cumulativeTrapezoid: (tb, x) => tb.cumulativeTrapezoid(x),
  trapezoid: (tb, x) => tb.trapezoid(x),
  diff: (tb, x) => tb.diff(x),
  gradientOf: (tb, x) => tb.renorm(x, 2, 0, 1.5),
  clamp: (tb, x) => x.clamp(-0.5, 0.5),
  clampMin: (tb, x) => x.clampMin(0.1),
  clip: (tb, x) => tb.clip(x, -0.3, 0.3),
  where2: (tb, x) => tb.where(x.gt(0), x, x.mul(0.1)),
  toHalf: (tb, x) => x.half().float(),
  toBfloat16: (tb, x) => x.bfloat16().float(),
  toInt: (tb, x) => x.mul(10).to('int32'),
  complexMul: (tb, x) => tb.viewAsReal(tb.complex(x, x.flip([0])).mul(tb.complex(x, x))),
  polar: (tb, x) => tb.viewAsReal(tb.polar(x.abs(), x)),
  entr: (tb, x) => tb.special.entr(x.abs()),
  erfcx: (tb, x) => tb.special.erfcx(x),
  i0e: (tb, x) => tb.special.i0e(x),
  i1: (tb, x) => tb.special.i1(x),
  i1e: (tb, x) => tb.special.i1e(x),
  ndtr: (tb, x) => tb.special.ndtr(x),
  ndtri: (tb, x) => tb.special.ndtri(x.sigmoid()),
  logNdtr: (tb, x) => tb.special.logNdtr(x),
  zeta: (tb, x) => tb.special.zeta(x.detach().abs().add(2), x.abs().add(1)),
  besselJ0: (tb, x) => tb.special.besselJ0(x.detach()),
  polygamma: (tb, x) => tb.polygamma(1, x.abs().add(1)),
  bitwiseAnd: (tb, x) => x.mul(10).to('int32').bitwiseAnd(7),
  bitwiseXor: (tb, x) => x.mul(10).to('int32').bitwiseXor(5),
  leftShift: (tb, x) => x.mul(10).to('int32').bitwiseLeftShift(2),
  gcd: (tb, x) => tb.gcd(x.mul(20).to('int32'), tb.full([6], 6, { device: x.device, dtype: 'int32' })),
  meshgrid: (tb, x) => tb.meshgrid([x.select(0, 0), x.select(0, 1)], { indexing: 'ij' })[0],
  blockDiag: (tb, x) => tb.blockDiag([x, x]),
  cov: (tb, x) => tb.cov(x),
  corrcoef: (tb, x) => tb.corrcoef(x),
  vander: (tb, x) => tb.vander(x.detach().select(0, 0), 3),
  combinations: (tb, x) => tb.combinations(x.select(0, 0)),
};

const DOMAINS = {
  any: (x) => x,
  positive: (x) => x.abs().add(0.1),
  unit: (x) => x.tanh().mul(0.9),
  square: (x) => x.narrow(0, 0, 6),
};

/** `{ group, name, inputs, call }`: `call(tb, ...tensors)` of as many tensors (8, 6). */
export function operatorCases() {
  const unary = UNARY.flatMap(([group, domain, names]) =>
    words(names).map((name) => {
      const form = FORMS[name] ?? ((tb, x) => tb[name]?.(x) ?? tb.nn.functional[name](x));
      return { group, name, inputs: 1, call: (tb, x) => form(tb, DOMAINS[domain](x)) };
    }),
  );
  const binary = BINARY.map((name) => {
    const form = BINARY_FORMS[name] ?? ((tb, a, b) => tb[name](a, b));
    return { group: 'two tensors', name, inputs: 2, call: form };
  });
  const networks = Object.entries(NETWORKS).map(([name, call]) => ({
    group: 'networks and indices',
    name,
    inputs: 1,
    call,
  }));
  return [...unary, ...binary, ...networks];
}
