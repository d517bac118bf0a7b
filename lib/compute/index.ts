export { decoderFor } from './decoder';
export { TrainingEngine } from './engine';
export { whenIdle } from './models';
