/** The files of `torch.save` and `torch.load`. */
export type { LoadLimits } from '../../pickle/budget';
export { load, type LoadOptions } from './load';
export { save, type SaveOptions, type SaveProgress } from './save';
