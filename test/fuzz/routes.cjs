// The ways into the library: each makes one call, ready to be run, from the random numbers of a `Fuzz`.
const { types } = require('node:util');
const { slots } = require('../../dist/native/native.js');
const { junk, shrinksWhenRead } = require('./junk.cjs');

/** Polynomials are computed term by term up to the degree that is asked for, however long that takes. */
const COUNTS = /special_\w+_polynomial/;

/** Every operator's schema, read when it is first drawn. */
class Operators {
  constructor(binding) {
    this.binding = binding;
    this.names = binding.operatorNames();
    this.known = new Map();
  }

  get(full) {
    let operator = this.known.get(full);
    if (operator === undefined) {
      const dot = full.indexOf('.');
      const base = dot < 0 ? full : full.slice(0, dot);
      const overload = dot < 0 ? '' : full.slice(dot + 1);
      const id = this.binding.findOperator(base, overload);
      operator = { full, base, overload, id, schema: this.binding.schema(id) };
      this.known.set(full, operator);
    }
    return operator;
  }
}

function camelCase(name) {
  return name.replace(/([a-z0-9])_+([a-z0-9])/gi, (_, before, letter) => before + letter.toUpperCase());
}

/** Sometimes one argument too few or too many. */
function misfit(fuzz, args) {
  if (fuzz.junkRate > 0 && fuzz.rng.chance(0.05)) args.pop();
  if (fuzz.junkRate > 0 && fuzz.rng.chance(0.05)) args.push(junk(fuzz));
  return args;
}

/** `ops.aten.add.Tensor(...)`, the arguments positional or some of them named. */
function byOps(fuzz, { operators, torch }) {
  const operator = operators.get(fuzz.only ?? fuzz.rng.pick(operators.names));
  const [space, name] = operator.base.split('::');
  const overload = operator.overload === '' ? 'default' : operator.overload;
  if (COUNTS.test(operator.base)) fuzz.tame();
  const positional = [];
  const named = {};
  for (const parameter of operator.schema.arguments) {
    const value = fuzz.argument(parameter);
    if (parameter.kwargOnly) named[parameter.name] = value;
    else positional.push(value);
  }
  for (const key of Object.keys(named)) if (named[key] === undefined) delete named[key];
  const args = misfit(fuzz, positional);
  if (Object.keys(named).length > 0) args.push(named);
  const chosen = fuzz.rng.chance(0.2);
  return {
    name: `ops.${space}.${name}${chosen ? '' : `.${overload}`}`,
    args,
    run: () => (chosen ? torch.ops[space][name](...args) : torch.ops[space][name][overload](...args)),
  };
}

/** The native `call`, tensors as handles. */
function byCall(fuzz, { operators, binding }) {
  const operator = operators.get(fuzz.only ?? fuzz.rng.pick(operators.names));
  if (COUNTS.test(operator.base)) fuzz.tame();
  const given = misfit(
    fuzz,
    operator.schema.arguments.map((parameter) => fuzz.argument(parameter)),
  );
  const args = given.map((value) => lowered(value, fuzz));
  const id = fuzz.rng.chance(0.99) ? operator.id : junk(fuzz);
  const { returns, aliases } = operator.schema;
  return {
    name: `binding.call ${operator.full}`,
    args: given,
    run: () => release(binding, binding.call(id, ...args), returns, aliases),
  };
}

function lowered(value, fuzz) {
  if (value instanceof fuzz.torch.Tensor) return value.handle;
  if (value instanceof fuzz.torch.Generator) return value.native;
  if (!Array.isArray(value) || types.isProxy(value) || value.length > 100) return value;
  return Object.getOwnPropertyDescriptor(value, 0)?.get ? value : value.map((item) => lowered(item, fuzz));
}

/** Frees the tensors that the native `call` gave. */
function release(binding, result, returns, aliases) {
  const results = returns.length === 1 ? [result] : (result ?? []);
  returns.forEach((type, i) => {
    if (aliases[i] >= 0 || !type.startsWith('Tensor')) return;
    for (const handle of [results[i]].flat(2)) if (handle !== null) binding.dispose(handle);
  });
}

/** A method, getter or setter of Tensor. */
function byMethod(fuzz, { operators, torch, methods }) {
  const key = fuzz.rng.pick(methods);
  const self = fuzz.rng.chance(0.97) ? fuzz.tensor() : junk(fuzz);
  const descriptor = Object.getOwnPropertyDescriptor(torch.Tensor.prototype, key);
  const operator = operators.ofMethod(key, fuzz.rng);
  if (COUNTS.test(operator?.base ?? '')) fuzz.tame();
  const args = operator
    ? misfit(
        fuzz,
        operator.schema.arguments.slice(1).map((parameter) => fuzz.argument(parameter)),
      )
    : fuzz.rng.times(fuzz.rng.int(3), () => anything(fuzz));
  return {
    name: `Tensor.${String(key)}`,
    args: [self, ...args],
    run() {
      if (typeof descriptor.value === 'function') return descriptor.value.apply(self, args);
      if (descriptor.set !== undefined && fuzz.rng.chance(0.5)) return descriptor.set.call(self, args[0]);
      return descriptor.get?.call(self);
    },
  };
}

/** A function or class that the package exports. */
function byExport(fuzz, { operators, functions }) {
  const [name, fn] = fuzz.rng.pick(functions);
  const operator = fuzz.rng.chance(0.8) ? operators.ofMethod(name, fuzz.rng) : undefined;
  if (COUNTS.test(operator?.base ?? '')) fuzz.tame();
  const args = operator
    ? misfit(
        fuzz,
        operator.schema.arguments.map((parameter) => fuzz.argument(parameter)),
      )
    : fuzz.rng.times(fuzz.rng.int(4), () => anything(fuzz));
  const isClass = /^class\s/.test(Function.prototype.toString.call(fn));
  return { name, args, run: () => (isClass ? new fn(...args) : fn(...args)) };
}

/** What anyone might pass to anything. */
function anything(fuzz) {
  return fuzz.rng.pick([
    () => junk(fuzz),
    () => fuzz.tensor(),
    () => fuzz.int(),
    () => fuzz.float(),
    () => fuzz.sizes(),
    () => fuzz.rng.pick(['float32', 'int64', 'cpu', 'meta', 'cuda']),
    () => ({ dtype: fuzz.rng.pick(['float32', 'int64', 'qint8', 'complex64']) }),
    () => () => fuzz.tensor(),
    () => [fuzz.tensor(), fuzz.tensor()],
    () => ({ a: fuzz.tensor() }),
    () => [
      [1, 2],
      [3, 4],
    ],
    () => new Float32Array(6),
  ])();
}

function leaf(fuzz) {
  const tensor = fuzz.tensor();
  return /^(float(32|64)|complex)/.test(tensor.dtype) && !tensor.isInference() && fuzz.rng.chance(0.9)
    ? tensor.detach().requiresGrad_()
    : tensor;
}

const T = (fuzz) => fuzz.handle();
const N = (fuzz) => fuzz.int();
const SHAPE = (fuzz) => fuzz.ints();
const DTYPE = (fuzz) => fuzz.rng.int(50) - 2;
const FLAG = (fuzz) => fuzz.rng.chance(0.5);
const TS = (fuzz) => fuzz.rng.times(fuzz.rng.int(3), () => leaf(fuzz).handle);
const GRADS = (fuzz) => fuzz.rng.times(fuzz.rng.int(3), () => (fuzz.rng.chance(0.3) ? null : fuzz.tensor().handle));
const DEVICE = (fuzz) => fuzz.ofType('Device');
const HANDLES = (fuzz) => Float64Array.from(fuzz.rng.times(fuzz.rng.int(8), () => fuzz.handle()));
const TOKEN = (fuzz) => fuzz.binding.newToken();
const GENERATOR = (fuzz) => fuzz.binding.newGenerator('cpu');
const FILE = (fuzz) => fuzz.rng.pick([fuzz.file, fuzz.file, -1, 999, 0]);
const COUNT = (fuzz) => fuzz.rng.pick([0, 1, 8, 100, 4096, 4097, 2 ** 33, -1, 2 ** 52]);
const BYTES = (fuzz) => new Float64Array(fuzz.rng.int(9));

const LEAF = (fuzz) => leaf(fuzz).handle;
const CALLBACK = (fuzz) => () => fuzz.rng.pick([null, undefined, fuzz.handle(), [fuzz.handle()], [null]]);
const FORWARD = (fuzz) => () =>
  fuzz.rng.chance(0.1) ? junk(fuzz) : [HANDLE_LIST(fuzz), HANDLE_LIST(fuzz), [], [], FLAG(fuzz)];
const TICKET = (fuzz) => fuzz.rng.int(50);
const HANDLE_LIST = (fuzz) => fuzz.rng.times(fuzz.rng.int(3), () => fuzz.tensor().handle);
const LOAN = (fuzz) => fuzz.binding.lendTensors(HANDLE_LIST(fuzz), 1).loan;
const INDICES = (fuzz) =>
  fuzz.rng.times(fuzz.rng.int(4), () =>
    fuzz.rng.pick([fuzz.int(), null, true, '...', [fuzz.handle()], [fuzz.int(), fuzz.int(), fuzz.int()], junk(fuzz)]),
  );

/** What each native function takes; every one of them, so that none is forgotten. */
const GROUP = (fuzz) => fuzz.rng.pick(['0', 'gloo', '']);
const NAMES = (fuzz) => fuzz.rng.times(fuzz.rng.int(4), () => 'name');
const REDUCER = [GROUP, HANDLE_LIST, NAMES, HANDLE_LIST, N, N, FLAG, FLAG, FLAG, FLAG];

const SIGNATURES = {
  setup: [],
  versions: [],
  findOperator: [(fuzz) => fuzz.ofType('str'), (fuzz) => fuzz.ofType('str')],
  operatorNames: [],
  schema: [N],
  call: [N, T, T],
  callDirect: [],
  allowUnsafe: [() => 'aten::nothing'],
  loadLibrary: [(fuzz) => fuzz.rng.pick(['', '/', '/nowhere.so', '\0', __filename])],
  dispose: [T, (fuzz) => (fuzz.rng.chance(0.5) ? TOKEN(fuzz) : undefined)],
  disposeMany: [HANDLES, N],
  isAlive: [T],
  ownToken: [T],
  newToken: [],
  fillToken: [TOKEN, HANDLES, N],
  memory: [],
  shape: [T],
  strides: [T],
  storageOffset: [T],
  dtype: [T],
  device: [T],
  layout: [T],
  storageInfo: [T],
  isLeaf: [T],
  requiresGrad: [T],
  setRequiresGrad: [T, FLAG],
  gradFnName: [T],
  fromTypedArray: [BYTES, SHAPE, DTYPE],
  toArrayBuffer: [T],
  item: [T],
  copyToCpu: [T, FLAG],
  mapFile: [FILE, COUNT],
  sliceBytes: [T, COUNT, COUNT],
  readBytes: [FILE, COUNT, COUNT],
  writeStorage: [(fuzz) => fuzz.rng.pick([fuzz.scratch, -1, 999]), (fuzz) => fuzz.rng.int(100), T, COUNT, COUNT],
  viewStorage: [T, DTYPE, N, SHAPE, SHAPE],
  itemSize: [DTYPE],
  deferCollections: [FLAG],
  setBorrowing: [FLAG],
  packTensors: [HANDLE_LIST, (fuzz) => (fuzz.rng.chance(0.5) ? null : DTYPE(fuzz))],
  copyTensors: [HANDLE_LIST, HANDLE_LIST],
  equalTensors: [HANDLE_LIST, HANDLE_LIST],
  measureDistance: [T, T, COUNT, COUNT],
  lazyCopies: [HANDLE_LIST],
  isSoleOwner: [T],
  backward: [TS, GRADS, FLAG, FLAG, TS],
  grad: [TS, TS, GRADS, FLAG, FLAG, FLAG],
  getGrad: [T],
  setGrad: [T, (fuzz) => (fuzz.rng.chance(0.3) ? null : T(fuzz))],
  gradMode: [],
  setGradMode: [FLAG],
  inferenceModeEnabled: [],
  enterInferenceMode: [FLAG],
  exitInferenceMode: [],
  manualSeed: [(fuzz) => BigInt(fuzz.rng.int(9))],
  getRngState: [DEVICE],
  setRngState: [T, DEVICE],
  newGenerator: [DEVICE],
  generatorSeed: [GENERATOR, N],
  generatorGetState: [GENERATOR],
  generatorSetState: [GENERATOR, T],
  accelerator: [],
  deviceCount: [],
  synchronize: [DEVICE],
  emptyCache: [],
  deviceMemory: [DEVICE],
  alias: [T],
  allocateBytes: [COUNT],
  readInto: [FILE, COUNT, T, COUNT, COUNT, FLAG],
  shareStorage: [T],
  wrappedNumber: [(fuzz) => fuzz.scalar()],
  getIndex: [T, INDICES],
  setIndex: [T, INDICES, (fuzz) => (fuzz.rng.chance(0.5) ? fuzz.scalar() : [T(fuzz)])],
  setEngineAlwaysBeside: [FLAG],
  registerHook: [LEAF, CALLBACK],
  registerPostAccumulateGradHook: [LEAF, CALLBACK],
  removeHook: [(fuzz) => junk(fuzz)],
  hasHooks: [T],
  retainGrad: [T],
  retainsGrad: [T],
  applyFunction: [(fuzz) => fuzz.ofType('str'), TS, FORWARD, CALLBACK],
  savedTensors: [N],
  getAutocast: [DEVICE],
  setAutocast: [DEVICE, FLAG, DTYPE, FLAG],
  enterAutocast: [],
  exitAutocast: [],
  resetPeakMemory: [DEVICE],
  freeMemory: [DEVICE],
  currentDevice: [],
  setDevice: [DEVICE],
  deviceStatistics: [DEVICE],
  newStream: [DEVICE, (fuzz) => fuzz.rng.pick([0, -1, 1, 1e9])],
  currentStream: [DEVICE],
  defaultStream: [DEVICE],
  setCurrentStream: [(fuzz) => junk(fuzz)],
  streamInfo: [(fuzz) => junk(fuzz)],
  queryStream: [(fuzz) => junk(fuzz)],
  synchronizeStream: [(fuzz) => junk(fuzz)],
  recordStream: [T, (fuzz) => junk(fuzz)],
  newEvent: [FLAG],
  recordEvent: [(fuzz) => junk(fuzz), (fuzz) => junk(fuzz)],
  waitEvent: [(fuzz) => junk(fuzz), (fuzz) => junk(fuzz)],
  queryEvent: [(fuzz) => junk(fuzz)],
  synchronizeEvent: [(fuzz) => junk(fuzz)],
  elapsedTime: [(fuzz) => junk(fuzz), (fuzz) => junk(fuzz)],
  getSwitch: [(fuzz) => fuzz.rng.pick(['cudnn.benchmark', 'cuda.mathSdp', ''])],
  setSwitch: [(fuzz) => fuzz.rng.pick(['cudnn.benchmark', 'cudnn.allowTf32', '']), FLAG],
  backendVersions: [],
  float32MatmulPrecision: [],
  setFloat32MatmulPrecision: [(fuzz) => fuzz.rng.pick(['highest', 'low', ''])],
  deterministicAlgorithms: [],
  setDeterministicAlgorithms: [() => false, FLAG],
  deviceProperties: [DEVICE],
  driverVersion: [],
  defaultDtype: [],
  setDefaultDtype: [DTYPE],
  shareTensor: [T, (fuzz) => fuzz.rng.int(3)],
  lendTensors: [HANDLE_LIST, (fuzz) => fuzz.rng.int(3)],
  endLoan: [LOAN],
  receiveTensor: [TICKET],
  discardTensor: [TICKET],
  workerStarted: [() => 1e6],
  workerEnded: [() => 1e6, FLAG],
  waitingTickets: [],
  getNumThreads: [],
  endThreadPool: [],
  setNumThreads: [(fuzz) => fuzz.rng.pick([0, 1, 2, -1, 1e9])],
  openDistributed: [(fuzz) => fuzz.rng.pick(['', '/', '/nowhere.so', '\0', __filename])],
  initGroup: [GROUP, () => 'localhost', N, N, N, N, FLAG, GROUP, GROUP],
  newGroup: [GROUP, SHAPE, N],
  destroyGroup: [GROUP],
  collective: [GROUP, N, HANDLE_LIST, HANDLE_LIST, () => 'sum', N, N],
  makeReducer: REDUCER,
  makeReducerOffLoop: REDUCER,
  prepareForForward: [TOKEN],
  prepareForBackward: [TOKEN, HANDLE_LIST],
  broadcastStates: [TOKEN, HANDLE_LIST],
  backwardOffLoop: [TOKEN, T],
  freeReducer: [TOKEN],
};

/** A function of the native binding, with values of the right kind and with junk. */
function byBinding(fuzz, { binding, bindingNames }) {
  const name = fuzz.rng.pick(bindingNames);
  const signature = SIGNATURES[name];
  const rate = fuzz.rng.pick([0, 0.2, 1]);
  let args = signature.map((make) => (fuzz.rng.chance(rate) ? junk(fuzz) : make(fuzz)));
  if (name === 'fromTypedArray' && fuzz.rng.chance(0.1)) {
    const { view, sizes } = shrinksWhenRead();
    args = [view, sizes, 7];
  }
  if (fuzz.rng.chance(0.05)) args.pop();
  if (name === 'callDirect') {
    const values = [
      fuzz.rng.int(3000),
      ...fuzz.rng.times(2, () => fuzz.handle()),
      ...fuzz.rng.times(8, () => fuzz.int()),
    ];
    if (fuzz.rng.chance(rate))
      values[fuzz.rng.int(values.length)] = fuzz.rng.pick([NaN, -1, 0.5, 1e300, 2 ** 31, 3, 8]);
    args = [values.map(Number)];
    return { name: 'binding.callDirect', args, run: () => (slots.set(args[0]), binding.callDirect()) };
  }
  return { name: `binding.${name}`, args, run: () => binding[name](...args) };
}

const routes = [byOps, byOps, byOps, byCall, byMethod, byExport, byBinding];

module.exports = { byOps, Operators, SIGNATURES, camelCase, routes };
