/** Checks of the arguments that pickles give to known functions. */
import { GlobalError } from '../../pickle/globals';

export function sizes(value: unknown, what: string): number[] {
  if (!Array.isArray(value)) throw new GlobalError(`${what} are not a tuple`);
  // Array.from leaves room for more items, and a file may have a hundred thousand shapes.
  const list = new Array<number>(value.length);
  for (let i = 0; i < list.length; i++) list[i] = nonNegative(value[i], what);
  return list;
}

export function nonNegative(value: unknown, what: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new GlobalError(`${what}: expected ints from 0 to 2^53 - 1`);
}
