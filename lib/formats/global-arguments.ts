/** Checks of the arguments that pickles give to known functions. */
import { GlobalError } from '../pickle/globals';

export function sizes(value: unknown, what: string): number[] {
  if (!Array.isArray(value)) throw new GlobalError(`${what} are not a tuple`);
  return Array.from(value, (item: unknown) => nonNegative(item, what));
}

export function nonNegative(value: unknown, what: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new GlobalError(`${what}: expected ints from 0 to 2^53 - 1`);
}
