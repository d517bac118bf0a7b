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
