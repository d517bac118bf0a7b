// A valid call of every function, class and method of the package that is written by hand. `Class#method` is called on the
// first of its arguments. A call may end what it made through `use`, and finds a few files in the working directory.
const torch = require('../../../dist/index.js');
const { Adagrad, Adam, AdamW, SGD } = torch.optim;
const { nn, tensor, ones, randn } = torch;
const functionals = require('./functionals.cjs');

const config = () => ({ vocabSize: 8, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4, dropout: 0, bias: true });
const place = () => ({ device: 'cpu', dtype: 'float32' });
const text = 'abcdefg hhgfedcba abcdefg';
const chars = [...'abcdefgh'];
const tokenizer = () => new torch.CharTokenizer([...'abcdefg h'].sort());
const leaf = () => randn(2, 3).requiresGrad_();
const ids = () => tensor([[1, 2]]);
const tokens = () => Int32Array.from({ length: 40 }, (_, i) => i % 8);

/** Disposed of after the call. */
const made = [];
function use(value) {
  made.push(value);
  return value;
}
function endAll() {
  for (const value of made.splice(0)) {
    if (value instanceof nn.Module) for (const tensor of [...value.parameters(), ...value.buffers()]) tensor.dispose();
    else value.dispose();
  }
}

const gpt = (options) => use(new torch.GPT({ ...config(), vocabSize: 9 }, { tokenizer: tokenizer(), ...options }));
const linear = () => use(new nn.Linear(3, 2));
const quantizedLinear = () => use(nn.QuantizedLinear.from(linear(), { bits: 8, groupSize: null }));

/** The sweep is the only rank of its group: test/distributed makes these calls with two. */
const elsewhere = 'there is no such rank';
const inGroup = [
  ['initProcessGroup', () => [{ ...group(), timeout: 60_000, separateAttempts: true }], 'there is a group'],
  ['isInitialized', () => []],
  ['rank', () => []],
  ['worldSize', () => []],
  ['getBackend', () => []],
  ['newGroup', () => [[0], { timeout: 1000 }]],
  ['ProcessGroup', () => ['0', [0], 0, 1000]],
  ['ProcessGroup#size', () => [new torch.distributed.ProcessGroup('0', [0], 0, 1000)]],
  ['allReduce', () => [ones(1), { op: 'sum' }]],
  ['reduce', () => [ones(1), { op: 'sum', dst: 0 }]],
  ['broadcast', () => [ones(1), { src: 0 }]],
  ['allGather', () => [ones(1), {}]],
  ['reduceScatter', () => [[ones(1)], { op: 'sum' }]],
  ['gather', () => [ones(1), { dst: 0 }]],
  ['scatter', () => [ones(1), [ones(1)], { src: 0 }]],
  ['allToAll', () => [[ones(1)], {}]],
  ['send', () => [ones(1), 1, { tag: 0 }], elsewhere],
  ['recv', () => [ones(1), 1, { tag: 0 }], elsewhere],
  ['barrier', () => [{}]],
  ['allGatherObject', () => [1, {}]],
  ['gatherObject', () => [1, { dst: 0 }]],
  ['broadcastObject', () => [1, { src: 0 }]],
  ['broadcastObjectList', () => [[1], { src: 0 }]],
];
const group = () => ({ backend: 'gloo', rank: 0, worldSize: 1, masterAddress: '127.0.0.1', masterPort: 0 });
const { DistributedDataParallel } = nn.parallel;
const ddp = () => ({ broadcastBuffers: true, bucketCapMb: 25, findUnusedParameters: false });
const parallel = () => new DistributedDataParallel(linear(), ddp());
const distributedCalls = [
  ...inGroup.map(([name, ...call]) => [`distributed.${name}`, ...call]),
  ['nn.parallel.DistributedDataParallel', () => [linear(), ddp()]],
  ['nn.parallel.DistributedDataParallel.create', () => [DistributedDataParallel, linear(), ddp()]],
  ['nn.parallel.DistributedDataParallel#forward', () => [parallel(), ones(1, 3)]],
  ['nn.parallel.DistributedDataParallel#noSync', () => [parallel(), () => 1]],
  ['distributed.destroyProcessGroup', () => []],
];

const adamw = (layer = linear()) => new AdamW(layer.parameters(), { lr: 0.1 });
const withGrads = (layer = linear()) => {
  layer.forward(ones(1, 3)).sum().backward();
  return layer;
};
const lora = () => {
  const model = gpt();
  torch.applyLora(model, { rank: 2, alpha: 4 });
  return model;
};
const stepped = () => {
  const layer = withGrads();
  const optimizer = adamw(layer);
  optimizer.step();
  return optimizer;
};

class Double extends torch.autograd.Function {
  static forward(ctx, x) {
    ctx.saveForBackward(x);
    return torch.mul(x, 2);
  }
  static backward(ctx, grad) {
    return grad.mul(2);
  }
}

/** Calls a method of the context in the forward pass. */
const inForward = (method) => (args) => {
  class Probe extends torch.autograd.Function {
    static forward(ctx, x) {
      if (typeof ctx[method] === 'function') ctx[method](...args);
      return x.mul(2);
    }
    static backward(ctx, grad) {
      return grad;
    }
  }
  return Probe.apply(leaf());
};

const fitOptions = () => {
  const controller = new AbortController();
  return {
    text,
    dataOrder: 'random',
    maxSteps: 1,
    batchSize: 1,
    gradAccumulation: 1,
    learningRate: 1e-3,
    resumeLearningRate: 'keep',
    schedule: 'cosine',
    warmupSteps: 0,
    decaySteps: 2,
    minLearningRate: 0,
    weightDecay: 0.1,
    betas: [0.9, 0.95],
    precision: 'float32',
    activationCheckpointing: false,
    chunkedLoss: false,
    gradClip: 1,
    evalInterval: 1,
    evalSteps: 1,
    patience: 3,
    guard: { spikeFactor: 9, maxRollbacks: 1 },
    seed: 1,
    signal: controller.signal,
    handleSignals: false,
    startStep: 0,
    checkpointDir: 'run',
    saveEvery: 5,
    keep: { last: 1 },
    saveInBackground: false,
    onSaveError: 'stop',
    metrics: false,
    progressBar: false,
    onStep: () => controller.abort(),
    onEval: () => undefined,
    onSave: () => undefined,
  };
};

const saveOptions = () => ({ onProgress: () => undefined, signal: new AbortController().signal });
const signal = () => ({ signal: new AbortController().signal });
const draw = () => ({ generator: new torch.Generator() });
const window = () => ({ batchSize: 2, blockSize: 3 });
const keep = () => ({ last: 1, every: 2, best: 1, metric: 'val_loss', mode: 'min', optimizerLast: 1 });
const sampling = () => ({ maxNewTokens: 2, temperature: 1, topK: 2, topP: 0.9, greedy: false, seed: 1 });
const patient = () => ({ ...sampling(), signal: new AbortController().signal });
const manager = () => new torch.CheckpointManager('model', { root: '.' });

/**
 * [name, arguments, note, own way to call] of each valid call. The notes: `internal` for what users do not call,
 * `collection` for JavaScript's collections by another name, whose errors are JavaScript's, or why the call is refused.
 */
const calls = [
  ['TorchBindError', () => ['text', 'ERR_TORCHBIND_INVALID_ARGUMENT', { cause: 1 }]],
  ['CheckpointError', () => ['text', 'ERR_TORCHBIND_CHECKPOINT_OPEN', { offset: 1, record: 'x' }]],
  ['versions', () => []],

  // Tensors
  ['Slice', () => [0, 2, 1]],
  ['slice', () => [0, 2, 1]],
  ['unique', () => [tensor([1, 2, 1]), { sorted: true, returnInverse: true, returnCounts: true, dim: 0 }]],
  ['uniqueConsecutive', () => [tensor([1, 2, 1]), { returnInverse: true, returnCounts: true, dim: 0 }]],
  ...['atleast1d', 'atleast2d', 'atleast3d', 'broadcastTensors'].map((name) => [name, () => [ones(2), ones(3, 2)]]),
  ['cartesianProd', () => [ones(2), ones(3)]],
  ['blockDiag', () => [ones(2), ones(3)]],
  ['chainMatmul', () => [ones(2, 3), ones(3, 2)]],
  ['meshgrid', () => [ones(2), ones(3), { indexing: 'ij' }]],
  ['einsum', () => ['ij,jk->ik', ones(2, 3), ones(3, 2)]],
  ['tensordot', () => [ones(2, 3), ones(3, 2), 1]],
  ['norm', () => [ones(2, 3), { p: 2, dim: 0, keepdim: true, dtype: 'float64' }]],
  ['cdist', () => [ones(2, 3), ones(4, 3), { p: 2, computeMode: null }]],
  ['stft', () => [ones(64), 16, { hopLength: 4, winLength: 8, window: ones(8), center: true, returnComplex: true }]],
  ['broadcastShapes', () => [[2, 1], [3]]],
  ['unravelIndex', () => [tensor([1, 2]), [2, 3]]],
  ['finfo', () => ['float32']],
  ['iinfo', () => ['int32']],
  ['getDefaultDtype', () => []],
  ['setDefaultDtype', () => ['float32']],
  ['arange', () => [0, 4, 1, { dtype: 'int64', device: 'cpu', requiresGrad: false }]],
  ['asTensor', () => [[1, 2], place()]],
  ['empty', () => [[2, 3], { ...place(), requiresGrad: true }]],
  ['zeros', () => [2, 3, place()]],
  ['ones', () => [[2, 3], place()]],
  ['eye', () => [2, 3, place()]],
  ['fromTypedArray', () => [new Float32Array(6), [2, 3], 'float32']],
  ['full', () => [[2, 3], 1.5, place()]],
  ['isTensor', () => [ones(1)]],
  ['linspace', () => [0, 1, 5, place()]],
  ['rand', () => [[2], { ...place(), ...draw() }]],
  ['randn', () => [[2], { ...place(), ...draw() }]],
  ['randint', () => [0, 5, [3], { dtype: 'int64', ...draw() }]],
  ['randperm', () => [4, { dtype: 'int64', ...draw() }]],
  ['scalarTensor', () => [1.5, place()]],
  [
    'tensor',
    () => [
      [
        [1, 2],
        [3, 4],
      ],
      { ...place(), requiresGrad: true },
    ],
  ],
  ['dispose', () => [[ones(1), { a: ones(2) }]]],
  ['keep', () => [use(ones(1))]],
  ['memory', () => []],
  ['tidy', () => [() => ones(1)]],
  ['share', () => [ones(1)]],
  ['transfer', () => [ones(1)]],
  ['receive', () => [torch.share(ones(1))]],
  ['discard', () => [torch.share(ones(1))]],
  ['Generator', () => ['cpu']],
  ['Generator#manualSeed', () => [new torch.Generator(), 1]],
  ['Generator#getState', () => [new torch.Generator()]],
  ['Generator#setState', () => [new torch.Generator(), new torch.Generator().getState()]],
  ['getRngState', () => ['cpu']],
  ['setRngState', () => [torch.getRngState(), 'cpu']],
  ['manualSeed', () => [1]],
  ['getNumThreads', () => []],
  ...distributedCalls,
  ['setNumThreads', () => [1]],
  ['backends.cpu.getCpuCapability', () => []],
  ['backends.cpu.getKernels', () => []],
  ...['isAvailable', 'deviceCount', 'emptyCache', 'isTf32Supported', 'isCurrentStreamCapturing'].map((name) => [
    `cuda.${name}`,
    () => [],
  ]),
  ['cuda.isBf16Supported', () => [true]],
  ['cuda.device', () => ['cuda:0', () => 1], 'needs a device'],
  ['cuda.stream', () => [torch.cuda.currentStream(), () => 1], 'needs a device'],
  ['cuda.recordStream', () => [ones(1), torch.cuda.currentStream()], 'needs a device'],
  ['cuda.Stream', () => [{ device: 'cuda:0', priority: 0 }], 'needs a device'],
  ...['query', 'synchronize', 'synchronizeAsync', 'recordEvent'].map((name) => [
    `cuda.Stream#${name}`,
    () => [new torch.cuda.Stream()],
    'needs a device',
  ]),
  ['cuda.Stream#waitEvent', () => [new torch.cuda.Stream(), new torch.cuda.Event()], 'needs a device'],
  ...['waitStream', 'equals'].map((name) => [
    `cuda.Stream#${name}`,
    () => [new torch.cuda.Stream(), torch.cuda.currentStream()],
    'needs a device',
  ]),
  ['cuda.Event', () => [{ enableTiming: true }], 'needs a device'],
  ...['record', 'wait', 'query', 'synchronize', 'synchronizeAsync'].map((name) => [
    `cuda.Event#${name}`,
    () => [new torch.cuda.Event()],
    'needs a device',
  ]),
  ['cuda.Event#elapsedTime', () => [new torch.cuda.Event(), new torch.cuda.Event()], 'needs a device'],
  ['cuda.CUDAGraph', () => [], 'needs a device'],
  ['cuda.CUDAGraph#capture', () => [new torch.cuda.CUDAGraph(), () => 1, { mode: 'relaxed' }], 'needs a device'],
  ...['replay', 'reset'].map((name) => [
    `cuda.CUDAGraph#${name}`,
    () => [new torch.cuda.CUDAGraph()],
    'needs a device',
  ]),
  ...['isBuilt', 'version', 'flashSdpEnabled', 'memEfficientSdpEnabled', 'mathSdpEnabled', 'cudnnSdpEnabled'].map(
    (name) => [`backends.cuda.${name}`, () => []],
  ),
  ...['enableFlashSdp', 'enableMemEfficientSdp', 'enableMathSdp', 'enableCudnnSdp'].map((name) => [
    `backends.cuda.${name}`,
    () => [true],
  ]),
  ...['isAvailable', 'version'].map((name) => [`backends.cudnn.${name}`, () => []]),
  ['getFloat32MatmulPrecision', () => []],
  ['setFloat32MatmulPrecision', () => ['highest']],
  ['useDeterministicAlgorithms', () => [false, { warnOnly: true }]],
  ['areDeterministicAlgorithmsEnabled', () => []],
  ...['currentDevice'].map((name) => [`cuda.${name}`, () => [], 'needs a device']),
  ...['setDevice', 'synchronize', 'memoryAllocated', 'maxMemoryAllocated', 'memoryReserved', 'maxMemoryReserved']
    .concat(['memoryStats', 'resetPeakMemoryStats', 'memGetInfo', 'memorySummary', 'currentStream', 'defaultStream'])
    .concat(['getDeviceProperties', 'getDeviceName', 'getDeviceCapability'])
    .map((name) => [`cuda.${name}`, () => ['cuda:0'], 'needs a device']),

  // Methods of Tensor that are written by hand
  ['Tensor', () => [1], 'internal'],
  ['Tensor#dim', () => [ones(2)]],
  ['Tensor#size', () => [ones(2), 0]],
  ['Tensor#numel', () => [ones(2)]],
  ['Tensor#strides', () => [ones(2)]],
  ['Tensor#storageOffset', () => [ones(2)]],
  ['Tensor#isContiguous', () => [ones(2)]],
  ['Tensor#requiresGrad_', () => [ones(2), true]],
  ['Tensor#backward', () => [leaf().sum(), ones([]), { retainGraph: true, createGraph: false }]],
  ['Tensor#registerHook', () => [leaf(), () => null]],
  ['Tensor#registerPostAccumulateGradHook', () => [leaf(), () => undefined]],
  ['Tensor#retainGrad', () => [leaf().mul(2)]],
  ['Tensor#dispose', () => [ones(2)]],
  ['Tensor#toString', () => [ones(2)]],
  ['Tensor#item', () => [ones(1)]],
  ['Tensor#tolist', () => [ones(2)]],
  ['Tensor#toTypedArray', () => [ones(2), { copy: true }]],
  ['Tensor#itemAsync', () => [ones(1)]],
  ['Tensor#tolistAsync', () => [ones(2)]],
  ['Tensor#toTypedArrayAsync', () => [ones(2)]],
  ['Tensor#at', () => [ones(2, 3), 0, [0, 1]]],
  ['Tensor#setAt', () => [ones(2, 3), 0, 1]],
  ['Tensor#to', () => [ones(2), { dtype: 'float64', device: 'cpu', copy: true, nonBlocking: false }]],
  ['Tensor#cpu', () => [ones(2)]],
  ['Tensor#cuda', () => [ones(2), 'cuda:0'], 'needs a device'],
  ['Tensor#typeAs', () => [ones(2), ones(1)]],
  ['Tensor#unique', () => [ones(2), { sorted: true }]],
  ['Tensor#uniqueConsecutive', () => [ones(2), { returnCounts: true }]],
  ['Tensor#norm', () => [ones(2), 2, { dim: 0 }]],
  ['Tensor#stft', () => [ones(64), 16, { returnComplex: true }]],
  ['Tensor#newTensor', () => [ones(2), [1, 2]]],

  // Differentiation
  ['autograd.Function', () => []],
  ['autograd.Function.apply', () => [Double, leaf()]],
  ['autograd.FunctionContext', () => [[true]], 'internal'],
  ['autograd.FunctionContext#savedTensors', () => [new torch.autograd.FunctionContext([true])], 'outside of backward'],
  ...Object.entries({
    saveForBackward: () => [leaf()],
    markDirty: () => [],
    markNonDifferentiable: () => [],
    setMaterializeGrads: () => [true],
  }).map(([method, make]) => [`autograd.FunctionContext#${method}`, make, 'in forward', inForward(method)]),
  ['autograd.backward', () => [[leaf().sum()], [ones([])], { retainGraph: true, createGraph: false, inputs: [] }]],
  ['autograd.grad', gradCall],
  ['grad', gradCall],
  [
    'autograd.gradcheck',
    () => [(x) => torch.mul(x, x), [leaf().detach().to('float64').requiresGrad_()], checkOptions()],
  ],
  [
    'autograd.gradgradcheck',
    () => [(x) => torch.mul(x, x), [ones(2, { dtype: 'float64' }).requiresGrad_()], null, checkOptions()],
  ],
  ['autograd.RemovableHandle', () => [1], 'internal'],
  ['autograd.RemovableHandle#remove', () => [leaf().registerHook(() => null)]],
  ...['', 'autograd.'].flatMap((space) => [
    [`${space}autocast`, () => [{ device: 'cpu', dtype: 'bfloat16', enabled: true, cacheEnabled: true }, () => 1]],
    [`${space}getAutocastDtype`, () => ['cpu']],
    [`${space}isAutocastEnabled`, () => ['cpu']],
    [`${space}enableGrad`, () => [() => 1]],
    [`${space}noGrad`, () => [() => 1]],
    [`${space}inferenceMode`, () => [() => 1]],
    [`${space}isGradEnabled`, () => []],
    [`${space}isInferenceModeEnabled`, () => []],
    [`${space}setGradEnabled`, () => [true, () => 1]],
  ]),

  // Files
  ['load', () => ['plain.pt', { device: 'cpu', mmap: false, exact: false, unknown: 'refuse' }]],
  ['save', () => [{ a: ones(2) }, 'saved.pt', saveOptions()]],
  ['loadSafetensors', () => ['plain.safetensors', { device: 'cpu', mmap: false }]],
  [
    'saveSafetensors',
    () => [{ a: ones(2) }, 'saved.safetensors', { metadata: { a: 'b' }, tied: 'copy', ...saveOptions() }],
  ],
  ['saveDistributed', () => [{ a: ones(2) }, 'saved.dcp']],
  ['NamedTensors', () => [[['a', ones(1)]]], 'collection'],
  ['inspect', () => ['plain.pt', { verify: false }]],
  ['Inspection', () => [{}], 'internal'],
  ['Inspection#toString', async () => [await torch.inspect('plain.pt')]],
  ['formatInspection', async () => [await torch.inspect('plain.pt'), { tensors: 3 }]],

  // Values of pickles
  ['ByteArray', () => [[1]], 'collection'],
  ['Counter', () => [[[1, 2]]], 'collection'],
  ['DefaultDict', () => [null, [[1, 2]]], 'collection'],
  ['FrozenSet', () => [[1]], 'collection'],
  ['OrderedDict', () => [[[1, 2]]], 'collection'],
  ['OrderedDict#attributes', () => [new torch.OrderedDict([[1, 2]])]],
  ['Size', () => [2], 'collection'],
  ['Tuple', () => [2], 'collection'],
  ['Tuple.of', () => [torch.Tuple, 1, 2], 'collection'],
  ['ComplexValue', () => [1, 2]],
  ['Device', () => ['cpu', 0]],
  ['Device#toString', () => [new torch.Device('cpu')]],
  ['DTypeValue', () => ['float32']],
  ['DTypeValue#toString', () => [new torch.DTypeValue('float32')]],
  ['Float', () => [1]],
  ['Float#valueOf', () => [new torch.Float(1)]],
  ['Float#toJSON', () => [new torch.Float(1)]],
  ['GlobalName', () => ['a', 'b']],
  ['GlobalName#toString', () => [new torch.GlobalName('a', 'b')]],
  ['InertObject', () => ['a', 'b', torch.Tuple.of(1), true]],
  ['DictSubclass', () => ['a', 'b']],
  ['TorchConstant', () => ['layout', 'strided']],
  ['TorchConstant#toString', () => [new torch.TorchConstant('layout', 'strided')]],
  ['NumpyScalar', () => ['f8', 1, new Uint8Array(8), 'numpy']],
  ['NumpyScalar#valueOf', () => [new torch.NumpyScalar('f8', 1, new Uint8Array(8), 'numpy')]],
  ['NumpyScalar#toJSON', () => [new torch.NumpyScalar('f8', 1, new Uint8Array(8), 'numpy')]],

  // Modules
  ['nn.Module', () => []],
  ['nn.Module#namedChildren', () => [linear()]],
  ['nn.Module#children', () => [linear()]],
  ['nn.Module#namedModules', () => [linear(), 'a']],
  ['nn.Module#modules', () => [linear()]],
  ['nn.Module#namedParameters', () => [linear(), 'a']],
  ['nn.Module#parameters', () => [linear()]],
  ['nn.Module#namedBuffers', () => [linear(), 'a']],
  ['nn.Module#buffers', () => [linear()]],
  ['nn.Module#numParameters', () => [linear()]],
  ['nn.Module#extraRepr', () => [linear()]],
  ['nn.Module#toString', () => [linear()]],
  ['nn.Module#registerParameter', () => [linear(), 'a', new nn.Parameter(ones(1))]],
  ['nn.Module#registerBuffer', () => [linear(), 'a', ones(1), { persistent: true }]],
  ['nn.Module#registerModule', () => [linear(), 'a', linear()]],
  ['nn.Module#apply', () => [linear(), () => undefined]],
  ['nn.Module#train', () => [linear(), true]],
  ['nn.Module#eval', () => [linear()]],
  ['nn.Module#requiresGrad_', () => [linear(), false]],
  ['nn.Module#zeroGrad', () => [withGrads()]],
  ['nn.Module#to', () => [linear(), place()]],
  ['nn.Module#stateDict', () => [linear(), 'a.']],
  ['nn.Module#loadStateDict', () => [linear(), linear().stateDict(), { strict: true }]],
  ['nn.Module#dispose', () => [linear()]],
  ['nn.Parameter', () => [ones(2), { requiresGrad: true }]],
  ['nn.Linear', () => [3, 2, { bias: true, init: true, ...place() }]],
  ['nn.Embedding', () => [3, 2, { init: true, ...place() }]],
  ['nn.LayerNorm', () => [[3], { eps: 1e-5, elementwiseAffine: true, bias: true, ...place() }]],
  ['nn.QuantizedLinear', () => [32, 2, { bits: 4, groupSize: 32, bias: true, device: 'cpu' }]],
  ['nn.QuantizedLinear.from', () => [nn.QuantizedLinear, linear(), { bits: 8, groupSize: null }]],
  ['nn.QuantizedLinear#forward', () => [quantizedLinear(), ones(1, 3)]],
  ...['Linear', 'Embedding', 'LayerNorm', 'RMSNorm', 'Dropout', 'GELU'].map((name) => [
    `nn.${name}#extraRepr`,
    () => [layer(name)],
  ]),
  ['nn.QuantizedLinear#extraRepr', () => [quantizedLinear()]],
  ['nn.Sequential#isList', () => [new nn.Sequential(linear())]],
  ['nn.ModuleList#isList', () => [new nn.ModuleList([linear()])]],
  ['nn.QuantizedLinear#pack', () => [quantizedLinear()]],
  ['nn.RMSNorm', () => [[3], { eps: 1e-5, elementwiseAffine: true, ...place() }]],
  ['nn.Dropout', () => [0.5]],
  ['nn.GELU', () => [{ approximate: 'tanh' }]],
  ['nn.ReLU', () => []],
  ['nn.Sequential', () => [linear(), new nn.ReLU()]],
  ['nn.ModuleList', () => [[linear()]]],
  ['nn.ModuleList#length', () => [new nn.ModuleList([linear()])]],
  ['nn.ModuleList#at', () => [new nn.ModuleList([linear()]), 0]],
  ['nn.ModuleList#append', () => [new nn.ModuleList([linear()]), linear()]],
  ['nn.ModuleList#namedChildren', () => [new nn.ModuleList([linear()])]],
  ...['Linear', 'Embedding', 'LayerNorm', 'RMSNorm'].map((name) => [`nn.${name}#resetParameters`, () => [layer(name)]]),
  ...['Linear', 'LayerNorm', 'RMSNorm', 'Dropout', 'GELU', 'ReLU'].map((name) => [
    `nn.${name}#forward`,
    () => [layer(name), ones(1, 3)],
  ]),
  ['nn.Embedding#forward', () => [layer('Embedding'), ids()]],
  ['nn.Sequential#forward', () => [new nn.Sequential(linear()), ones(1, 3)]],
  ['nn.checkpoint', () => [(x) => x.mul(2), leaf()]],
  ...functionals,
  ['nn.init.uniform_', () => [ones(2), 0, 1, draw()]],
  ['nn.init.normal_', () => [ones(2), 0, 1, draw()]],
  ['nn.init.constant_', () => [ones(2), 1]],
  ['nn.init.ones_', () => [ones(2)]],
  ['nn.init.zeros_', () => [ones(2)]],
  ...['Uniform_', 'Normal_'].flatMap((name) => [
    [`nn.init.kaiming${name}`, () => [ones(2, 3), { a: 1, mode: 'fan_in', nonlinearity: 'relu', ...draw() }]],
    [`nn.init.xavier${name}`, () => [ones(2, 3), { gain: 1, ...draw() }]],
  ]),
  ['nn.init.calculateGain', () => ['leaky_relu', 0.1]],
  ['nn.init.calculateFans', () => [ones(2, 3)]],

  // Optimizers
  ['optim.Optimizer', () => [[]], 'internal'],
  [
    'optim.AdamW',
    () => [
      linear().parameters(),
      { lr: 0.1, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1, amsgrad: false, maximize: false },
    ],
  ],
  [
    'optim.Adam',
    () => [linear().parameters(), { lr: 0.1, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1, amsgrad: true }],
  ],
  ['optim.Adagrad', () => [linear().parameters(), { lr: 0.1, lrDecay: 0.1, weightDecay: 0.1, eps: 1e-8 }]],
  [
    'optim.Adagrad#addParamGroup',
    () => [new Adagrad(linear().parameters()), { params: linear().parameters(), lr: 0.2 }],
  ],
  [
    'optim.Optimizer#addParamGroup',
    () => [new Adam(linear().parameters()), { params: linear().parameters(), lr: 0.2 }],
  ],
  ['optim.AdamW#loadStateDict', () => [adamw(), stepped().stateDict()]],
  ['optim.recogniseOptimizer', () => [stepped().stateDict()]],
  ['optim.AdamW#addParamGroup', () => [adamw(), { params: linear().parameters(), lr: 0.2 }]],
  ['optim.AdamW#stateDict', () => [stepped()]],
  [
    'optim.SGD',
    () => [
      linear().parameters(),
      { lr: 0.1, momentum: 0.9, dampening: 0, weightDecay: 0.1, nesterov: true, maximize: false },
    ],
  ],
  ['optim.SGD#addParamGroup', () => [new SGD(linear().parameters()), { params: linear().parameters(), lr: 0.2 }]],
  ['optim.Optimizer#step', () => [adamw(withGrads())]],
  ['optim.Optimizer#zeroGrad', () => [adamw(withGrads())]],
  ['optim.Optimizer#stateDict', () => [new SGD(linear().parameters())]],
  ['optim.Optimizer#loadStateDict', () => [adamw(), stepped().stateDict()]],
  ['optim.clipGradNorm_', () => [withGrads().parameters(), 1, { normType: 2, errorIfNonfinite: false }]],
  ['optim.decayGroups', () => [linear().namedParameters(), 0.1]],
  ['optim.GradScaler', () => [{ initScale: 8, growthFactor: 2, backoffFactor: 0.5, growthInterval: 10 }]],
  ['optim.GradScaler#scale', () => [new torch.optim.GradScaler(), leaf().sum()]],
  ['optim.GradScaler#getScale', () => [new torch.optim.GradScaler()]],
  ['optim.GradScaler#unscale_', () => [new torch.optim.GradScaler(), adamw(withGrads())]],
  ['optim.GradScaler#step', () => [new torch.optim.GradScaler(), adamw(withGrads())]],
  ['optim.GradScaler#update', scalerAfterStep],
  ['optim.GradScaler#getState', () => [new torch.optim.GradScaler()]],
  ['optim.GradScaler#setState', () => [new torch.optim.GradScaler(), { scale: 8, growthTracker: 1 }]],
  ['optim.schedulers.constant', () => [{ warmup: 2 }]],
  ['optim.schedulers.linear', () => [{ warmup: 2, steps: 5, min: 0.1 }]],
  ['optim.schedulers.cosine', () => [{ warmup: 2, steps: 5, min: 0.1 }]],
  ['optim.schedulers.baseLearningRate', () => [adamw().paramGroups[0]]],
  ['optim.schedulers.setBaseLearningRate', () => [adamw().paramGroups[0], 0.1]],
  ['optim.schedulers.applySchedule', () => [adamw().paramGroups, () => 0.5, 1]],

  // Models
  [
    'createServer',
    () => [
      gpt(),
      { name: 'a', root: '.', apiKeys: ['b'], allowedHosts: ['c'], watchInterval: 0, limits: { maxQueue: 1 } },
    ],
  ],
  ['GPT', () => [{ ...config() }, { tokenizer: null, layout: 'mypt', device: 'cpu', init: true }]],
  [
    'GPT.load',
    () => [torch.GPT, 'bundle', { device: 'cpu', config: { nHead: 1 }, tokenizer: null, optimizer: true, lora: {} }],
  ],
  ['GPT.loadLegacy', () => [torch.GPT, 'nanogpt.pt', { device: 'cpu' }], 'no such file'],
  ['GPT#optimizer', () => [gpt()]],
  ['GPT#origin', () => [gpt()]],
  ['GPT#step', () => [gpt()]],
  ['GPT#quantization', () => [gpt()]],
  ['GPT#quantize', () => [gpt(), { bits: 8, groupSize: undefined }]],
  ['GPT#perplexity', () => [gpt(), [1, 2, 3], { batchSize: 1, thread: 'main' }]],
  ['GPT#evaluate', () => [gpt(), [1, 2, 3], { windowSize: 2, stride: 1, onProgress: () => 0, thread: 'main' }]],
  ['GPT#embed', () => [gpt(), [[1, 2], 'ab'], { layer: 0, pooling: 'last', normalize: true, thread: 'main' }]],
  ['GPT#generationConfig', () => [gpt()]],
  ['GPT#forward', () => [gpt(), ids(), ids(), { hiddenStates: true, attentions: true }]],
  ['GPT#forwardCached', cachedCall],
  ['GPT#makeCache', () => [gpt(), 1]],
  ['GPT#makeOptimizer', () => [gpt(), { lr: 0.1, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1 }]],
  ['GPT#optimizerStateDict', () => trained().slice(0, 2)],
  ['GPT#loadOptimizerStateDict', () => trained()],
  ['GPT#resumeOptimizer', () => [gpt(), trained()[2]]],
  ['GPT#fit', () => [gpt(), fitOptions()]],
  [
    'GPT#fit',
    () => [gpt(), { ...fitOptions(), text: undefined, dataOrder: undefined, data: new torch.TextStream(() => [text]) }],
  ],
  ['GPT#fitEvents', () => [gpt(), Object.assign(Object.create({}), fitOptions())]], // its options are those of fit
  ['GPT#setTraining', () => [gpt(), undefined, null], 'internal'],
  ['GPT#generate', () => [gpt(), 'ab', { stop: ['h'], ...patient() }]],
  ['GPT#stream', () => [gpt(), 'ab', { stop: 'h', ...patient() }]],
  ['GPT#generateTokens', () => [gpt(), [1, 2], patient()]],
  [
    'GPT#generateSequences',
    () => [gpt(), [[1, 2], [3]], { numBeams: 2, earlyStopping: 'never', lengthPenalty: 2, maxNewTokens: 2 }],
  ],
  ['GPT#session', () => [gpt(), { stop: 'h', ...patient() }]],
  ['GenerationSession', () => [gpt(), { stop: 'h' }]],
  ['GenerationSession#tokens', () => [gpt().session()]],
  ['GenerationSession#text', () => [gpt().session()]],
  ['GenerationSession#generate', () => [gpt().session(), 'ab', { stop: ['h'], ...patient() }]],
  ['GenerationSession#stream', () => [gpt().session(), 'ab', { stop: ['h'], ...patient() }]],
  ['GenerationSession#generateTokens', () => [gpt().session(), [1, 2], patient()]],
  ['GenerationSession#fork', () => [gpt().session()]],
  ['GenerationSession#dispose', () => [gpt().session()]],
  ['readGenerationConfig', () => [{ do_sample: true, eos_token_id: [1], sequence_bias: [[[1], 2]] }]],
  ['writeGenerationConfig', () => [{ greedy: true, stopTokens: [1], logitBias: { 1: 2 } }, { a: 1 }]],
  ['GPT#save', () => [gpt(), 'saved', { layout: 'nanogpt', optimizer: null, step: 1, dtype: 'float32', force: true }]],
  [
    'GPT#export',
    () => [
      gpt(),
      'release',
      {
        form: 'torchbind',
        dtype: 'float16',
        groupSize: undefined,
        weights: 'pt',
        name: 'n',
        description: 'd',
        license: 'mit',
        language: 'en',
        data: 'text',
        metrics: undefined,
        heldText: 'abcabc',
        force: false,
        overwrite: true,
      },
    ],
  ],
  ['GPT#push', () => [gpt(), 'hf:owner/name', { form: 'torchbind', message: 'm', private: true }], 'HF_HUB_OFFLINE'],
  ['GPT#saveAdapter', () => [loraOf('hf-gpt2'), 'adapter']],
  [
    'GPT#saveCheckpointBundle',
    () => [gpt(), 'saved', { step: 1, optimizerState: null, keep: keep(), metrics: { val_loss: 1 } }],
  ],
  ['applyLora', () => [gpt(), { rank: 2, alpha: 4, dropout: 0.1, targets: ['attn.qkv'], rsLora: false }]],
  ['foldLora', () => [lora()]],
  ['mergeLora', () => [lora()]],
  ['unmergeLora', () => [lora()]],
  ['LoraLinear', () => [linear(), { rank: 2, alpha: 4, dropout: 0, rsLora: false, detachBase: false }, 1]],
  ['LoraLinear#resetParameters', () => [adapted()]],
  ['LoraLinear#forward', () => [adapted(), ones(1, 3)]],
  ['LoraLinear#delta', () => [adapted()]],
  ['LoraLinear#merge', () => [adapted()]],
  ['LoraLinear#unmerge', () => [adapted()]],
  ['Bigram', () => [5, { init: true }]],
  ['Bigram.load', () => [torch.Bigram, 'bigram.pt'], 'no such file'],
  ['Bigram#forward', () => [use(new torch.Bigram(5)), ids(), ids()]],
  ['Bigram#save', () => [use(new torch.Bigram(5)), 'saved.pt']],
  ['configFromJson', () => [torch.configToJson(gpt().config)]],
  ['configToJson', () => [gpt().config]],
  ['detectLayout', () => [gpt().stateDict()]],
  ['KVCache', () => [cacheSize()]],
  ['KVCache#length', () => [use(new torch.KVCache(cacheSize()))]],
  ['KVCache#start', () => [use(new torch.KVCache(cacheSize()))]],
  ['KVCache#drop', () => [use(new torch.KVCache(cacheSize())), 0]],
  ['KVCache#free', () => [use(new torch.KVCache(cacheSize()))]],
  ['KVCache#truncate', () => [use(new torch.KVCache(cacheSize())), 0]],
  ['KVCache#clone', () => [use(new torch.KVCache(cacheSize()))]],
  ['KVCache#reset', () => [use(new torch.KVCache(cacheSize()))]],
  ['KVCache#dispose', () => [use(new torch.KVCache(cacheSize()))]],

  // Text
  ['CharTokenizer', () => [[...chars], { unknown: 'skip', fields: { a: 1 } }]],
  ['CharTokenizer.fromText', () => [torch.CharTokenizer, text]],
  ['Gpt2Tokenizer', () => [{ specialTokens: { '<a>': 50257 }, fields: {} }]],
  ['HuggingFaceTokenizer', () => [hfJson(), { startToken: 'a', where: 'here', chatTemplate: 'a', specialTokens: {} }]],
  [
    'HuggingFaceTokenizer#applyChatTemplate',
    () => [
      new torch.HuggingFaceTokenizer(hfJson()),
      [{ role: 'user', content: 'a' }],
      { addGenerationPrompt: true, tools: [{}], documents: [{}], chatTemplate: '{{ messages }}', variables: { a: 1 } },
    ],
  ],
  ...Object.entries({
    CharTokenizer: () => new torch.CharTokenizer([...chars]),
    Gpt2Tokenizer: () => new torch.Gpt2Tokenizer(),
    HuggingFaceTokenizer: () => new torch.HuggingFaceTokenizer(hfJson()),
  }).flatMap(([name, make]) => [
    [`${name}#encode`, () => [make(), 'ab']],
    [`${name}#encodeAsync`, () => [make(), 'ab']],
    [`${name}#decode`, () => [make(), [0, 1]]],
    [`${name}#decoder`, () => [make()]],
    [`${name}#decoder.push`, () => [make().decoder(), 1]],
    [`${name}#decoder.end`, () => [make().decoder()]],
    [`${name}#toJson`, () => [make()]],
  ]),
  ['CharTokenizer#vocabSize', () => [tokenizer()]],
  ['Gpt2Tokenizer#isReady', () => [new torch.Gpt2Tokenizer()]],
  ['HuggingFaceTokenizer#isReady', () => [new torch.HuggingFaceTokenizer(hfJson())]],
  ['HuggingFaceTokenizer#endId', () => [new torch.HuggingFaceTokenizer(hfJson())]],
  [
    'HuggingFaceTokenizer#encodeWithOffsets',
    () => [new torch.HuggingFaceTokenizer(hfJson()), 'ab', { addSpecialTokens: false }],
  ],
  ['charFromMetaPickle', () => [torch.charToMetaPickle(tokenizer()), 'meta.pkl']],
  ['charToMetaPickle', () => [tokenizer()]],
  ['loadTokenizer', () => ['bundle']],
  ['trainTokenizer', () => [[text], { vocabSize: 260, minFrequency: 1, specialTokens: ['<a>'] }]],
  ['tokenizerForText', () => ['char', text]],
  ['tokenizerFromJson', () => [tokenizer().toJson(), 'tokenizer.json']],
  ['TokenStream', () => [tokens(), { validationFraction: 0.1 }]],
  ['TokenStream.fromText', () => [torch.TokenStream, text, tokenizer(), { validationFraction: 0.1 }]],
  ['TokenStream.fromTextAsync', () => [torch.TokenStream, text, tokenizer(), { validationFraction: 0.1 }]],
  ['TokenStream.of', () => [torch.TokenStream, tokens(), tokens()]],
  ['TokenStream.open', () => [torch.TokenStream, 'data', { dtype: 'uint16' }]],
  [
    'TokenStream.fromDocuments',
    () => [torch.TokenStream, ['ab', 'cd'], tokenizer(), { separator: 'a', validationFraction: 0.5 }],
  ],
  [
    'TokenStream.fromDocumentsAsync',
    () => [torch.TokenStream, ['ab', 'cd'], tokenizer(), { separator: 'a', validationFraction: 0.5 }],
  ],
  ['TokenFile', () => [], 'internal'],
  ['TokenFile.open', () => [torch.TokenFile, 'data/train.bin', { dtype: 'uint16' }]],
  ['TokenFile#subarray', () => [tokenFile(), 1, 3]],
  ['TokenFile#slice', () => [tokenFile(), 1, 3]],
  ['TokenFile#placeOf', () => [tokenFile(), 1]],
  ['TokenFile#close', () => [tokenFile()]],
  ['TextStream', () => [[text], { separator: 0, shuffleBuffer: 2, validation: tokens() }]],
  ['TextStream#canReopen', () => [new torch.TextStream([text])]],
  ['encodeDocuments', () => [['ab', 'cd'], tokenizer(), 'a']],
  ['writeTokens', () => ['saved.bin', ['ab', 'cd'], { tokenizer: tokenizer(), dtype: 'uint16', separator: 'a' }]],
  ['prepareTokens', () => ['prepared', text, { tokenizer: tokenizer(), dtype: 'uint16', validationFraction: 0.5 }]],
  ['EpochWindows', () => [tokens(), { ...window(), seed: 1, shuffle: true, device: 'cpu' }]],
  ['EpochWindows#next', () => [new torch.EpochWindows(tokens(), window())]],
  ['EpochWindows#getState', () => [new torch.EpochWindows(tokens(), window())]],
  ['EpochWindows#setState', () => [new torch.EpochWindows(tokens(), window()), { epoch: 0, batch: 1 }]],
  ['RandomWindows', () => [tokens(), { ...window(), device: 'cpu', ...draw() }]],
  ['RandomWindows#next', () => [new torch.RandomWindows(tokens(), window())]],
  ['RandomWindows#getState', () => [new torch.RandomWindows(tokens(), window())]],
  ['RandomWindows#setState', () => [new torch.RandomWindows(tokens(), window()), torch.getRngState()]],

  // Checkpoints
  ['CheckpointManager', () => ['model', { root: '.', keep: keep() }]],
  ['CheckpointManager.loadForInference', () => [torch.CheckpointManager, 'bundle', { root: '.', device: 'cpu' }]],
  [
    'CheckpointManager#initializeForTraining',
    () => [
      manager(),
      { config: { ...config(), vocabSize: undefined }, tokenization: 'char', text, learningRate: 0.1, device: 'cpu' },
    ],
  ],
  [
    'CheckpointManager#saveState',
    () => [manager(), { model: gpt(), step: 1, metrics: { val_loss: 1 } }],
    'no optimizer',
  ],
  ['CheckpointManager#saveWeightsForSampler', () => [manager(), { model: gpt() }]],
  ['CheckpointManager#latest', () => [manager()]],
  ['CheckpointManager#best', () => [manager(), { metric: 'val_loss', mode: 'min' }]],
  ['CheckpointManager#rollback', () => [manager(), 1], 'no such step'],
  ['CheckpointManager#convertLegacy', () => [manager(), 'latest.pt', { overwrite: false }], 'no such file'],
  ['CheckpointManager#list', () => [manager()]],
  ['CheckpointManager#inspect', () => [new torch.CheckpointManager('bundle', { root: '.' }), { verify: true }]],
  [
    'CheckpointManager#compare',
    () => [new torch.CheckpointManager('bundle', { root: '.' }), 'model.pt', 'model.pt', signal()],
  ],
  ['compare', () => ['bundle', gpt().stateDict(), signal()]],
  ['formatComparison', () => [structuredClone(comparison), { tensors: 1 }]],
  [
    'GPT#saveCheckpointFile',
    () => [
      gpt({ layout: 'build-llm' }),
      'saved',
      { source: 'data', model: 'm', step: 1, hyperparameters: {}, saved: new Date(0) },
    ],
  ],
  ['checkpointFileName', () => [{ model: 'm', source: 'data', step: 1, saved: new Date(0) }]],
  ['parseCheckpointFileName', () => ['checkpoint_m_data_step000001_11102025_231500.pt']],
  ['findCheckpoints', () => ['.', { model: 'm', source: '*', step: 'newest' }]],
  ['resolveCheckpoint', () => ['plain.pt']],
  ['download', () => ['hf:owner/name', { onProgress: () => 0 }], 'HF_HUB_OFFLINE'],
  ['convertLegacy', () => ['latest.pt', { to: 'converted', overwrite: false, dryRun: true }], 'no such file'],
  ['convertAllLegacy', () => ['.', { checkpoint: 'latest.pt', overwrite: false, dryRun: true }]],
  ['CheckpointManager#path', () => [manager(), 'model.pt']],
];

function gradCall() {
  const x = leaf();
  return [[x.sum()], [x], { gradOutputs: [ones([])], retainGraph: false, createGraph: false, allowUnused: true }];
}

function checkOptions() {
  return {
    eps: 1e-6,
    atol: 1e-5,
    rtol: 1e-3,
    raiseException: true,
    nondetTol: 0,
    checkUndefinedGrad: true,
    checkGradDtypes: false,
  };
}

function layer(name) {
  const arguments_ = { Linear: [3, 2], Embedding: [3, 2], LayerNorm: [3], RMSNorm: [3], Dropout: [0.5] }[name] ?? [];
  return use(new nn[name](...arguments_));
}

function scalerAfterStep() {
  const scaler = new torch.optim.GradScaler();
  scaler.step(adamw(withGrads()));
  return [scaler];
}

function cachedCall() {
  const model = gpt();
  return [model, ids(), use(model.makeCache(1))];
}

function cacheSize() {
  return { nLayer: 1, batchSize: 1, nHead: 1, blockSize: 4, headSize: 4, ...place() };
}

/** A model, its optimizer, and the state dict of that after one step. */
function trained() {
  const model = gpt();
  const optimizer = model.makeOptimizer({ lr: 0.1 });
  model.forward(ids(), ids()).loss.backward();
  optimizer.step();
  return [model, optimizer, model.optimizerStateDict(optimizer)];
}

function loraOf(layout) {
  const model = gpt({ layout });
  torch.applyLora(model, { rank: 2, alpha: 4 });
  return model;
}

function adapted() {
  return use(new torch.LoraLinear(linear(), { rank: 2, alpha: 4, dropout: 0, rsLora: false, detachBase: false }));
}

const tokenFile = () => torch.TokenFile.open('data/train.bin');

function hfJson() {
  return {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: [['a', 'b']] },
  };
}

let comparison;

/** Files that the calls read. */
async function prepare() {
  await torch.distributed.initProcessGroup(group());
  await torch.save({ a: ones(2) }, 'plain.pt');
  await torch.saveSafetensors({ a: ones(2) }, 'plain.safetensors');
  await gpt().saveCheckpointBundle('bundle', { step: 1 });
  await torch.prepareTokens('data', text, { tokenizer: tokenizer(), validationFraction: 0.5 });
  comparison = await torch.compare('bundle', 'bundle');
  comparison.tensors.length = 1;
  endAll();
}

module.exports = { calls, endAll, prepare };
