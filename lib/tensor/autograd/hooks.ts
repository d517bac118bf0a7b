import { describe, TorchBindError } from '../../errors';
import type { Handle, NativeHook } from '../../native/binding';
import { native } from '../../native/native';
import { Tensor, unwrap, wrap } from '../core';
import { ownToken } from '../ownership';
import { refuseAsyncFunction, refuseAsyncResult } from './synchronous';

/** Sees a gradient; a tensor that it returns replaces it. */
export type GradientHook = (grad: Tensor) => Tensor | null | undefined | void;

/** Takes a hook away again (PyTorch's `torch.utils.hooks.RemovableHandle`). */
export class RemovableHandle {
  #native: NativeHook | undefined;

  /** @internal Handles are made by `registerHook()` and the like. */
  constructor(hook: NativeHook) {
    this.#native = hook;
  }

  /** Removes the hook. Doing so twice does nothing. */
  remove(): void {
    if (this.#native !== undefined) native().removeHook(this.#native);
    this.#native = undefined;
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.remove();
  }
}

/** @internal Tensor.registerHook */
export function registerHook(tensor: Tensor, hook: GradientHook): RemovableHandle {
  const where = 'registerHook()';
  const registered = native().registerHook(unwrap(tensor, where), nativeCallback(hook, where));
  ownToken(tensor);
  return new RemovableHandle(registered);
}

/** @internal Tensor.registerPostAccumulateGradHook */
export function registerPostAccumulateGradHook(tensor: Tensor, hook: (tensor: Tensor) => void): RemovableHandle {
  const where = 'registerPostAccumulateGradHook()';
  const callback = nativeCallback((leaf) => void refuseAsyncResult(hook(leaf), where), where, hook);
  const registered = native().registerPostAccumulateGradHook(unwrap(tensor, where), callback);
  ownToken(tensor);
  return new RemovableHandle(registered);
}

/** What C++ calls, under the name of the function that it stands for, as libtorch's errors give it. */
function nativeCallback(
  hook: GradientHook,
  where: string,
  named: { name: string } = hook,
): (handle: Handle) => Handle | null {
  refuseAsyncFunction(named, where);
  const callback = (handle: Handle): Handle | null => lower(hook(wrap(handle)), where);
  Object.defineProperty(callback, 'name', { value: named.name || '<anonymous>' });
  return callback;
}

function lower(result: unknown, where: string): Handle | null {
  if (result === undefined || result === null) return null;
  if (result instanceof Tensor) return unwrap(result, where);
  refuseAsyncResult(result, where);
  throw new TorchBindError(
    `${where}: expected the hook to return a Tensor or nothing, but it returned ${describe(result)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
