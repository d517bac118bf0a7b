export { decoderFor } from './decoder';
export { TrainingEngine } from './engine';
export { atWholeUpdate, NO_COPIES } from './models';
export type { StorageCopies } from './replica';
