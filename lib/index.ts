/** The public surface of torchbind, and nothing else. */

export { TorchBindError } from './errors';

// Tensors
export { Tensor } from './tensor/tensor';
export type { BackwardOptions, NestedValues, ToOptions } from './tensor/tensor';
export type { DType, TypedArray } from './tensor/dtype';
export type { Complex, Layout, MemoryFormat, Scalar } from './tensor/schema-types';
export * from './tensor/generated/functions';
export {
  arange,
  empty,
  eye,
  fromTypedArray,
  full,
  linspace,
  ones,
  rand,
  randint,
  randn,
  randperm,
  tensor,
  zeros,
} from './tensor/creation';
export type { RandomOptions, TensorData, TensorOptions } from './tensor/creation';
export { ops } from './tensor/dispatch';
export type { OperatorNamespace, RawOperator, RawOverload } from './tensor/dispatch';
export { dispose, keep, memory, tidy } from './tensor/scope';
export { enableGrad, grad, inferenceMode, isGradEnabled, isInferenceModeEnabled, noGrad } from './tensor/autograd';
export type { GradOptions } from './tensor/autograd';
export { Generator, getRngState, manualSeed, setRngState } from './tensor/random';
export { cuda, getNumThreads, setNumThreads } from './tensor/device';

// Files
export { load, save } from './formats/pt';
export type { LoadOptions, SaveOptions, SaveProgress } from './formats/pt';
export { CheckpointError } from './formats/errors';
export { Counter, Device, DTypeValue, Float, OrderedDict, Size, Tuple } from './pickle/types';
