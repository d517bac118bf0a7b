import { checkOptions } from '../errors';
import type { Tensor } from './core';
import { checkDType } from './dtype';
import type { DType } from './dtype';
import type { DeviceName } from './schema-types';

/** Options of functions that make tensors. */
export interface TensorOptions {
  /** Default float32, or what the values suggest where there are values. */
  dtype?: DType;
  /** Default `cpu`. */
  device?: DeviceName;
  /** Record operations on it. Default false. */
  requiresGrad?: boolean;
}

export const TENSOR_OPTIONS = ['dtype', 'device', 'requiresGrad'] as const;

/** The tensor as its options want it, where the operator does not take them. */
export function finish(tensor: Tensor, options: TensorOptions): Tensor {
  return options.requiresGrad === true ? tensor.requiresGrad_() : tensor;
}

export function checkTensorOptions(options: object, allowed: readonly string[], where: string): void {
  checkOptions(options, allowed, where);
  const dtype = (options as TensorOptions).dtype;
  if (dtype !== undefined) checkDType(dtype, where);
}
