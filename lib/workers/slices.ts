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

/** Items between two places where `mapInSlices` may be interrupted: less than a millisecond of small work. */
const itemsAtOnce = 1000;

/** `items.map(compute)` as work for `runInSlices`. */
export function* mapInSlices<T, R>(
  items: readonly T[],
  compute: (item: T, i: number) => R,
): Generator<void, R[], void> {
  const results: R[] = [];
  for (const [i, item] of items.entries()) {
    results.push(compute(item, i));
    if (i % itemsAtOnce === 0) yield;
  }
  return results;
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
