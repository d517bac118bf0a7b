/** Models, and the checkpoint layouts that they read and write. */
export { Bigram } from './bigram';
export { GPTModel } from './gpt-model';
export type { ForwardOptions, GPTModelOptions, GPTOutput } from './gpt-model';
export { completeConfig, configFromJson, configToJson } from './config';
export type { Activation, GPTConfig, GPTOptions } from './config';
export { applyLora, foldLora, LoraLinear, mergeLora, unmergeLora } from './lora';
export { attachQuantized, quantizeModel, refuseQuantized } from './quantize';
export type { QuantizeOptions } from './quantize';
export type { LoraOptions, LoraSpec } from './layouts/layout';
export { KVCache } from './kv-cache';
export type { KVCacheSize } from './kv-cache';
export { detectLayout, layoutByName, layoutNames, recogniseLayout } from './layouts';
export type { CheckpointLayout, Recognised } from './layouts';
