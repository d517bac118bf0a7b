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
  void answer(request, text).then(
    ([message, transfer]) => send(request, message, transfer),
    (error: unknown) => send(request, { id, error: postError(error) }),
  );
});

type Question = Extract<Request, { key: number }>;

async function answer({ id, key, source, wants }: Question, text: string): Promise<[Reply, ArrayBuffer[]]> {
  if (source !== undefined) tokenizers.set(key, makeTokenizer(source));
  const tokenizer = tokenizers.get(key)!;
  if (wants === 'opened') {
    const opened = tokenizer === null ? null : (tokenizer as HuggingFaceTokenizer).opened();
    return [{ id, opened }, opened === null ? [] : [opened.bytes, opened.starts, opened.missing].map(bufferOf)];
  }
  if (wants === 'ids') {
    const ids = tokenizer instanceof HuggingFaceTokenizer ? await tokenizer.encodeHere(text) : tokenizer!.encode(text);
    return [{ id, ids }, [ids.buffer as ArrayBuffer]];
  }
  const encoding = await (tokenizer as HuggingFaceTokenizer).encodeWithOffsetsHere(text, wants === 'encoding');
  return [{ id, encoding }, [encoding.ids.buffer as ArrayBuffer]];
}

/** To the thread that waits for it, or to whoever listens. */
function send({ waiting }: Question, message: Reply, transfer: readonly ArrayBuffer[] = []): void {
  (waiting?.port ?? port).postMessage(message, transfer);
  if (waiting === undefined) return;
  Atomics.store(waiting.flag, 0, 1);
  Atomics.notify(waiting.flag, 0);
  waiting.port.close();
}

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
