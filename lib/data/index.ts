export type { Batch, BatchSource } from './batch';
export { encodeDocuments, type Separator } from './documents';
export { type EpochPosition, EpochWindows, type EpochWindowsOptions } from './epoch-windows';
export { RandomWindows, type RandomWindowsOptions } from './random-windows';
export {
  type StreamPosition,
  StreamWindows,
  type TextPieces,
  type TextSource,
  TextStream,
  type TextStreamOptions,
} from './text-stream';
export { type TokenDType, TokenFile, type TokenFileOptions } from './token-file';
export { TokenStream, type Tokens, type TokenStreamOptions } from './token-stream';
export {
  prepareTokens,
  type PrepareTokensOptions,
  type TokenSource,
  writeTokens,
  type WriteTokensOptions,
} from './write-tokens';
