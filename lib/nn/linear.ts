import { checkFlags, checkOptions } from '../errors';
import type { DType } from '../tensor/dtype';
import type { Tensor } from '../tensor/tensor';
import { multiply } from './decoding';
import { calculateFans, kaimingUniform_, uniform_ } from './init';
import { Module } from './module';
import { emptyParameter, type Parameter } from './parameter';
import { pythonBool } from './print';
import type { DeviceName } from '../tensor/schema-types';
import { optionsFrom, type Positional } from './positional';

/** The optional arguments in Python's order. */
const PLACES = ['bias', 'device', 'dtype'] as const;

/** Where and as what a layer makes its parameters. */
export interface FactoryOptions {
  device?: DeviceName;
  dtype?: DType;
  /** False leaves the values unset, and draws nothing from the generator: for weights that are loaded next. Default true. */
  init?: boolean;
}

/** Options of `Linear`. */
export interface LinearOptions extends FactoryOptions {
  /** Add a learned bias. Default true. */
  bias?: boolean;
}

/** y = x W^T + b (PyTorch's `torch.nn.Linear`): (..., in) to (..., out); weight (out, in), bias (out). */
export class Linear extends Module {
  weight: Parameter;
  bias: Parameter | null;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    ...rest: Positional<LinearOptions, typeof PLACES>
  ) {
    super();
    const options = optionsFrom<LinearOptions>(rest, PLACES, 'Linear', 2);
    checkOptions(options, ['bias', 'device', 'dtype', 'init'], 'Linear');
    const { bias = true, init = true, ...place } = options;
    checkFlags({ bias, init }, 'Linear');
    this.weight = emptyParameter([outFeatures, inFeatures], place);
    this.bias = bias ? emptyParameter([outFeatures], place) : null;
    if (init) this.resetParameters();
  }

  /** Draws new weights as PyTorch does. */
  resetParameters(): void {
    initLinearWeight_(this.weight);
    if (this.bias !== null) initLinearBias_(this.bias, this.weight);
  }

  override extraRepr(): string {
    return `in_features=${this.inFeatures}, out_features=${this.outFeatures}, bias=${pythonBool(this.bias !== null)}`;
  }

  forward(input: Tensor): Tensor {
    return multiply(input, this.weight, this.bias);
  }
}

/** PyTorch's default for the weight (out, in) of a Linear: U(-1/sqrt(in), 1/sqrt(in)), drawn by the Kaiming formula. */
export function initLinearWeight_(weight: Tensor): void {
  kaimingUniform_(weight, { a: Math.sqrt(5) });
}

/** PyTorch's default for the bias (out) of a Linear with that weight. */
export function initLinearBias_(bias: Tensor, weight: Tensor): void {
  const { fanIn } = calculateFans(weight);
  const bound = fanIn > 0 ? 1 / Math.sqrt(fanIn) : 0;
  uniform_(bias, -bound, bound);
}
