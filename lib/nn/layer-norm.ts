import { checkFlags, checkIterable, checkOptions } from '../errors';
import { ones, zeros } from '../tensor/creation';
import { layerNorm } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { ones_, zeros_ } from './init';
import type { FactoryOptions } from './linear';
import { Module } from './module';
import { makeParameter } from './parameter';
import type { Parameter } from './parameter';
import { pythonBool, pythonFloat, pythonTuple } from './print';
import { optionsFrom, type Positional } from './positional';

/** The optional arguments in Python's order. */
const PLACES = ['eps', 'elementwiseAffine', 'bias', 'device', 'dtype'] as const;

/** Options of `LayerNorm`. */
export interface LayerNormOptions extends Omit<FactoryOptions, 'init'> {
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /** Learn a scale, and with `bias` also a bias. Default true. */
  elementwiseAffine?: boolean;
  /** Learn a shift. Default true. */
  bias?: boolean;
}

/**
 * Normalises over the last dimensions (PyTorch's `torch.nn.LayerNorm`; Ba et al. 2016): (..., *shape) to the same;
 * weight and bias have `normalizedShape`.
 */
export class LayerNorm extends Module {
  readonly normalizedShape: readonly number[];
  readonly eps: number;
  weight: Parameter | null;
  bias: Parameter | null;

  constructor(normalizedShape: number | readonly number[], ...rest: Positional<LayerNormOptions, typeof PLACES>) {
    super();
    const options = optionsFrom<LayerNormOptions>(rest, PLACES, 'LayerNorm', 1);
    checkOptions(options, ['eps', 'elementwiseAffine', 'bias', 'device', 'dtype'], 'LayerNorm');
    const { eps = 1e-5, elementwiseAffine = true, bias = true, ...place } = options;
    checkFlags({ elementwiseAffine, bias }, 'LayerNorm');
    if (typeof normalizedShape !== 'number') checkIterable(normalizedShape, 'a size or an array of sizes', 'LayerNorm');
    this.normalizedShape = typeof normalizedShape === 'number' ? [normalizedShape] : [...normalizedShape];
    this.eps = eps;
    this.weight = elementwiseAffine ? makeParameter(() => ones([...this.normalizedShape], place)) : null;
    this.bias = elementwiseAffine && bias ? makeParameter(() => zeros([...this.normalizedShape], place)) : null;
  }

  /** Sets the scale to 1 and the shift to 0. */
  resetParameters(): void {
    if (this.weight !== null) ones_(this.weight);
    if (this.bias !== null) zeros_(this.bias);
  }

  override extraRepr(): string {
    return `${pythonTuple(this.normalizedShape)}, eps=${pythonFloat(this.eps)}, elementwise_affine=${pythonBool(this.weight !== null)}, bias=${pythonBool(this.bias !== null)}`;
  }

  forward(input: Tensor): Tensor {
    return layerNorm(input, this.normalizedShape, this.weight, this.bias, this.eps);
  }
}
