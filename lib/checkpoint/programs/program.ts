import { storageKey } from '../snapshot';
import type { GPTModel } from '../../models/gpt-model';
import { noGrad } from '../../tensor/autograd';
import type { DType } from '../../tensor/dtype';
import { dispose } from '../../tensor/scope';
import { Tensor } from '../../tensor/tensor';

/** What a form writes. */
export interface ModelToWrite {
  /** In the layout that the files get. */
  model: GPTModel;
  /** Its state dict. */
  weights: Map<string, unknown>;
  /** Optimizer updates made; null where that is not known. */
  step: number | null;
  /** In the layout's form; null for none. */
  optimizerState: ReadonlyMap<string, unknown> | null;
  /** What the form kept when the model was read; empty for one that came from elsewhere. */
  kept: ReadonlyMap<string, unknown>;
  /** Of the weights in the files; null for what they are. */
  dtype: DType | null;
}

/** Runs `write` with the state dict in the dtype asked for, and frees the copies. */
export async function withWeights<T>(
  { weights, dtype }: Pick<ModelToWrite, 'weights' | 'dtype'>,
  write: (weights: Map<string, Tensor>) => Promise<T>,
): Promise<T> {
  const own = weights as Map<string, Tensor>;
  if (dtype === null) return write(own);
  const casts = new Map<string, Tensor>();
  try {
    for (const [key, value] of own) own.set(key, castOnce(value, dtype, casts));
    return await write(own);
  } finally {
    dispose([...casts.values()]);
  }
}

/** What is one tensor under several keys, tied weights and masks, stays one. */
function castOnce(value: Tensor, dtype: DType, casts: Map<string, Tensor>): Tensor {
  if (!value.dtype.includes('float') || value.dtype === dtype) return value;
  const id = storageKey(value);
  const cast = casts.get(id) ?? noGrad(() => value.to(dtype));
  casts.set(id, cast);
  return cast;
}
