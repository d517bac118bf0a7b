import { parentPort } from 'node:worker_threads';
import { postError } from '../workers/errors';
import { CharTokenizer } from './char';
import { Gpt2Tokenizer } from './gpt2';
import { HuggingFaceTokenizer, openHuggingFace } from './hugging-face';
import type { Tokenizer } from './tokenizer';
import type { Reply, Request, TokenizerSource } from './worker-client';

/** The worker thread of worker-client.ts. */

const port = parentPort!;
const tokenizers = new Map<number, Tokenizer | null>();
const pieces = new Map<number, string[]>();

port.on('message', (request: Request) => {
  const { id } = request;
  if ('piece' in request) {
    pieces.set(id, [...(pieces.get(id) ?? []), request.piece]);
    return;
  }
  const text = pieces.get(id)?.join('') ?? '';
  pieces.delete(id);
  try {
    if (request.source !== undefined) tokenizers.set(request.key, makeTokenizer(request.source));
    const tokenizer = tokenizers.get(request.key)!;
    if (request.wants === 'ids') {
      const ids = tokenizer!.encode(text);
      reply({ id, ids }, [ids.buffer as ArrayBuffer]);
    } else {
      const opened = tokenizer === null ? null : (tokenizer as HuggingFaceTokenizer).opened();
      reply({ id, opened }, opened === null ? [] : [opened.bytes, opened.starts, opened.missing].map(bufferOf));
    }
  } catch (error) {
    reply({ id, error: postError(error) });
  }
});

/** null for a tokenizer.json of another kind than Hugging Face's. */
function makeTokenizer(source: TokenizerSource): Tokenizer | null {
  switch (source.kind) {
    case 'char':
      return new CharTokenizer(source.chars, { unknown: source.unknown });
    case 'gpt2':
      return new Gpt2Tokenizer({ specialTokens: source.specialTokens });
    case 'hugging-face':
      return openHuggingFace(source);
  }
}

function bufferOf(array: Uint8Array | Uint32Array): ArrayBuffer {
  return array.buffer as ArrayBuffer;
}

function reply(message: Reply, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}
