import { embedBatch, type EmbedRequest } from '../models/embed';
import type { ThreadOption } from '../generation/generate';
import type { GPTModel } from '../models/gpt-model';
import type { Tensor } from '../tensor/tensor';
import { acquireReplica, releaseReplica } from './models';
import { receiveLent } from './posted-module';

/** The vectors of each batch of texts, float32 (N, C), on a compute thread where that gives the same. The caller frees them. */
export async function* embeddings(
  model: GPTModel,
  requests: Iterable<EmbedRequest>,
  thread: ThreadOption,
): AsyncGenerator<Tensor, void, undefined> {
  const replica = thread === 'main' ? undefined : await acquireReplica(model);
  try {
    for (const request of requests) {
      if (replica === undefined) yield embedBatch(model, request);
      else yield receiveLent(await replica.call<number>({ type: 'embed', request }));
    }
  } finally {
    if (replica !== undefined) releaseReplica(model, replica, { keep: true });
  }
}
