import type { Batch } from '../data';
import type { ThreadOption } from '../generation/generate';
import type { GPTModel } from '../models/gpt-model';
import { dispose } from '../tensor/scope';
import { computeEach } from './compute-each';
import { post } from './engine';
import type { Replica } from './replica';
import { evaluationLoss } from './update';

/** The loss of each batch in evaluation mode, on a compute thread where that gives the same. Batches are freed. */
export function batchLosses(
  model: GPTModel,
  batches: Iterable<Batch>,
  thread: ThreadOption,
): AsyncGenerator<number, void, undefined> {
  const there = (replica: Replica, batch: Batch): Promise<number> =>
    replica.call<number>({ type: 'loss', batch: post(batch), precision: 'float32' });
  return computeEach(model, batches, thread, there, (batch) => lossHere(model, batch));
}

function lossHere(model: GPTModel, batch: Batch): number {
  try {
    return evaluationLoss(model, batch, 'float32');
  } finally {
    dispose(batch);
  }
}
