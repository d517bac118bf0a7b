/** The files of `torch.save` and `torch.load`. */
export type { LoadLimits } from './limits';
export { load, type LoadOptions } from './pt-load';
export { save, type SaveOptions, type SaveProgress } from './pt-save';
