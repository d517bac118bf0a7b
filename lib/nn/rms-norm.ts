import { checkFlags, checkIterable, checkOptions } from '../errors';
import { ones } from '../tensor/creation';
import { rmsNorm } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { ones_, zeros_ } from './init';
import type { FactoryOptions } from './linear';
import { Module } from './module';
import { makeParameter } from './parameter';
import type { Parameter } from './parameter';
import { pythonBool, pythonFloat, pythonTuple } from './print';
import { optionsFrom, type Positional } from './positional';

/** The optional arguments in Python's order. */
const PLACES = ['eps', 'elementwiseAffine', 'device', 'dtype'] as const;

/** Options of `RMSNorm`. */
export interface RMSNormOptions extends Omit<FactoryOptions, 'init'> {
  /** Added to the mean square. Default: the smallest step of the input's dtype from 1, as in PyTorch. */
  eps?: number | null;
  /** Learn a scale. Default true. */
  elementwiseAffine?: boolean;
}

/**
 * Divides by the root of the mean square over the last dimensions (PyTorch's `torch.nn.RMSNorm`; Zhang and Sennrich
 * 2019): (..., *shape) to the same; weight has `normalizedShape`.
 */
export class RMSNorm extends Module {
  readonly normalizedShape: readonly number[];
  readonly eps: number | null;
  weight: Parameter | null;

  constructor(normalizedShape: number | readonly number[], ...rest: Positional<RMSNormOptions, typeof PLACES>) {
    super();
    const options = optionsFrom<RMSNormOptions>(rest, PLACES, 'RMSNorm', 1);
    checkOptions(options, ['eps', 'elementwiseAffine', 'device', 'dtype'], 'RMSNorm');
    const { eps = null, elementwiseAffine = true, ...place } = options;
    checkFlags({ elementwiseAffine }, 'RMSNorm');
    if (typeof normalizedShape !== 'number') checkIterable(normalizedShape, 'a size or an array of sizes', 'RMSNorm');
    this.normalizedShape = typeof normalizedShape === 'number' ? [normalizedShape] : [...normalizedShape];
    this.eps = eps;
    this.weight = elementwiseAffine ? makeParameter(() => ones([...this.normalizedShape], place)) : null;
  }

  /** Sets the scale to 1. */
  resetParameters(): void {
    if (this.weight !== null) ones_(this.weight);
  }

  override extraRepr(): string {
    return `${pythonTuple(this.normalizedShape)}, eps=${this.eps === null ? 'None' : pythonFloat(this.eps)}, elementwise_affine=${pythonBool(this.weight !== null)}`;
  }

  forward(input: Tensor): Tensor {
    return rmsNorm(input, this.normalizedShape, this.weight, this.eps);
  }
}

/** @internal RMSNorm whose scale is 1 + weight, as in Gemma: a new one has weights of 0. */
export class OnePlusRMSNorm extends RMSNorm {
  override resetParameters(): void {
    if (this.weight !== null) zeros_(this.weight);
  }

  override forward(input: Tensor): Tensor {
    return rmsNorm(input, this.normalizedShape, this.weight?.add(1) ?? null, this.eps);
  }
}
