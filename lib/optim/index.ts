/** PyTorch's `torch.optim`, and gradient clipping. */
export { Optimizer } from './optimizer';
export type { ParameterGroup, Parameters, ParameterState } from './optimizer';
export { AdamW } from './adamw';
export type { AdamWGroup, AdamWGroupOptions, AdamWOptions } from './adamw';
export { clipGradNorm_ } from './clip';
export type { ClipGradNormOptions } from './clip';
export { GradScaler, type GradScalerOptions, type GradScalerState } from './grad-scaler';
export { SGD } from './sgd';
export type { SGDGroup, SGDGroupOptions, SGDOptions } from './sgd';
export { decayGroups } from './decay-groups';
export * as schedulers from './schedulers';
export type { DecayOptions, Schedule, WarmupOptions } from './schedulers';
