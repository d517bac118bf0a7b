/**
 * Automatic differentiation (PyTorch's `torch.autograd`).
 *
 * @module
 */

export { autocast, getAutocastDtype, isAutocastEnabled } from './autocast';
export type { AutocastOptions } from './autocast';
export { Function, FunctionContext } from './function';
export type { FunctionClass, InputGradients } from './function';
export { backward, grad } from './grad';
export type { BackwardOptions, GradOptions } from './grad';
export { gradcheck, gradgradcheck } from './gradcheck';
export type { GradcheckOptions } from './gradcheck';
export { RemovableHandle } from './hooks';
export type { GradientHook } from './hooks';
export { enableGrad, inferenceMode, isGradEnabled, isInferenceModeEnabled, noGrad, setGradEnabled } from './modes';
