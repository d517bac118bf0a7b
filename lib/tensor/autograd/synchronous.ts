import { describe, TorchBindError } from '../../errors';
import { isThenable } from '../../objects';

/**
 * Modes and hooks hold while a function runs. The rest of an async function or of a generator runs later, in whatever
 * mode others left, so those are refused: before they start where that can be seen, and by what they return elsewhere.
 */

const LATER = new Set(['AsyncFunction', 'GeneratorFunction', 'AsyncGeneratorFunction']);
const RUNS_LATER = new Set(['Generator', 'AsyncGenerator']);

function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}

function refuse(name: string, what: string): never {
  throw new TorchBindError(
    `${name}: ${what} would run on after it returns, out of its mode. Give a plain function, and await or iterate outside of it.`,
    'ERR_TORCHBIND_ASYNC_MODE',
  );
}

/** Refuses what is not a function, and functions that cannot end before they return. */
export function refuseAsyncFunction(fn: unknown, name: string): void {
  if (typeof fn !== 'function') {
    throw new TorchBindError(`${name}: expected a function, got ${describe(fn)}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
  }
  const tag = tagOf(fn);
  if (LATER.has(tag)) refuse(name, tag === 'AsyncFunction' ? 'an async function' : 'a generator');
}

/** Refuses promises and generators as results. */
export function refuseAsyncResult(result: unknown, name: string): void {
  if (isThenable(result)) {
    // The refusal is the error to see, not that the promise was left alone.
    result.then(undefined, () => undefined);
    refuse(name, 'code behind a promise');
  }
  if (RUNS_LATER.has(tagOf(result))) refuse(name, 'a generator');
}
