export { encodeText, takesLong } from './encode-async';
export { CharTokenizer, type UnknownCharacters } from './char';
export { huggingFaceJson } from './for-hugging-face';
export { tokenizerForText, tokenizerFromJson } from './from-json';
export { Gpt2Tokenizer, type Gpt2TokenizerOptions } from './gpt2';
export { HuggingFaceTokenizer, type HuggingFaceTokenizerOptions } from './hugging-face';
export { loadNanoGptTokenizer, loadTokenizer } from './load';
export { charFromMetaPickle, charToMetaPickle } from './meta-pickle';
export type { HuggingFaceJson, StreamDecoder, Tokenizer, TokenizerFields, TokenizerJson } from './tokenizer';
