export type { EvalEvent, FitOptions, SaveEvent, StepEvent } from './options';
export { fit, type FitResult, type SaveBundle } from './trainer';
