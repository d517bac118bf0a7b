import type { ThreadOption } from '../generation/generate';
import type { GPTModel } from '../models/gpt-model';
import { acquireReplica, releaseReplica } from './models';
import type { Replica } from './replica';

/** Computes something of each item in turn, on a compute thread where that gives the same. */
export async function* computeEach<I, R>(
  model: GPTModel,
  items: Iterable<I>,
  thread: ThreadOption,
  there: (replica: Replica, item: I) => Promise<R>,
  here: (item: I) => R,
): AsyncGenerator<R, void, undefined> {
  const replica = thread === 'main' ? undefined : await acquireReplica(model);
  try {
    for (const item of items) yield replica === undefined ? here(item) : await there(replica, item);
  } finally {
    if (replica !== undefined) releaseReplica(model, replica, { keep: true });
  }
}
