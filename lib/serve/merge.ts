/** What one of several sequences gives: a value, or its result. */
export type Merged<T, R> = { index: number; value: T; done: false } | { index: number; value: R; done: true };

/** Runs several sequences at the same time, and gives what they give as it comes. All end when it ends. */
export async function* merge<T, R>(
  sequences: readonly AsyncGenerator<T, R, undefined>[],
): AsyncGenerator<Merged<T, R>, void, undefined> {
  const next = (index: number): Promise<Merged<T, R>> => {
    const promise = sequences[index]!.next().then(
      ({ value, done = false }) => ({ index, value, done }) as Merged<T, R>,
    );
    // It may fail while nobody reads on. Whoever does sees the error; without a handler it would end the process.
    promise.catch(() => undefined);
    return promise;
  };
  const pending = new Map(sequences.map((_, index) => [index, next(index)]));
  try {
    while (pending.size > 0) {
      const merged = await Promise.race(pending.values());
      if (merged.done) pending.delete(merged.index);
      else pending.set(merged.index, next(merged.index));
      yield merged;
    }
  } finally {
    await Promise.allSettled(pending.values()); // one that has failed is not the only one
    await Promise.allSettled(sequences.map((sequence) => sequence.return(undefined as R)));
  }
}
