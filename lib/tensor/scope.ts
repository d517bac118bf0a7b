import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, TorchBindError } from '../errors';
import type { Handle, Token } from '../native/binding';
import { native, state } from '../native/native';
import { Tensor } from './core';

/**
 * Who frees a tensor. Inside `tidy` a tensor belongs to the scope, which frees it at its end. Outside any scope the
 * garbage collector frees it, through a token that the tensor refers to; small tensors share a token, because making
 * one costs more than the operator.
 */

/** The tensors made while a `tidy` callback runs. */
export class Scope {
  closed = false;
  private handles = pool.pop() ?? new Float64Array(64);
  private count = 0;

  constructor(readonly parent: Scope | null) {}

  add(handle: Handle): void {
    if (this.count === this.handles.length) {
      const larger = new Float64Array(2 * this.count);
      larger.set(this.handles);
      this.handles = larger;
    }
    this.handles[this.count++] = handle;
  }

  /** Forgets a handle: it is no longer this scope's to free. */
  remove(handle: Handle): void {
    const index = this.handles.subarray(0, this.count).lastIndexOf(handle);
    if (index >= 0) this.handles[index] = this.handles[--this.count]!;
  }

  close(): void {
    this.closed = true;
    if (this.count > 0) native().disposeMany(this.handles, this.count);
    if (pool.length < 16) pool.push(this.handles);
    this.handles = EMPTY;
    this.count = 0;
  }
}

const EMPTY = new Float64Array(0);
const pool: Float64Array[] = [];

/** The scope of the synchronous code that runs now. It is never left set across an `await`. */
let active: Scope | null = null;
/** The scope of asynchronous code, which follows its own continuations. */
const continuations = new AsyncLocalStorage<Scope>();
let openAsyncScopes = 0;

export function currentScope(): Scope | null {
  if (active !== null) return active;
  if (openAsyncScopes === 0) return null;
  return openScope(continuations.getStore() ?? null);
}

/** The nearest scope that has not ended: code may outlive the scope that it was started in. */
function openScope(scope: Scope | null): Scope | null {
  while (scope !== null && scope.closed) scope = scope.parent;
  return scope;
}

/** Gives a new tensor its owner. `own` says that it must not share a token. */
export function place(tensor: Tensor, own: boolean): void {
  const scope = currentScope();
  if (scope !== null) {
    tensor.scope = scope;
    scope.add(tensor.handle);
  } else if (own) {
    tensor.token = native().ownToken(tensor.handle);
  } else {
    share(tensor);
  }
}

/** Reads and resets the flag by which native calls say that a new tensor needs a token of its own. */
export function takeOwnFlag(): boolean {
  const own = state[0] !== 0;
  state[0] = 0;
  return own;
}

const PAGE_SIZE = 32;
const pageHandles = new Float64Array(PAGE_SIZE);
let pageCount = 0;
let page: Token | undefined;

/** Small tensors share a token; a page is sealed when it is full, or when the event loop turns. */
function share(tensor: Tensor): void {
  if (page === undefined) {
    page = native().newToken();
    setImmediate(sealPage).unref();
  }
  tensor.token = page;
  pageHandles[pageCount++] = tensor.handle;
  if (pageCount === PAGE_SIZE) sealPage();
}

function sealPage(): void {
  if (page === undefined) return;
  native().fillToken(page, pageHandles, pageCount);
  page = undefined;
  pageCount = 0;
}

/** Moves a tensor out of the scope that it belongs to, into `target` or to the garbage collector. */
function move(tensor: Tensor, target: Scope | null): void {
  tensor.scope?.remove(tensor.handle);
  tensor.scope = target;
  if (target !== null) target.add(tensor.handle);
  else tensor.token = native().ownToken(tensor.handle);
}

/** @internal Gives a tensor another handle of the same native tensor, which has come to hold a graph. */
export function rehandle(tensor: Tensor, handle: Handle): void {
  tensor.scope?.remove(tensor.handle);
  native().dispose(tensor.handle, tensor.token);
  tensor.handle = handle;
  if (tensor.scope !== null) tensor.scope.add(handle);
  else tensor.token = native().ownToken(handle);
}

/**
 * @internal Takes a tensor off a shared token. Else what a hook on it refers to could share that token, and the two
 * would keep each other alive.
 */
export function ownToken(tensor: Tensor): void {
  if (tensor.scope !== null) return;
  rehandle(tensor, native().alias(tensor.handle));
  takeOwnFlag();
}

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

export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (value === null || typeof value !== 'object') return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
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
 * Runs `fn` and frees every tensor made in it but those it returns (alone, or in arrays, plain objects, maps and sets).
 * `fn` may be async: its tensors live until its promise settles, and scopes never mix across `await`. Scopes nest; what
 * an inner scope returns belongs to the outer one. Follows TensorFlow.js's `tf.tidy`.
 *
 * @returns what `fn` returns
 * @throws what `fn` throws, after all its tensors were freed
 */
export function tidy<T>(fn: () => T): T {
  if (typeof fn !== 'function')
    throw new TorchBindError(
      `tidy() expects a function but received ${describe(fn)}. Write tidy(() => ...).`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  const outer = active;
  const scope = new Scope(currentScope());
  active = scope;
  openAsyncScopes++;
  let result: T;
  try {
    result = continuations.run(scope, fn);
  } catch (error) {
    openAsyncScopes--;
    active = outer;
    scope.close();
    throw error;
  }
  active = outer;
  if (!isThenable(result)) {
    openAsyncScopes--;
    finish(scope, result);
    return result;
  }
  return finishAsync(scope, result) as T;
}

async function finishAsync(scope: Scope, promise: PromiseLike<unknown>): Promise<unknown> {
  try {
    const result = await promise;
    finish(scope, result);
    return result;
  } catch (error) {
    scope.close();
    throw error;
  } finally {
    openAsyncScopes--;
  }
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return value !== null && typeof value === 'object' && typeof (value as { then?: unknown }).then === 'function';
}

/** Takes tensors out of every scope: they live until `dispose()` or until nothing refers to them. Returns its argument. */
export function keep<T>(tree: T): T {
  forEachTensor(tree, (tensor) => {
    if (tensor.scope !== null && !tensor.isDisposed) move(tensor, null);
  });
  return tree;
}

/** Frees every tensor in a tree of arrays, plain objects, maps and sets, at once. Disposing twice does nothing. */
export function dispose(tree: unknown): void {
  forEachTensor(tree, (tensor) => tensor.dispose());
}

/** Live tensors of this thread, and the bytes of their storages, each storage counted once. */
export function memory(): { numTensors: number; numBytes: number } {
  const { tensors, bytes } = native().memory();
  return { numTensors: tensors, numBytes: bytes };
}
