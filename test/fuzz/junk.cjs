// Values that nobody should pass. Each entry makes a fresh one; `fuzz` is the state of the call (see values.cjs).

/** Thrown by proxies and getters here: the one error that may come back as it is. */
class OnPurpose extends Error {}

const throwing = () =>
  new Proxy([1, 2], {
    get() {
      throw new OnPurpose();
    },
  });

/** An array, one of whose elements disposes a tensor when it is read. */
function disposing(fuzz) {
  const victim = fuzz.tensor();
  const list = [victim, victim, fuzz.tensor()];
  Object.defineProperty(list, 0, {
    get() {
      victim.dispose();
      return 1;
    },
  });
  return list;
}

function detached() {
  const array = new Float64Array(4);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

/** An array over a buffer that shrinks when the array next to it is read. */
function shrinking() {
  const buffer = new ArrayBuffer(64, { maxByteLength: 128 });
  const view = new Float64Array(buffer, 8, 4);
  buffer.resize(8);
  return view;
}

function shrinksWhenRead() {
  const buffer = new ArrayBuffer(64, { maxByteLength: 128 });
  const view = new Float64Array(buffer);
  const sizes = [8];
  Object.defineProperty(sizes, 0, {
    get() {
      buffer.resize(0);
      return 8;
    },
  });
  return { view, sizes };
}

class Foreign {
  constructor() {
    this.handle = 16777217;
    this.shape = [2];
  }
}

const plain = [
  undefined,
  null,
  NaN,
  Infinity,
  -Infinity,
  -0,
  -1,
  0.5,
  2 ** 31,
  -(2 ** 31),
  2 ** 32 + 1,
  2 ** 40,
  2 ** 53,
  -(2 ** 53),
  1e308,
  0n,
  -1n,
  2n ** 62n,
  -(2n ** 63n),
  2n ** 64n,
  '',
  '\0',
  '__proto__',
  'constructor',
  'x'.repeat(100_000),
  '\ud800',
  true,
  false,
];

const made = [
  () => [],
  () => {
    const sparse = [1, 2];
    sparse.length = 2 ** 32 - 1;
    return sparse;
  },
  () => [[], [[]]],
  () => [NaN, -1, null],
  () => [2 ** 40, 2 ** 40],
  () => [2n ** 62n, 2n ** 62n],
  () => Array.from({ length: 200 }, () => 1),
  () => ({}),
  () => Object.create(null),
  () => ({ re: 1, im: NaN }),
  () => ({ dtype: 'float33', device: 7 }),
  () => ({ then: 1 }),
  () => Symbol('fuzz'),
  () => () => 1,
  () => new Foreign(),
  () => new Date(NaN),
  () => new Map([[1, 2]]),
  () => new Float64Array(3),
  () => new BigInt64Array(2),
  () => new Uint8Array(new SharedArrayBuffer(8)),
  () => new DataView(new ArrayBuffer(8)),
  () => new ArrayBuffer(8),
  () => Buffer.from('torch'),
  throwing,
  () => new Proxy([1, 2], {}),
  () => ({
    get re() {
      throw new OnPurpose();
    },
    im: 1,
  }),
  detached,
  shrinking,
  disposing,
  (fuzz) => fuzz.disposed(),
  (fuzz) => fuzz.tensor(),
  (fuzz) => Object.create(fuzz.torch.Tensor.prototype),
  (fuzz) => new fuzz.torch.Tensor(fuzz.handle()),
  (fuzz) => fuzz.binding.newToken(),
  (fuzz) => fuzz.handle(),
];

function junk(fuzz) {
  const { rng } = fuzz;
  return rng.chance(0.5) ? rng.pick(plain) : rng.pick(made)(fuzz);
}

module.exports = { OnPurpose, junk, shrinksWhenRead };
