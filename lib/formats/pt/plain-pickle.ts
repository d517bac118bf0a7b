import type { MemoryBudget } from '../../pickle/budget';
import { GlobalError, type GlobalTable } from '../../pickle/globals';
import { readPickle } from '../../pickle/reader';

/** Reads one of the small pickles of a container, which name nothing but what `globals` has. */
export function readPlain(
  bytes: Uint8Array,
  record: string,
  globals: GlobalTable = new Map(),
  budget?: MemoryBudget,
): unknown {
  const persistentLoad = (): never => {
    throw new GlobalError('nothing to refer to');
  };
  return readPickle(bytes, { globals, persistentLoad, record, budget }).value;
}
