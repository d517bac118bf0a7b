export { decoderFor } from './decoder';
export { embeddings } from './embeddings';
export { TrainingEngine } from './engine';
export { batchLosses } from './losses';
export { type AccumulateOptions, canReadLate } from './update';
export { atWholeUpdate, NO_COPIES } from './models';
export type { StorageCopies } from './replica';
