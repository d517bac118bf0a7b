export { decoderFor } from './decoder';
export { embeddings } from './embeddings';
export { TrainingEngine } from './engine';
export { batchLosses } from './losses';
export { addGradients, type AccumulateOptions, canReadLate } from './update';
export { atWholeUpdate, NO_COPIES } from './models';
export type { StorageCopies } from './replica';
