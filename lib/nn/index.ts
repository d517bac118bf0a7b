/**
 * PyTorch's `torch.nn`.
 *
 * @module
 */

export { Module } from './module';
export type { Layer, ModuleToOptions } from './module';
export type { IncompatibleKeys } from './state-dict';
export { Parameter } from './parameter';
export { Linear } from './linear';
export type { FactoryOptions, LinearOptions } from './linear';
export { QuantizedLinear } from './quantized-linear';
export type { Quantization } from './quantized-linear';
export { Embedding } from './embedding';
export { LayerNorm } from './layer-norm';
export type { LayerNormOptions } from './layer-norm';
export { RMSNorm } from './rms-norm';
export type { RMSNormOptions } from './rms-norm';
export { Dropout } from './dropout';
export { GELU } from './gelu';
export { ReLU } from './relu';
export { Sequential } from './sequential';
export { ModuleList } from './module-list';
export * as functional from './functional';
export * as init from './init';
export { checkpoint } from './checkpoint';
export * as parallel from './parallel';
