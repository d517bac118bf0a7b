import { AsyncLocalStorage } from 'node:async_hooks';
import type { Handle, Token } from '../native/binding';
import { native, state } from '../native/native';

/**
 * Who frees a tensor. Inside `tidy` a tensor belongs to the scope, which frees it at its end. Outside any scope the
 * garbage collector frees it, through a token that the tensor refers to; small tensors share a token, because making
 * one costs more than the operator.
 */

/** The fields of a `Tensor` (core.ts) that say who frees it. */
export interface Owned {
  handle: Handle;
  token: Token | undefined;
  scope: Scope | null;
}

/** The tensors made while a `tidy` callback runs. */
export class Scope {
  closed = false;
  private handles = pool.pop() ?? new Float64Array(64);
  private count = 0;

  constructor(readonly parent: Scope | null) {
    openScopes++;
  }

  add(handle: Handle): void {
    if (this.count === this.handles.length) {
      const larger = new Float64Array(2 * this.count);
      larger.set(this.handles);
      this.handles = larger;
    }
    this.handles[this.count++] = handle;
  }

  /** Forgets a handle, which the scope then does not free. */
  remove(handle: Handle): void {
    const index = this.handles.subarray(0, this.count).lastIndexOf(handle);
    if (index >= 0) this.handles[index] = this.handles[--this.count]!;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    openScopes--;
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
/** While no scope is open, no continuation can have one. */
let openScopes = 0;

export function currentScope(): Scope | null {
  if (active !== null) return active;
  if (openScopes === 0) return null;
  return openScope(continuations.getStore() ?? null);
}

/** Runs a function whose new tensors belong to a scope, in what the function awaits too. */
export function runInside<T>(scope: Scope, fn: () => T): T {
  const outer = active;
  active = scope;
  try {
    return continuations.run(scope, fn);
  } finally {
    active = outer;
  }
}

/** The nearest scope that has not ended: code may outlive the scope that it was started in. */
export function openScope(scope: Scope | null): Scope | null {
  while (scope !== null && scope.closed) scope = scope.parent;
  return scope;
}

/** Gives a new tensor its owner. `own` says that it must not share a token. */
export function place(tensor: Owned, own: boolean): void {
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
function share(tensor: Owned): void {
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
export function move(tensor: Owned, target: Scope | null): void {
  tensor.scope?.remove(tensor.handle);
  tensor.scope = target;
  if (target !== null) target.add(tensor.handle);
  else tensor.token = native().ownToken(tensor.handle);
}

/** @internal Gives a tensor another handle of the same native tensor, which has come to hold a graph. */
export function rehandle(tensor: Owned, handle: Handle): void {
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
export function ownToken(tensor: Owned): void {
  if (tensor.scope !== null) return;
  rehandle(tensor, native().alias(tensor.handle));
  takeOwnFlag();
}
