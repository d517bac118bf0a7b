export { RandomWindows, type Batch, type RandomWindowsOptions } from './random-windows';
export { TokenStream, type Tokens, type TokenStreamOptions } from './token-stream';
