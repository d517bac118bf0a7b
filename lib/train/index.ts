export type * from './events';
export type { GuardOptions } from './guard';
export type { Bundles } from './saves';
export { checkOptimizer, FIT_OPTIONS, FIT_SYNONYMS, type FitOptions } from './options';
export type { MetricsLine } from './metrics/line';
export { evaluateText, type EvaluateOptions, type EvaluateResult, perplexity } from './evaluate-text';
export { readRun, type RunState, saveRun } from './run-state';
export { train } from './train';
export type { FitResult } from './trainer';
