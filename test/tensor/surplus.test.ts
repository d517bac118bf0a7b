/** No function drops arguments in silence: JavaScript would, and with them what the caller meant. */
import { expect, test } from 'vitest';
import { TorchBindError } from '../../lib/errors';
import * as nn from '../../lib/nn';
import * as optim from '../../lib/optim';
import * as autograd from '../../lib/tensor/autograd';
import * as composites from '../../lib/tensor/composites';
import * as creation from '../../lib/tensor/creation';
import { ones, tensor } from '../../lib/tensor/creation';
import * as device from '../../lib/tensor/device';
import * as dtypes from '../../lib/tensor/dtype-info';
import * as indexing from '../../lib/tensor/indexing';
import * as random from '../../lib/tensor/random';
import * as scope from '../../lib/tensor/scope';
import * as transfer from '../../lib/tensor/transfer';
import { Tensor } from '../../lib/tensor/tensor';
import * as unique from '../../lib/tensor/unique';

type AnyFunction = (...args: unknown[]) => unknown;

const isClass = (value: unknown): boolean => /^class\b/.test(Function.prototype.toString.call(value));

function functionsOf(namespace: object): [string, AnyFunction][] {
  return Object.entries(namespace).filter(
    (entry): entry is [string, AnyFunction] => typeof entry[1] === 'function' && !isClass(entry[1]),
  );
}

/** What a call with far too many arguments says, each of them undefined. */
function refusal(call: AnyFunction): string {
  try {
    call(...Array<undefined>(30).fill(undefined));
  } catch (error) {
    if (error instanceof TorchBindError) return error.message;
    throw error;
  }
  return 'nothing';
}

const REFUSED = /at most \d+ (arguments )?expected|expected at most \d+ arguments|invalid combination of arguments/;

/** Functions of any number of sizes or shapes, and those that refuse by naming their forms. */
const ANY_NUMBER = new Set('zeros ones empty rand randn arange eye randint broadcastShapes slice'.split(' '));
/** Of one argument each, to be given to map(), filter() and forEach(), which pass three. */
const CALLBACKS = new Set('isTensor keep dispose'.split(' '));
/** Not exported to users. */
const INTERNAL = new Set(['checkTensor', 'complexTypeOf', 'readRandomState', 'writeRandomState']);
const EXEMPT = new Set([...ANY_NUMBER, ...CALLBACKS, ...INTERNAL]);

const namespaces: Record<string, object> = {
  nn,
  'nn.functional': nn.functional,
  'nn.init': nn.init,
  optim,
  'optim.schedulers': optim.schedulers,
  autograd,
  composites,
  creation,
  device,
  dtypes,
  indexing,
  random,
  scope,
  transfer,
  unique,
};

test.each(Object.entries(namespaces))('%s', (_, namespace) => {
  const silent = functionsOf(namespace).filter(([name, call]) => !EXEMPT.has(name) && !REFUSED.test(refusal(call)));
  expect(silent.map(([name, call]) => `${name}: ${refusal(call)}`)).toEqual([]);
});

/** Called by JavaScript with arguments of its own, and with any number of indices. */
const OPEN_METHODS = new Set(['constructor', 'toString', 'toJSON', 'at']);

test('methods of tensors', () => {
  const methods = Object.getOwnPropertyNames(Tensor.prototype).filter((name) => {
    const value: unknown = Object.getOwnPropertyDescriptor(Tensor.prototype, name)!.value;
    return typeof value === 'function' && !OPEN_METHODS.has(name);
  });
  expect(methods.length).toBeGreaterThan(500);
  const y = ones(2, 2);
  const silent = methods.filter((name) => !REFUSED.test(refusal((...args) => call(methodOf(y, name), ...args))));
  expect(silent).toEqual([]);
});

function methodOf(on: Tensor, name: string): AnyFunction {
  return (on as unknown as Record<string, AnyFunction>)[name]!.bind(on);
}

const x = ones(2, 3);
const target = tensor([0, 1]);

test.each<[string, () => unknown, string]>([
  [
    'normalize',
    () => call(nn.functional.normalize, x, 2, 1, 1e-12, null),
    'normalize(): 5 arguments given, at most 4 expected.',
  ],
  [
    'crossEntropy',
    () => call(nn.functional.crossEntropy, x, target, undefined, 'sum'),
    "crossEntropy: argument 4 is one of Python's that must be null here.",
  ],
  ['eye', () => call(creation.eye, 2, 3, 4), 'eye(): expected (n) or (n, m).'],
  ['randint', () => call(creation.randint, 0, 9, [2], {}, 5), 'randint(): expected (high, size) or (low, high, size).'],
  ['item', () => call(methodOf(ones(1), 'item'), 0), 'item(): 1 arguments given, at most 0 expected.'],
  [
    'to',
    () => call(methodOf(x, 'to'), 'int32', {}, { copy: true }),
    'to(): expected nothing after the options, got Object',
  ],
  [
    'crossEntropy with weights twice',
    () => call(nn.functional.crossEntropy, x, target, ones(3), { weight: ones(3) }),
    "crossEntropy: 'weight' is given by position and by name.",
  ],
])('%s says what is wrong', (_, make, message) => {
  expect(make).toThrow(message);
});

function call(fn: unknown, ...args: unknown[]): unknown {
  return (fn as AnyFunction)(...args);
}
