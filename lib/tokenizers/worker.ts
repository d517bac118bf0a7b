import { parentPort } from 'node:worker_threads';
import { postError } from '../workers/errors';
import { CharTokenizer } from './char';
import { Gpt2Tokenizer } from './gpt2';
import { HuggingFaceTokenizer, openHuggingFace } from './hugging-face';
import type { Tokenizer } from './tokenizer';
import type { Reply, Request, TokenizerSource } from './worker-client';

/** The worker thread of worker-client.ts. */

const port = parentPort!;
/** By key: what it is, or the error that making it ended with. */
const tokenizers = new Map<number, () => Tokenizer | null>();
const pieces = new Map<number, string[]>();

port.on('message', (request: Request) => {
  if ('source' in request) {
    tokenizers.set(
      request.key,
      resultOf(() => makeTokenizer(request.source)),
    );
    return;
  }
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

type Question = Extract<Request, { wants: unknown }>;

async function answer({ id, key, wants }: Question, text: string): Promise<[Reply, ArrayBuffer[]]> {
  const tokenizer = tokenizers.get(key)!();
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

/** Computes a value now; what is returned gives the value, or throws the error, as often as it is called. */
function resultOf<T>(compute: () => T): () => T {
  try {
    const value = compute();
    return () => value;
  } catch (error) {
    return () => {
      throw error as Error;
    };
  }
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
