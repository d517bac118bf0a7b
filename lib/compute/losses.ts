import type { Batch } from '../data';
import type { ThreadOption } from '../generation/generate';
import type { GPTModel } from '../models/gpt-model';
import { dispose } from '../tensor/scope';
import { post } from './engine';
import { acquireReplica, releaseReplica } from './models';
import { evaluationLoss } from './update';

/** The loss of each batch in evaluation mode, on a compute thread where that gives the same. Batches are freed. */
export async function* batchLosses(
  model: GPTModel,
  batches: Iterable<Batch>,
  thread: ThreadOption,
): AsyncGenerator<number, void, undefined> {
  const replica = thread === 'main' ? undefined : await acquireReplica(model);
  try {
    for (const batch of batches) {
      if (replica !== undefined)
        yield await replica.call<number>({ type: 'loss', batch: post(batch), precision: 'float32' });
      else yield lossHere(model, batch);
    }
  } finally {
    if (replica !== undefined) releaseReplica(model, replica, { keep: true });
  }
}

function lossHere(model: GPTModel, batch: Batch): number {
  try {
    return evaluationLoss(model, batch, 'float32');
  } finally {
    dispose(batch);
  }
}
