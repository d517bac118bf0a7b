export type { Batch, BatchSource } from './batch';
export { type EpochPosition, EpochWindows, type EpochWindowsOptions } from './epoch-windows';
export { RandomWindows, type RandomWindowsOptions } from './random-windows';
export { TokenStream, type Tokens, type TokenStreamOptions } from './token-stream';
