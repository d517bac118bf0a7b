import { closest, describe, TorchBindError } from '../errors';
import { CharTokenizer } from './char';
import { Gpt2Tokenizer } from './gpt2';
import type { Tokenizer } from './tokenizer';

export { CharTokenizer, type UnknownCharacters } from './char';
export { Gpt2Tokenizer } from './gpt2';
export type { StreamDecoder, Tokenizer, TokenizerJson } from './tokenizer';

const kinds = ['char', 'gpt2'];

/** The tokenizer that a `tokenizer.json` describes; `where` names the file in errors. */
export function tokenizerFromJson(json: unknown, where = 'tokenizer.json'): Tokenizer {
  const { token_kind: kind, chars } = (json ?? {}) as { token_kind?: unknown; chars?: unknown };
  if (kind === 'gpt2') return new Gpt2Tokenizer();
  if (kind === 'char') {
    if (Array.isArray(chars)) return new CharTokenizer(chars as string[]);
    throw invalid(`${where}: a 'char' tokenizer needs 'chars', a list of characters; got ${describe(chars)}`);
  }
  throw invalid(`${where}: ${unknownKind(kind, 'token_kind')}`);
}

/** A tokenizer of this kind for a new model: `char` takes its vocabulary from the text. */
export function tokenizerForText(kind: string, text: string): Tokenizer {
  if (kind === 'gpt2') return new Gpt2Tokenizer();
  if (kind === 'char') return CharTokenizer.fromText(text);
  throw invalid(unknownKind(kind, 'tokenization'));
}

function unknownKind(kind: unknown, field: string): string {
  const near = typeof kind === 'string' ? closest(kind, kinds) : undefined;
  const hint = near === undefined ? `It must be one of: ${kinds.join(', ')}.` : `Did you mean '${near}'?`;
  return `${field} is ${describe(kind)}. ${hint}`;
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(message, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
