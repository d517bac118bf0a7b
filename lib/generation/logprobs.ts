import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import type { TokenLogprobs } from './decoder';

/** The log-probabilities of a token and of the `count` likeliest ones, given the model's logits (1, V). */
export function logprobsOf(logits: Tensor, token: number, count: number): TokenLogprobs {
  return tidy(() => {
    const all = logits.to('float32').logSoftmax(-1); // (1, V)
    const logprob = Number(all.narrow(-1, token, 1).item());
    const k = Math.min(count, all.size(-1));
    if (k === 0) return { token, logprob, top: [] };
    const [values, ids] = all.topk(k); // (1, k) each
    const [likeliest] = ids.tolist() as (number | bigint)[][];
    const [numbers] = values.tolist() as number[][];
    const top = likeliest!.map((id, i) => ({ token: Number(id), logprob: numbers![i]! }));
    return { token, logprob, top };
  });
}
