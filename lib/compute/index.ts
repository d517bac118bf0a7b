export { decoderFor } from './decoder';
export { TrainingEngine } from './engine';
export { batchLosses } from './losses';
export { addGradients, type AccumulateOptions } from './update';
export { atWholeUpdate, NO_COPIES } from './models';
export type { StorageCopies } from './replica';
