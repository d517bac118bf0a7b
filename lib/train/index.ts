export type * from './events';
export type { GuardOptions } from './guard';
export type { Bundles } from './saves';
export { FIT_OPTIONS, type FitOptions } from './options';
export { readRun, type RunState, saveRun } from './run-state';
export { type FitResult, train } from './trainer';
