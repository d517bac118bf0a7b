import { setImmediate as nextTurn } from 'node:timers/promises';

/** Milliseconds of work between two turns of the event loop. */
const turnAfter = 4;

/**
 * Runs work that may be interrupted at each `yield`: after a few milliseconds the event loop turns once, so that others get their
 * turn. Work that has only just been compiled is slow: time decides, because no count of steps would suit it too.
 *
 * @param around runs the work between two turns
 * @returns what the generator returns
 */
export async function runInSlices<T>(
  work: Generator<void, T, void>,
  around: <R>(slice: () => R) => R = (slice) => slice(),
): Promise<T> {
  for (;;) {
    const { done, value } = around(() => runFor(turnAfter, work));
    if (done === true) return value;
    await nextTurn();
  }
}

function runFor<T>(milliseconds: number, work: Generator<void, T, void>): IteratorResult<void, T> {
  const end = performance.now() + milliseconds;
  let result = work.next();
  while (result.done !== true && performance.now() < end) result = work.next();
  return result;
}

/** For long loops in async functions: gives a promise when the event loop is due to turn, and otherwise undefined. */
export function turnTimer(): () => Promise<void> | undefined {
  let end = performance.now() + turnAfter;
  return () => {
    if (performance.now() < end) return undefined;
    return nextTurn().then(() => void (end = performance.now() + turnAfter));
  };
}

/** Runs the same work at once. */
export function runAtOnce<T>(work: Generator<void, T, void>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
  }
}
