import type { ThreadOption } from '../generation/generate';
import { embedBatch, type EmbedRequest } from '../models/embed';
import type { GPTModel } from '../models/gpt-model';
import type { Tensor } from '../tensor/tensor';
import { computeEach } from './compute-each';
import { receiveLent } from './posted-module';
import type { Replica } from './replica';

/** The vectors of each batch of texts, float32 (N, C), on a compute thread where that gives the same. The caller frees them. */
export function embeddings(
  model: GPTModel,
  requests: Iterable<EmbedRequest>,
  thread: ThreadOption,
): AsyncGenerator<Tensor, void, undefined> {
  const there = async (replica: Replica, request: EmbedRequest): Promise<Tensor> =>
    receiveLent(await replica.call<number>({ type: 'embed', request }));
  return computeEach(model, requests, thread, there, (request) => embedBatch(model, request));
}
