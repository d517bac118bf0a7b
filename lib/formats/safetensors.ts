export { loadSafetensors, type LoadSafetensorsOptions } from './safetensors-load';
export { saveSafetensors, type SaveSafetensorsOptions } from './safetensors-save';
export { NamedTensors } from './named-tensors';
