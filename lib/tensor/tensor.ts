import { refuseSurplus } from '../errors';
import { autograd } from './autograd/methods';
import type { TensorAutograd } from './autograd/methods';
import { composites } from './composite-methods';
import type { TensorComposites } from './composite-methods';
import { conversions } from './conversions';
import type { TensorConversions } from './conversions';
import { Tensor, unwrap, wrap, wrapOptional } from './core';
import { bindMethod } from './dispatch';
import { METHOD_NAMES } from './generated/methods';
import type { TensorMethods } from './generated/methods';
import { indexing } from './indexing';
import type { TensorIndexing } from './indexing';
import { interop } from './interop';
import type { TensorInterop } from './interop';
import { camelCase } from './operator';
import { printing } from './print';
import type { TensorPrinting } from './print';
import { properties } from './properties';
import type { TensorProperties } from './properties';

type Member = (this: Tensor, ...args: unknown[]) => unknown;

/** Those with a rest parameter: they count for themselves. JSON.stringify gives `toJSON` a key. */
const OWN_COUNT = new Set(['at', 'norm', 'stft', 'toJSON']);

/**
 * The member, refusing a `this` that is not a tensor, and surplus arguments. JavaScript does not count parameters with a default
 * value in `length`, so these members have none.
 */
function onTensors(key: string, member: Member): Member {
  const most = OWN_COUNT.has(key) ? Infinity : member.length;
  return function (this: Tensor, ...args: unknown[]): unknown {
    if (!(this instanceof Tensor)) unwrap(this, key);
    refuseSurplus(key, args.length, most);
    return member.apply(this, args);
  };
}

/** The methods that the class declares itself, refusing the same. */
function guardOwnMethods(): void {
  for (const key of Object.getOwnPropertyNames(Tensor.prototype)) {
    const { value, ...descriptor } = Object.getOwnPropertyDescriptor(Tensor.prototype, key)! as { value?: Member };
    if (value !== undefined && key !== 'constructor') define(key, { ...descriptor, value: onTensors(key, value) });
  }
}

/** Puts methods and getters on every tensor, hidden from enumeration as a class's own are. */
function attach(members: object, guard: (key: string, member: Member) => Member): void {
  for (const key of Reflect.ownKeys(members)) {
    const descriptor = Object.getOwnPropertyDescriptor(members, key)!;
    const { value, get } = descriptor as { value?: Member; get?: Member };
    const name = String(key);
    if (value !== undefined) define(key, { ...descriptor, value: guard(name, value) });
    else define(key, { ...descriptor, get: guard(name, get!) });
  }
}

function define(key: string | symbol, descriptor: PropertyDescriptor): void {
  Object.defineProperty(Tensor.prototype, key, { ...descriptor, enumerable: false });
}

/**
 * Each operator is looked up in libtorch when it is first called. Hundreds of properties added to a prototype one after
 * the other take V8 ten milliseconds; but once one was taken away it keeps them by name, until they are used.
 */
function attachOperators(): void {
  for (const key of ['first', 'second']) define(key, { configurable: true });
  for (const key of ['first', 'second']) Reflect.deleteProperty(Tensor.prototype, key);
  for (const name of METHOD_NAMES.split(' ')) {
    define(camelCase(name), { value: bindMethod(name), writable: true, configurable: true });
  }
}

guardOwnMethods();
attachOperators();
for (const members of [autograd, composites, conversions, indexing, interop, properties]) attach(members, onTensors);
attach(printing, (_, member) => member);

declare module './core' {
  interface Tensor
    extends
      TensorMethods,
      TensorAutograd,
      TensorComposites,
      TensorConversions,
      TensorIndexing,
      TensorInterop,
      TensorPrinting,
      TensorProperties {}
}

export { Tensor, unwrap, wrap, wrapOptional };
