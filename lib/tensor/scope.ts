import { checkArgument, takes } from '../errors';
import { native } from '../native/native';
import { isPlainObject, isThenable } from '../objects';
import { Tensor } from './core';
import { currentScope, move, openScope, runInside, Scope } from './ownership';

/** Calls `visit` for every tensor in a tree of arrays, plain objects, maps and sets. */
function forEachTensor(tree: unknown, visit: (tensor: Tensor) => void): void {
  const seen = new Set<object>();
  const todo: unknown[] = [tree];
  while (todo.length > 0) {
    const node = todo.pop();
    if (node === null || typeof node !== 'object' || seen.has(node)) continue;
    seen.add(node);
    if (node instanceof Tensor) visit(node);
    else if (Array.isArray(node) || node instanceof Set) for (const item of itemsOf(node)) todo.push(item);
    else if (node instanceof Map) for (const item of node.values()) todo.push(item);
    else if (isPlainObject(node)) for (const item of Object.values(node)) todo.push(item);
  }
}

/** A sparse array may claim 2^32 - 1 elements: only those that it has are looked at. */
function itemsOf(node: unknown[] | Set<unknown>): Iterable<unknown> {
  return Array.isArray(node) && node.length > 2 ** 20 ? Object.values(node) : node;
}

function finish(scope: Scope, result: unknown): void {
  const parent = openScope(scope.parent);
  try {
    forEachTensor(result, (tensor) => {
      if (tensor.scope === scope && !tensor.isDisposed) move(tensor, parent);
    });
  } finally {
    scope.close(); // a getter in the result may throw
  }
}

/**
 * Runs `fn` and frees every tensor made in it, except those it returns (alone, or in arrays, plain objects, maps and
 * sets). `fn` may be async: its tensors live until its promise settles, and scopes never mix across `await`. Scopes
 * nest: tensors that an inner scope returns belong to the outer one. Follows TensorFlow.js's `tf.tidy`.
 *
 * @returns what `fn` returns
 * @throws what `fn` throws, after all its tensors were freed
 */
export const tidy = takes(1, function tidy<T>(fn: () => T): T {
  checkArgument(typeof fn === 'function', 'a function, as in tidy(() => ...)', fn, 'tidy()');
  const scope = new Scope(currentScope());
  let result: T;
  try {
    result = runInside(scope, fn);
  } catch (error) {
    scope.close();
    throw error;
  }
  if (isThenable(result)) return finishAsync(scope, result) as T;
  finish(scope, result);
  return result;
});

async function finishAsync(scope: Scope, promise: PromiseLike<unknown>): Promise<unknown> {
  try {
    const result = await promise;
    finish(scope, result);
    return result;
  } catch (error) {
    scope.close();
    throw error;
  }
}

/**
 * Removes tensors from every scope: they live until `dispose()` or until nothing refers to them. Returns its argument.
 */
export function keep<T>(tree: T): T {
  forEachTensor(tree, (tensor) => {
    if (tensor.scope !== null && !tensor.isDisposed) move(tensor, null);
  });
  return tree;
}

/** Frees every tensor in a tree of arrays, plain objects, maps and sets immediately. Disposing twice does nothing. */
export function dispose(tree: unknown): void {
  forEachTensor(tree, (tensor) => tensor.dispose());
}

/** Live tensors of this thread, and the bytes of their storages, each storage counted once. */
export const memory = takes(0, function memory(): { numTensors: number; numBytes: number } {
  const { tensors, bytes } = native().memory();
  return { numTensors: tensors, numBytes: bytes };
});
