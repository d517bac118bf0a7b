import { checkArgument } from '../errors';
import { autocast } from '../tensor/autograd';
import type { Tensor } from '../tensor/tensor';
import type { DeviceName } from '../tensor/schema-types';

/** What the model computes in; weights, gradients and optimizer stay float32. */
export type Precision = 'float32' | 'bfloat16' | 'float16';

/** What the parameters of a model may be in. */
export type WeightDType = 'float32' | 'bfloat16' | 'float16';

const weightDTypes: readonly unknown[] = ['float32', 'bfloat16', 'float16'] satisfies WeightDType[];

/** Whether the parameters of a model may be in a dtype. */
export function isWeightDType(dtype: unknown): dtype is WeightDType {
  return weightDTypes.includes(dtype);
}

export function checkWeightDType(dtype: unknown, where: string): asserts dtype is WeightDType {
  checkArgument(isWeightDType(dtype), "'float32', 'bfloat16' or 'float16' for 'dtype'", dtype, where);
}

/** A model that gives the loss of token ids and the ids that follow. */
interface Learner {
  readonly device: string;
  loss(idx: Tensor, targets: Tensor): Tensor;
}

/** The loss of a batch (B, T), computed in a precision. */
export function lossOf(model: Learner, { x, y }: { x: Tensor; y: Tensor }, precision: Precision): Tensor {
  const compute = (): Tensor => model.loss(x, y);
  if (precision === 'float32') return compute();
  return autocast({ device: model.device.split(':')[0] as DeviceName, dtype: precision }, compute);
}
