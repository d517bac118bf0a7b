/** The files of `torch.save` and `torch.load`. */
export { load, type LoadOptions } from './pt-load';
export { save, type SaveOptions, type SaveProgress } from './pt-save';
