import { checkText, closest, describe, TorchBindError } from '../errors';
import { CharTokenizer } from './char';
import { Gpt2Tokenizer } from './gpt2';
import { HuggingFaceTokenizer } from './hugging-face';
import { isHuggingFaceJson } from './hugging-face-json';
import { isObject } from './json-checks';
import type { Tokenizer, TokenizerFields } from './tokenizer';

const kinds = ['char', 'gpt2'];

/** The tokenizer that a `tokenizer.json` describes, a bundle's or Hugging Face's; `where` names the file in errors. */
export function tokenizerFromJson(json: unknown, where = 'tokenizer.json'): Tokenizer {
  checkText(where, 'tokenizerFromJson: where');
  if (isHuggingFaceJson(json)) return new HuggingFaceTokenizer(json, { where });
  const { token_kind: kind, chars, ...fields } = (json ?? {}) as Record<string, unknown>;
  if (kind === 'gpt2') return new Gpt2Tokenizer({ specialTokens: specialTokens(fields, where), fields });
  if (kind === 'char') {
    if (Array.isArray(chars)) return new CharTokenizer(chars as string[], { fields });
    throw invalid(`${where}: a 'char' tokenizer needs 'chars', a list of characters; got ${describe(chars)}`);
  }
  throw invalid(`${where}: ${unknownKind(kind, 'token_kind')}`);
}

/** The texts that newer programs have as one token each. */
function specialTokens({ special_token_encoder: ids }: TokenizerFields, where: string): Record<string, number> {
  if (ids === undefined || ids === null) return {};
  if (isObject(ids)) return ids as Record<string, number>; // Gpt2Tokenizer checks what it holds.
  throw invalid(`${where}: special_token_encoder must be an object of texts and ids, got ${describe(ids)}`);
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
