import type { GPTModel } from './gpt-model';
import { autocast } from '../tensor/autograd';
import type { Tensor } from '../tensor/tensor';
import type { DeviceName } from '../tensor/schema-types';

/** What the model computes in; weights, gradients and optimizer stay float32. */
export type Precision = 'float32' | 'bfloat16' | 'float16';

/** The loss of a batch (B, T), computed in a precision. */
export function lossOf(model: GPTModel, { x, y }: { x: Tensor; y: Tensor }, precision: Precision): Tensor {
  const compute = (): Tensor => model.loss(x, y);
  if (precision === 'float32') return compute();
  return autocast({ device: model.device.split(':')[0] as DeviceName, dtype: precision }, compute);
}
