export { compare, type Comparable, type Comparison, type TensorComparison } from './compare';
export { formatComparison, type FormatComparisonOptions } from './compare-text';
export { inspect, type InspectOptions } from './inspect';
export {
  formatInspection,
  type FormatInspectionOptions,
  Inspection,
  type InspectionIntegrity,
  type InspectionTotals,
} from './inspection';
export type { FamilyInfo, OptimizerInfo } from './inspect-contents';
export {
  type CheckpointEntry,
  CheckpointManager,
  type InitializeOptions,
  type LoadForInferenceOptions,
  type ManagerOptions,
  type SaveStateOptions,
  type TrainingStart,
} from './manager';
export type { Metrics } from './integrity';
export type { KeepOptions } from './retention';
