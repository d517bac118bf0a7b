import type { Tokenizer } from './tokenizer';
import { encodeInWorker, type TokenizerSource } from './worker-client';

/** Longer texts are encoded on a worker thread: it takes less than a turn of the event loop to post them. */
const longText = 64 * 1024;

/** The ids of a text, off the event loop where the tokenizer can. An empty text makes it ready for others. */
export async function encodeText(tokenizer: Tokenizer, text: string): Promise<Int32Array> {
  return tokenizer.encodeAsync === undefined ? tokenizer.encode(text) : tokenizer.encodeAsync(text);
}

/** Whether encoding a text at once would hold the event loop. */
export function takesLong(tokenizer: Tokenizer, text: string): boolean {
  return tokenizer.encodeAsync !== undefined && (text.length > longText || tokenizer.isReady === false);
}

/**
 * The ids of a long text from the worker thread.
 *
 * @param own the prototype of torchbind's class: a subclass with an `encode` of its own stays on the caller's thread
 * @param owner stands for the tokenizer, which the worker keeps
 * @returns undefined for a text that is short, and where there can be no worker
 */
export function encodeLong(
  tokenizer: Tokenizer,
  own: Tokenizer,
  source: () => TokenizerSource | Promise<TokenizerSource>,
  text: string,
  owner: object = tokenizer,
): Promise<Int32Array> | undefined {
  if (text.length <= longText || !encodesAs(tokenizer, own)) return undefined;
  return encodeInWorker(owner, source, text);
}

/** Whether two objects have the same method `encode`. */
export function encodesAs(tokenizer: Tokenizer, own: Tokenizer): boolean {
  return Reflect.get(tokenizer, 'encode') === Reflect.get(own, 'encode');
}
