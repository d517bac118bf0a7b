import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * Runs work that gives up the thread at each `yield`: then the event loop turns once, so that what waits for it gets its turn.
 *
 * @param around runs each slice
 * @returns what the generator returns
 */
export async function runInSlices<T>(
  work: Generator<void, T, void>,
  around: <R>(slice: () => R) => R = (slice) => slice(),
): Promise<T> {
  for (;;) {
    const { done, value } = around(() => work.next());
    if (done === true) return value;
    await nextTurn();
  }
}

/** Runs the same work at once. */
export function runAtOnce<T>(work: Generator<void, T, void>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
  }
}
