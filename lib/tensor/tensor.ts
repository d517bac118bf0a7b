import { composites } from './composite-methods';
import { Tensor, unwrap, wrap, wrapOptional } from './core';
import { conversions } from './conversions';
import { bindMethod } from './dispatch';
import { METHOD_NAMES } from './generated/methods';
import { indexing } from './indexing';
import { interop } from './interop';
import { camelCase } from './operator';
import { properties } from './properties';

type Member = (this: Tensor, ...args: unknown[]) => unknown;

/** The member, refusing a `this` that is no tensor. */
function onTensors(key: string, member: Member): Member {
  return function (this: Tensor, ...args: unknown[]): unknown {
    if (!(this instanceof Tensor)) unwrap(this, key);
    return member.apply(this, args);
  };
}

/** Puts methods and getters on every tensor, hidden from enumeration as a class's own are. */
function attach(members: object): void {
  for (const key of Reflect.ownKeys(members)) {
    const descriptor = Object.getOwnPropertyDescriptor(members, key)!;
    const { value, get } = descriptor as { value?: Member; get?: Member };
    const name = String(key);
    if (value !== undefined) define(key, { ...descriptor, value: onTensors(name, value) });
    else define(key, { ...descriptor, get: onTensors(name, get!) });
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

attachOperators();
for (const members of [composites, conversions, indexing, interop, properties]) attach(members);

export { Tensor, unwrap, wrap, wrapOptional };
export type { BackwardOptions, NestedValues } from './core';
