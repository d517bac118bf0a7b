// What a valid call becomes when one thing in it is wrong: an argument, an option, an element of an array, or their number.
const { OnPurpose } = require('../junk.cjs');

/** Things that may stand where another was meant. Each entry makes a fresh one. */
const junkOf = (torch) => ({
  undefined: () => undefined,
  null: () => null,
  NaN: () => NaN,
  'minus one': () => -1,
  half: () => 0.5,
  huge: () => 2 ** 53,
  'empty string': () => '',
  string: () => 'x',
  'string of a NUL': () => '\0',
  true: () => true,
  bigint: () => 1n,
  symbol: () => Symbol('sweep'),
  'empty object': () => ({}),
  'object without a prototype': () => Object.create(null),
  'empty array': () => [],
  'array of null': () => [null],
  'array of an object': () => [{}],
  'sparse array': () => Object.assign([1, 2], { length: 2 ** 32 - 1 }),
  function: () => () => 1,
  'async function': () => async () => 1,
  promise: () => Promise.resolve(1),
  date: () => new Date(NaN),
  map: () => new Map([[1, 2]]),
  bytes: () => new Uint8Array(3),
  'detached array': detached,
  tensor: () => torch.ones(2, 3),
  'disposed tensor': () => disposed(torch),
  'tensor without a handle': () => Object.create(torch.Tensor.prototype),
  module: () => new torch.nn.Linear(2, 2),
  'proxy that throws': () => new Proxy({}, { get: refuse, has: refuse, ownKeys: refuse, getPrototypeOf: refuse }),
  'object that throws': () => Object.defineProperty({}, 'length', { get: refuse, enumerable: true }),
});

/** Fewer of them: for options, and for the functions that all go through one piece of code. */
const FEW = [
  'undefined',
  'null',
  'half',
  'huge',
  'string',
  'symbol',
  'empty object',
  'array of null',
  'function',
].concat(['map', 'detached array', 'object without a prototype', 'disposed tensor', 'proxy that throws']);

function refuse() {
  throw new OnPurpose();
}

function detached() {
  const array = new Float64Array(4);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

function disposed(torch) {
  const tensor = torch.ones(2);
  tensor.dispose();
  return tensor;
}

const isPlain = (value) =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;

/** Where something can be put into the arguments: paths of indices and keys. */
function places(args, depth = 0, path = []) {
  const keys = Array.isArray(args) && depth > 0 ? args.slice(0, 1).map((_, i) => i) : Object.keys(args);
  return keys.flatMap((key) => {
    const value = args[key];
    const inner = depth < 3 && (isPlain(value) || Array.isArray(value)) ? places(value, depth + 1, [...path, key]) : [];
    return [[...path, key], ...inner];
  });
}

/** Arguments with `value` at a place. */
function put(args, [key, ...rest], value) {
  args[key] = rest.length === 0 ? value : put(args[key], rest, value);
  return args;
}

module.exports = { FEW, junkOf, places, put };
