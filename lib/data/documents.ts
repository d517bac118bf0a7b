import { checkArgument, checkIterable, checkText, describe, TorchBindError } from '../errors';
import { encodeText, type Tokenizer } from '../tokenizers';

/** Separator of texts: a token's id, or text to encode. */
export type Separator = number | string;

/** The ids of a separator, empty without one. The text of `startId`'s token is that single token. */
export function separatorIds(tokenizer: Tokenizer, separator: Separator | undefined): Int32Array {
  if (separator === undefined) return new Int32Array(0);
  if (typeof separator === 'string') {
    // `<|endoftext|>` is a token, though a text that holds these characters has none.
    const isStart = tokenizer.decode([tokenizer.startId]) === separator;
    return isStart ? Int32Array.of(tokenizer.startId) : tokenizer.encode(separator);
  }
  if (Number.isSafeInteger(separator) && separator >= 0 && separator < tokenizer.vocabSize)
    return Int32Array.of(separator);
  throw new TorchBindError(
    `separator must be a text, or a token's id below ${tokenizer.vocabSize}; got ${describe(separator)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** Refuses what is not a tokenizer. */
export function checkTokenizer(value: unknown, where: string): void {
  const tokenizer = value as Tokenizer | null | undefined;
  const isOne = typeof tokenizer?.encode === 'function' && typeof tokenizer.decode === 'function';
  checkArgument(isOne, 'a tokenizer', value, where);
}

/**
 * Encodes texts one after the other, each followed by the separator. The default separator is `startId`: GPT-2's
 * `<|endoftext|>`, or the first character of a character tokenizer.
 *
 * @returns token ids
 */
export function encodeDocuments(documents: Iterable<string>, tokenizer: Tokenizer, separator?: Separator): Int32Array {
  const end = endOfDocuments(documents, tokenizer, separator);
  const parts: Int32Array[] = [];
  for (const text of documents) {
    checkText(text, 'encodeDocuments');
    parts.push(tokenizer.encode(text), end);
  }
  return joined(parts);
}

/** As `encodeDocuments`, without blocking the event loop: long texts are encoded on a worker thread. */
export async function encodeDocumentsAsync(
  documents: Iterable<string>,
  tokenizer: Tokenizer,
  separator?: Separator,
): Promise<Int32Array> {
  const end = endOfDocuments(documents, tokenizer, separator);
  const parts: Int32Array[] = [];
  for (const text of documents) {
    checkText(text, 'encodeDocuments');
    parts.push(await encodeText(tokenizer, text), end);
  }
  return joined(parts);
}

function endOfDocuments(documents: unknown, tokenizer: Tokenizer, separator: Separator | undefined): Int32Array {
  checkTokenizer(tokenizer, 'encodeDocuments');
  checkIterable(documents, 'texts', 'encodeDocuments');
  return separatorIds(tokenizer, separator ?? tokenizer.startId);
}

function joined(parts: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let place = 0;
  for (const part of parts) {
    all.set(part, place);
    place += part.length;
  }
  return all;
}
