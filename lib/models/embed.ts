import { inferenceMode } from '../tensor/autograd';
import { arange, tensor } from '../tensor/creation';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import type { GPTModel } from './gpt-model';
import { evaluation } from './mode';

/** How the vectors of a text's tokens become one. */
export type Pooling = 'mean' | 'last' | 'first';

/** What `embedBatch` computes of texts. */
export interface EmbedRequest {
  /** Token ids of each text, one or more. */
  readonly texts: readonly (readonly number[])[];
  /** Index into the hidden states, 0 to nLayer. */
  readonly layer: number;
  readonly pooling: Pooling;
  /** Whether each vector gets the length 1. */
  readonly normalize: boolean;
}

/** A vector for each text, float32 (N, C) on the model's device. */
export function embedBatch(model: GPTModel, { texts, layer, pooling, normalize }: EmbedRequest): Tensor {
  const compute = (): Tensor => {
    const { device } = model;
    const lengths = tensor(
      texts.map(({ length }) => [length]),
      { dtype: 'int64', device },
    ); // (N, 1)
    const T = Math.max(...texts.map(({ length }) => length));
    // What comes after a text does not change it: attention is causal.
    const rows = texts.map((ids) => [...ids, ...new Array<number>(T - ids.length).fill(0)]);
    const idx = tensor(rows, { dtype: 'int64', device }); // (N, T)
    const { hiddenStates } = model.forward(idx, null, { hiddenStates: true });
    const states = hiddenStates![layer]!.to('float32'); // (N, T, C)
    const pooled = pool(states, lengths, pooling);
    return normalize ? pooled.div(pooled.norm(2, [-1], true).clampMin(1e-12)) : pooled;
  };
  return evaluation(model)(() => inferenceMode(() => tidy(compute)));
}

/** (N, T, C) -> (N, C), given the texts' lengths (N, 1). */
function pool(states: Tensor, lengths: Tensor, pooling: Pooling): Tensor {
  const positions = arange(states.size(1), { device: states.device }).unsqueeze(0); // (1, T)
  switch (pooling) {
    case 'first':
      return states.select(1, 0);
    case 'last':
      return states.mul(positions.eq(lengths.sub(1)).unsqueeze(-1)).sum(1);
    case 'mean':
      return states.mul(positions.lt(lengths).unsqueeze(-1)).sum(1).div(lengths);
  }
}

/** Whether texts of several lengths may share a pass: some rotary positions depend on the longest. */
export function embedsTogether({ config: { ropeScaling } }: GPTModel): boolean {
  return ropeScaling?.type !== 'longrope';
}
