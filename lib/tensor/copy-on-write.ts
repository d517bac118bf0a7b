import type { Handle } from '../native/binding';
import { native } from '../native/native';
import { noGrad } from './autograd/modes';
import { wrap } from './core';
import { dtypeCode } from './dtype';
import { tidy } from './scope';

/**
 * Copies of storages that are made when one side is written to (PyTorch's copy on write, `_lazy_clone`): a snapshot of a
 * model costs next to nothing until training continues, and then only for the tensors that change.
 *
 * The first write after a lazy copy gives the written storage new memory. Memory that somebody uses by its address (a typed
 * array, another thread, a mapped file) must not move: it is copied at once.
 */

/** Bytes of a storage, apart from it: byte `base` of the storage is the first of `bytes`. */
export interface StorageCopy {
  /** A uint8 tensor of one dimension on the CPU, which the caller frees. */
  bytes: Handle;
  base: number;
}

/** Bytes `start` to `end` of a tensor's storage. */
export interface StorageSpan {
  handle: Handle;
  start: number;
  end: number;
}

/**
 * The bytes of storages as they are now, whatever is written to them later. Up to all of a storage is in the copy where that
 * costs nothing.
 */
export function copyStorages(spans: readonly StorageSpan[]): StorageCopy[] {
  const lazy = native().lazyCopies(spans.map(({ handle }) => handle));
  return spans.map((span, i) =>
    lazy[i] === 0 ? { bytes: copySpan(span), base: span.start } : { bytes: lazy[i]!, base: 0 },
  );
}

function copySpan({ handle, start, end }: StorageSpan): Handle {
  return noGrad(() =>
    tidy(() => {
      const span = wrap(native().viewStorage(handle, dtypeCode.uint8, start, [end - start], [1]));
      return native().alias((span.device === 'cpu' ? span.clone() : span.to('cpu')).handle);
    }),
  );
}
