import { ones } from '../tensor/creation';
import { dropout, scaledDotProductAttention } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import type { DeviceName } from '../tensor/schema-types';

export interface AttendOptions {
  /** Positions before the first query. */
  past: number;
  /** Positions that each query sees, its own included; null for all. */
  window: number | null;
  scale: number;
  /** Scores are c tanh(score / c) with this c; null for the scores as they are. */
  softcap: number | null;
  dropoutP: number;
  /** Takes the weights of the attention, (B, nh, T, past + T), before dropout. They are computed in plain steps then. */
  onWeights?: ((weights: Tensor) => void) | undefined;
}

/**
 * Causal attention of the queries (B, nh, T, hs), whose first position is number `past`, over all keys and values so far,
 * (B, nkv, past + T, hs) each: (B, nh, T, hs).
 */
export function attend(q: Tensor, k: Tensor, v: Tensor, options: AttendOptions): Tensor {
  const { window, scale, softcap, dropoutP, onWeights } = options;
  const T = q.size(2);
  if (window !== null && k.size(2) > window + T - 1)
    return attend(q, ...visible(k, v, window, T), seenBy(options, window));
  const { past } = options;
  const isBounded = window !== null && past + T > window;
  const isExplicit = softcap !== null || onWeights !== undefined;
  const needsMask = isExplicit || isBounded || past > 0;
  // `isCausal` aligns its mask to the first key: right without a past only. A single query sees every key.
  const attnMask = needsMask && T > 1 ? maskOf(T, past, isBounded ? window : null, q.device) : null;
  const enableGqa = k.size(1) !== q.size(1);
  if (isExplicit) return attendInSteps(q, k, v, attnMask, options);
  const isCausal = attnMask === null && T > 1;
  return scaledDotProductAttention(q, k, v, { attnMask, dropoutP, isCausal, scale, enableGqa });
}

/** Keys and values that at least one of the last T queries sees. */
function visible(k: Tensor, v: Tensor, window: number, T: number): [Tensor, Tensor] {
  const count = window + T - 1;
  const start = k.size(2) - count;
  return [k.narrow(2, start, count), v.narrow(2, start, count)];
}

function seenBy(options: AttendOptions, window: number): AttendOptions {
  return { ...options, past: window - 1 };
}

/** Which keys each query sees, (T, past + T). */
function maskOf(T: number, past: number, window: number | null, device: DeviceName): Tensor {
  const causal = ones([T, past + T], { dtype: 'bool', device }).tril(past);
  return window === null ? causal : causal.triu(past - window + 1);
}

/** The same without a fused kernel: none caps scores softly, and none gives the weights. */
function attendInSteps(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  attnMask: Tensor | null,
  { scale, softcap, dropoutP, onWeights }: AttendOptions,
): Tensor {
  const groups = q.size(1) / k.size(1);
  const [keys, values] = groups === 1 ? [k, v] : [k.repeatInterleave(groups, 1), v.repeatInterleave(groups, 1)];
  const scores = q.matmul(keys.transpose(-2, -1)).mul(scale); // (B, nh, T, past + T)
  const capped = softcap === null ? scores : scores.div(softcap).tanh().mul(softcap);
  const masked = attnMask === null ? capped : capped.maskedFill(attnMask.logicalNot(), -Infinity);
  const weights = masked.softmax(-1);
  onWeights?.(weights);
  return (dropoutP > 0 ? dropout(weights, dropoutP, true) : weights).matmul(values);
}
