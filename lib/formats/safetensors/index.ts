export { loadSafetensors, restoreTied, type LoadSafetensorsOptions } from './load';
export { saveSafetensors, type SaveSafetensorsOptions } from './save';
export { NamedTensors } from './shards';
