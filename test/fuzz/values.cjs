// Arguments for one call: plausible ones by the type in the schema, and now and then junk.
const { junk } = require('./junk.cjs');
const { Rng } = require('./rng.cjs');

const DTYPES = [
  ...['float32', 'float32', 'float32', 'float32', 'float64', 'int64', 'int64', 'bool', 'int32', 'uint8', 'complex64'],
  ...['float16', 'bfloat16', 'int8', 'int16', 'complex128', 'complex32', 'uint16', 'uint32', 'uint64'],
  ...['float8_e5m2', 'float8_e4m3fn', 'float8_e5m2fnuz', 'float8_e4m3fnuz', 'float8_e8m0fnu', 'float4_e2m1fn_x2'],
  ...['qint8', 'quint8', 'qint32', 'quint4x2', 'quint2x4'],
];
/** Elements from which on a tensor stays as it is: millions of them take seconds to become sparse. */
const LARGE = 200_000;
const SIZES = [0, 1, 1, 2, 2, 3, 4, 5, 8, 16, 17];
const INTS = [-7, -3, -2, -1, -1, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 7, 8, 16, 64, 1000];
const WIDE_INTS = [2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 33, 2 ** 52, -(2 ** 52), 2n ** 62n, -(2n ** 63n)];
const FLOATS = [0, 1, -1, 0.5, 1e-5, 2, 3.5, 10, 0.1, NaN, Infinity, -Infinity, 1e308, -0];
const STRINGS = [
  ...['mean', 'sum', 'none', 'max', 'min', 'prod', 'amax', 'amin', 'reflect', 'replicate', 'circular', 'constant'],
  ...[
    'floor',
    'trunc',
    'left',
    'right',
    'ij',
    'xy',
    'linear',
    'nearest',
    'higher',
    'lower',
    'midpoint',
    'r',
    'reduced',
  ],
  ...['tanh', 'erf', 'sigmoid', 'relu', 'gelu', 'fro', 'nuc', 'L', 'U', 'gelsd', 'gelsy', 'gels', 'gelss', 'gesvd'],
];
const DEVICES = ['meta', 'cuda', 'cuda:0', 'cpu:1', 'mps', 'cpu:99', 'xla', 'fpga:-1'];
const LAYOUTS = ['strided', 'sparse_coo', 'sparse_csr', 'sparse_csc', 'sparse_bsr', 'sparse_bsc', 'mkldnn'];
const FORMATS = ['contiguous_format', 'preserve_format', 'channels_last', 'channels_last_3d'];

/** The state of one call: its random numbers, and a shape that its tensors share more often than not. */
class Fuzz {
  constructor(torch, binding, seed, index) {
    this.torch = torch;
    this.binding = binding;
    this.rng = new Rng(seed, index);
    this.junkRate = this.rng.pick([0, 0, 0, 0.05, 0.3]);
    this.wideRate = this.rng.pick([0, 0, 0.02, 0.1]);
    this.rank = this.rng.pick([0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6]);
    this.shape = this.rng.times(this.rank, () => this.rng.pick(SIZES));
    this.dtype = this.rng.pick(this.rng.chance(0.7) ? DTYPES.slice(0, 11) : DTYPES);
    this.strange = this.rng.chance(0.3);
  }

  size() {
    return this.rng.pick(SIZES);
  }

  sizes() {
    if (this.rng.chance(0.6)) return [...this.shape];
    if (this.rng.chance(0.5)) return this.shape.map((n) => (this.rng.chance(0.6) ? n : this.size()));
    return this.rng.times(this.rng.int(6), () => this.size());
  }

  tensor() {
    const base = this.strided();
    if (!this.strange || this.rng.chance(0.6)) return base;
    const change = this.rng.pick(STRANGE);
    if (base.numel() > LARGE) return base;
    try {
      return change(base, this);
    } catch {
      return base;
    }
  }

  strided() {
    const { rng, torch } = this;
    const dtype = rng.chance(0.9) ? this.dtype : rng.pick(DTYPES);
    const shape = this.sizes();
    if (dtype.startsWith('q')) return quantized(torch, shape, dtype) ?? torch.ones(shape);
    if (dtype === 'bool') return torch.rand(shape).gt(0.5);
    if (/^(int|uint)/.test(dtype)) return torch.randint(-1, rng.pick([2, 5, 300]), shape).to(dtype);
    const values = torch.randn(shape);
    if (rng.chance(0.05)) values.mul_(rng.pick([Infinity, NaN, 0, 1e30]));
    if (dtype === 'float4_e2m1fn_x2') return withoutFill(torch, shape, dtype) ?? values;
    return dtype === 'float32' ? values : values.to(dtype);
  }

  /** A tensor that was freed. */
  disposed() {
    const tensor = this.torch.ones(2);
    tensor.dispose();
    return tensor;
  }

  /** A number that may be the handle of a tensor: of a live one, of another worker's, or of none. */
  handle() {
    const { rng } = this;
    const live = this.tensor().handle;
    return rng.pick([live, live, 16777216 * (1 + rng.int(3)) + rng.int(200), live + 1, -live, 2 ** 52 + 1, 0]);
  }

  /** For operators that count to their arguments: no large numbers, and no junk among them. */
  tame() {
    this.junkRate = 0;
    this.wideRate = 0;
    this.floats = [0, 1, -1, 0.5, 2, 3.5, 10];
  }

  int() {
    return this.rng.chance(this.wideRate) ? this.rng.pick(WIDE_INTS) : this.rng.pick(INTS);
  }

  ints(count = this.rng.pick([this.rank, this.rank, 0, 1, 2, 3, 4, 6])) {
    if (this.rng.chance(0.3)) return this.sizes();
    return this.rng.times(count, () => this.int());
  }

  float() {
    return this.rng.pick(this.floats ?? FLOATS);
  }

  scalar() {
    return this.rng.pick([
      () => this.int(),
      () => this.float(),
      () => this.rng.chance(0.5),
      () => ({ re: this.float(), im: this.float() }),
    ])();
  }

  /** A value for an argument of an operator; `undefined` leaves it to its default. */
  argument({ type, hasDefault }) {
    if (this.rng.chance(this.junkRate)) return junk(this);
    if (hasDefault && this.rng.chance(0.5)) return undefined;
    return this.ofType(type);
  }

  ofType(type) {
    const { rng } = this;
    const isPlace = /^(Device|Layout|ScalarType)\?$/.test(type);
    if (type.endsWith('?')) return rng.chance(isPlace ? 0.8 : 0.4) ? null : this.ofType(type.slice(0, -1));
    const list = /^(.*)\[(\d*)\]$/.exec(type);
    if (list !== null) return this.list(list[1], list[2]);
    switch (type.replace(/^Sym/, '').toLowerCase()) {
      case 'tensor':
      case 'storage':
        return this.tensor();
      case 'int':
      case 'qscheme':
        return this.int();
      case 'float':
        return this.float();
      case 'bool':
        return rng.chance(0.5);
      case 'scalar':
        return this.scalar();
      case 'str':
        return rng.pick(STRINGS);
      case 'scalartype':
        return rng.chance(0.5) ? this.dtype : rng.pick(DTYPES);
      case 'layout':
        return rng.chance(0.7) ? 'strided' : rng.pick(LAYOUTS);
      case 'memoryformat':
        return rng.pick(FORMATS);
      case 'device':
        return rng.chance(0.8) ? 'cpu' : rng.pick(DEVICES);
      case 'generator':
        return new this.torch.Generator();
      default:
        return junk(this);
    }
  }

  list(element, size) {
    const { rng } = this;
    if (/^(Sym)?[Ii]nt$/.test(element)) {
      if (size !== '' && rng.chance(0.3)) return this.int();
      return this.ints(size !== '' && rng.chance(0.8) ? Number(size) : undefined);
    }
    const count = size !== '' && rng.chance(0.8) ? Number(size) : rng.pick([0, 1, 2, 2, 3, 4]);
    return rng.times(count, () => this.ofType(element));
  }
}

/** Without values; undefined while deterministic algorithms are on, which fill new memory: there is no kernel for this dtype. */
function withoutFill(torch, shape, dtype) {
  try {
    return torch.empty(shape, { dtype });
  } catch {
    return undefined;
  }
}

function quantized(torch, shape, dtype) {
  try {
    const values = torch.randn(shape);
    if (dtype === 'quint4x2' || dtype === 'quint2x4') {
      const zeros = torch.zeros([shape[0] ?? 1]);
      return torch.ops.aten.quantize_per_channel(values, zeros.add(0.5), zeros, 0, dtype);
    }
    return torch.ops.aten.quantize_per_tensor(values, 0.1, dtype === 'qint8' ? 0 : 3, dtype);
  } catch {
    return undefined;
  }
}

/** Tensors that are not plain memory: each takes a plain one. */
const STRANGE = [
  (t) => t.t(),
  (t) => t.expand([3, ...t.shape]),
  (t) => t.slice(0, 1, null, 2),
  (t) => t.transpose(0, -1),
  (t) => t.flip([0]),
  (t) => t.requiresGrad_(),
  (t) => t.requiresGrad_().mul(2),
  (t) => t.toSparse(),
  (t) => t.toSparse(Math.max(1, t.ndim - 1)),
  (t) => t.toSparseCsr(),
  (t) => t.toSparseCsc(),
  (t) => t.toSparseBsr([1, 1]),
  (t) => t.toMkldnn(),
  (t) => t.to('meta'),
  (t) => t.conj(),
  (t) => t.to('complex64').conj().imag,
  (t) => t._negView(),
  (t, { torch }) => torch.ops.aten._nested_tensor_from_tensor_list([t, t]),
  (t, { torch }) => torch.ops.aten._efficientzerotensor(t.shape),
  (t, { torch }) => torch.inferenceMode(() => t.clone()),
  (t) => t.to('float32').contiguous({ memoryFormat: 'channels_last' }),
  (t, { torch }) => torch.ops.aten.quantize_per_tensor(t.to('float32'), 0.1, 3, 'quint8'),
  (t, { torch }) =>
    torch.ops.aten.quantize_per_channel(t.to('float32'), torch.rand(t.shape[0]), torch.zeros(t.shape[0]), 0, 'qint8'),
  (t, { torch }) => torch.ops.aten.sparse_coo_tensor(torch.randint(-3, 9, [2, 3]), torch.randn(3), [4, 4]),
  (t, { torch }) => torch.ops.aten._sparse_coo_tensor_unsafe(torch.randint(0, 4, [2, 3]), torch.randn(3), [4, 4]),
];

module.exports = { Fuzz };
