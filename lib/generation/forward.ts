import type { GPTModel } from '../models/gpt-model';
import { tensor } from '../tensor/creation';
import type { Tensor } from '../tensor/tensor';
import type { Context } from './context';

/** A text and how many of its pending tokens a pass feeds to the model. */
export interface Feed {
  readonly context: Context;
  readonly count: number;
}

/** Logits after the tokens that each text feeds, (S, V), in one pass. */
export function forwardContexts(model: GPTModel, feeds: readonly Feed[]): Tensor {
  const segments = feeds.map(({ context, count }) => ({ cache: context.cache(), count }));
  const fresh = feeds.flatMap(({ context, count }) => context.next(count));
  const idx = tensor([fresh], { dtype: 'int64', device: model.device }); // (1, N)
  return feeds.length === 1 ? model.forwardCached(idx, segments[0]!.cache) : model.forwardPacked(idx, segments);
}
