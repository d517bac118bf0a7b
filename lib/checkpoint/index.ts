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
export {
  convertAllLegacy,
  convertLegacy,
  type ConvertLegacyOptions,
  type LegacyContents,
  type LegacyConversion,
} from '../gpt/convert-legacy';
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
export {
  CheckpointManager,
  type InitializeOptions,
  type LoadForInferenceOptions,
  type ManagerOptions,
  type SaveStateOptions,
  type TrainingStart,
} from '../gpt/checkpoint-manager';
export type { Metrics } from './integrity';
export type { KeepOptions } from './retention';
