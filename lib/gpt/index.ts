export {
  CheckpointManager,
  type InitializeOptions,
  type LoadForInferenceOptions,
  type ManagerOptions,
  type SaveStateOptions,
  type TrainingStart,
} from './checkpoint-manager';
export {
  convertAllLegacy,
  convertLegacy,
  type ConvertLegacyOptions,
  type LegacyContents,
  type LegacyConversion,
} from './convert-legacy';
export type { ExportOptions, ExportResult, ReleaseDType } from '../export/export';
export { download, type DownloadOptions } from '../hub/download';
export type { PushOptions, PushResult } from '../hub/push';
export type { EmbedOptions } from './embed';
export type { TextModel } from './text-model';
export { GPT, type GPTPushOptions, type LegacyCheckpoint, type LoadModelOptions } from './gpt';
export type { SaveBundleOptions, SaveCheckpointFileOptions, SaveModelOptions } from './save';
