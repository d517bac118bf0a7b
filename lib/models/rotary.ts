import { arange, tensor } from '../tensor/creation';
import type { DType } from '../tensor/dtype';
import { cat, pow, stack } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import type { GPTConfig } from './config';
import { ropeMagnitude, type RopeScaling, scaledFrequencies } from './rope-frequencies';
import type { DeviceName } from '../tensor/schema-types';

/** Cosines and sines of the angles by which RoPE rotates each position, (T, ropeSize / 2) each. */
type Rotation = readonly [cos: Tensor, sin: Tensor];

/** Those of layers that see all positions, and of those with a sliding window. */
export interface Rotations {
  readonly full: Rotation;
  readonly sliding: Rotation;
}

/**
 * The rotations of the positions (T).
 *
 * @param length tokens of the context, which tells LongRoPE's two sets of frequencies apart
 */
export function rotationsOf(positions: Tensor, length: number, config: GPTConfig, dtype: DType): Rotations {
  const { ropeSize, ropeTheta, ropeScale, ropeScaling, ropeLocalTheta } = config;
  const rotation = (theta: number, scale: number, scaling: RopeScaling | null): Rotation => {
    const frequencies = frequenciesOf(ropeSize, theta, scaling, length, positions.device); // (ropeSize / 2)
    // In float32 whatever the model computes in: half precision does not tell neighbouring positions apart.
    const angles = positions.to('float32').div(scale).outer(frequencies); // (T, ropeSize / 2)
    const magnitude = ropeMagnitude(scaling);
    const scaled = (x: Tensor): Tensor => (magnitude === 1 ? x : x.mul(magnitude)).to(dtype);
    return [scaled(angles.cos()), scaled(angles.sin())];
  };
  const full = rotation(ropeTheta, ropeScale, ropeScaling);
  return { full, sliding: ropeLocalTheta === null ? full : rotation(ropeLocalTheta, 1, null) };
}

/** Computed on the device, so that no forward pass waits for a copy; those of a scaling are copied there. */
function frequenciesOf(
  size: number,
  theta: number,
  scaling: RopeScaling | null,
  length: number,
  device: DeviceName,
): Tensor {
  if (scaling !== null) return tensor(scaledFrequencies(size, theta, scaling, length), { device });
  const exponents = arange(0, size, 2, { device }).to('float32').div(size); // (size / 2)
  return pow(theta, exponents).reciprocal();
}

/**
 * Rotary position embeddings (RoPE; Su et al. 2021) of queries or keys (B, nh, T, hs). As in LLaMA, channel i is paired
 * with channel i + ropeSize / 2, or as in GPT-J with its neighbour; what is beyond ropeSize stays.
 */
export function rotate(x: Tensor, [cos, sin]: Rotation, { ropeSize, headSize, ropeInterleaved }: GPTConfig): Tensor {
  const [rotated, rest] =
    ropeSize === headSize ? [x, []] : [x.narrow(-1, 0, ropeSize), [x.narrow(-1, ropeSize, headSize - ropeSize)]];
  if (ropeInterleaved) {
    const [a, b] = rotated.unflatten(-1, [-1, 2]).unbind(-1) as [Tensor, Tensor]; // (B, nh, T, ropeSize / 2) each
    const pairs = stack([a.mul(cos).sub(b.mul(sin)), b.mul(cos).add(a.mul(sin))], -1); // (B, nh, T, ropeSize / 2, 2)
    return cat([pairs.flatten(-2), ...rest], -1);
  }
  const [a, b] = rotated.chunk(2, -1) as [Tensor, Tensor]; // (B, nh, T, ropeSize / 2) each
  return cat([a.mul(cos).sub(b.mul(sin)), b.mul(cos).add(a.mul(sin)), ...rest], -1); // (B, nh, T, hs)
}
