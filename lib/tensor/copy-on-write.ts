import type { Handle } from '../native/binding';
import { native } from '../native/native';
import { noGrad } from './autograd/modes';
import { wrap } from './core';
import type { Tensor } from './core';
import { dtypeCode } from './dtype';
import { ops } from './ops';
import { keep, tidy } from './scope';

/**
 * Copies of storages that are made when one side is written to (PyTorch's copy on write, `_lazy_clone`): a snapshot of a
 * model costs next to nothing until training continues, and then only for the tensors that change.
 *
 * The first write after a lazy copy gives the written storage new memory. Memory that somebody uses by its address (a typed
 * array, another thread, a mapped file) must not move: it is copied at once.
 */

/** Bytes of a storage, apart from it: byte `base` of the storage is the first of `bytes`. */
export interface StorageCopy {
  /** uint8, one dimension, on the CPU; in no scope. */
  bytes: Tensor;
  base: number;
}

/**
 * The bytes from `start` to `end` of a tensor's storage as they are now, whatever is written to the storage later. Up to
 * all of the storage is in the copy where that costs nothing.
 */
export function copyStorage(handle: Handle, start: number, end: number): StorageCopy {
  const whole = lazyCopy(handle);
  if (whole !== undefined) return { bytes: whole, base: 0 };
  return noGrad(() =>
    tidy(() => {
      const span = wrap(native().viewStorage(handle, dtypeCode.uint8, start, [end - start], [1]));
      return { bytes: keep(span.device === 'cpu' ? span.clone() : span.to('cpu')), base: start };
    }),
  );
}

/** A uint8 tensor, in no scope, over a lazy copy of a tensor's whole storage; undefined where it must be copied at once. */
export function lazyCopy(handle: Handle): Tensor | undefined {
  if (native().device(handle) !== 'cpu') return undefined;
  const { nbytes } = native().storageInfo(handle);
  return noGrad(() =>
    tidy(() => {
      const bytes = wrap(native().viewStorage(handle, dtypeCode.uint8, 0, [nbytes], [1]));
      try {
        return keep(ops.aten._lazy_clone(bytes) as Tensor);
      } catch {
        return undefined; // memory that must not move, or is not PyTorch's own
      }
    }),
  );
}
