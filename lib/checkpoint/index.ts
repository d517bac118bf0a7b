export { saveDistributed } from './distributed';
export {
  type CheckpointFile,
  type CheckpointFileFilter,
  type CheckpointFileName,
  checkpointFileName,
  type CheckpointNameOptions,
  findCheckpoints,
  parseCheckpointFileName,
  resolveCheckpoint,
} from './checkpoint-files';
export { compare, type Comparable, type Comparison, type TensorComparison } from './compare';
export { formatComparison, type FormatComparisonOptions } from './compare-text';
export type { CheckpointEntry } from './entries';
export { inspect, type InspectOptions } from './inspect';
export {
  formatInspection,
  type FormatInspectionOptions,
  Inspection,
  type InspectionIntegrity,
  type InspectionTotals,
} from './inspection';
export type { FamilyInfo, OptimizerInfo } from './inspect-contents';
export type { Metrics } from './manifest';
export type { KeepOptions } from './retention';
