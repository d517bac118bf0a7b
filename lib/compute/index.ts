export { type ThreadOption, TrainingEngine } from './engine';
export { whenIdle } from './models';
