/**
 * PyTorch's `torch.optim`, and gradient clipping.
 *
 * @module
 */

import type { Adagrad } from './adagrad';
import type { Adam, AdamW } from './adam';
import type { SGD } from './sgd';

export { Optimizer } from './optimizer';
export type { ParameterGroup, Parameters } from './optimizer';
export type { ParameterState } from './state-dict';
export { Adagrad } from './adagrad';
export type { AdagradGroup, AdagradGroupOptions, AdagradOptions } from './adagrad';
export { Adam, AdamW } from './adam';
export type { AdamGroup, AdamGroupOptions, AdamOptions, AdamWGroup, AdamWGroupOptions, AdamWOptions } from './adam';
export { clipGradNorm_ } from './clip';
export type { ClipGradNormOptions } from './clip';
export { GradScaler, type GradScalerOptions, type GradScalerState } from './grad-scaler';
export { SGD } from './sgd';
export type { SGDGroup, SGDGroupOptions, SGDOptions } from './sgd';
export { decayGroups } from './decay-groups';
export * as schedulers from './schedulers';
export type { DecayOptions, Schedule, WarmupOptions } from './schedulers';
export { recogniseOptimizer } from './recognise';
export type { RecognisedOptimizer, TorchOptimizer } from './recognise';

/** An optimizer that `fit` takes, and in which a saved state of its class resumes. */
export type AnyOptimizer = Adagrad | Adam | AdamW | SGD;
