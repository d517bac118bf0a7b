import type { DType } from '../tensor/dtype';
import { arange } from '../tensor/creation';
import { cat, pow } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import type { GPTConfig } from './config';

/** Rotary position embeddings (RoPE; Su et al. 2021), with the halves of a head as the pairs' members, as in LLaMA. */

/** Cosines and sines of the angles, (T, hs / 2) each. */
export type Rotation = readonly [Tensor, Tensor];

/** The rotation of each of the positions (T). */
export function rotationOf(positions: Tensor, config: GPTConfig, dtype: DType): Rotation {
  const { nEmbd, nHead, ropeTheta, ropeScale } = config;
  const headSize = nEmbd / nHead;
  const exponents = arange(0, headSize, 2, { device: positions.device }).to('float32').div(headSize); // (hs / 2)
  const frequencies = pow(ropeTheta, exponents).reciprocal();
  const angles = positions.to('float32').div(ropeScale).outer(frequencies); // (T, hs / 2)
  return [angles.cos().to(dtype), angles.sin().to(dtype)];
}

/** Queries or keys (B, nh, T, hs), rotated. */
export function rotate(x: Tensor, [cos, sin]: Rotation): Tensor {
  const [a, b] = x.chunk(2, -1) as [Tensor, Tensor];
  return cat([a.mul(cos).sub(b.mul(sin)), b.mul(cos).add(a.mul(sin))], -1);
}
