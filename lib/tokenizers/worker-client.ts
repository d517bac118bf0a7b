import { MessageChannel, type MessagePort, receiveMessageOnPort, type Worker } from 'node:worker_threads';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { TorchBindError } from '../errors';
import { type PostedError, receiveError } from '../workers/errors';
import { startWorker } from '../workers/start';
import type { TokenEncoding } from './rust-engine';

/** A worker thread that encodes long texts and opens large files, for all tokenizers of this thread. */

/** What the worker makes a tokenizer of. */
export type TokenizerSource =
  | { kind: 'char'; chars: readonly string[]; unknown: 'error' | 'skip' }
  | { kind: 'gpt2'; specialTokens: Readonly<Record<string, number>> }
  | { kind: 'hugging-face'; json: Uint8Array; where: string; startToken: string | undefined };

/** What a large tokenizer.json holds, as decoding needs it. */
export interface OpenedJson {
  vocabSize: number;
  startId: number;
  /** Bytes of the tokens, one after the other, and where each id's begin: an id without a token has none. */
  bytes: Uint8Array;
  starts: Uint32Array;
  /** Ids of the gaps in the vocabulary, which decode to U+FFFD. */
  missing: Uint32Array;
  /** The decoder, where the Rust engine encodes. */
  chain: Record<string, unknown> | null | undefined;
}

/** A tokenizer comes before the first request for it, and the pieces of a text before the request that they are for. */
export type Request =
  | { key: number; source: TokenizerSource }
  | { id: number; piece: string }
  | { id: number; key: number; wants: Wanted; waiting?: Waiting };

/** What is asked of the worker: `encoding` with the special tokens that a post-processor adds, `bareEncoding` without. */
type Wanted = 'ids' | 'opened' | 'encoding' | 'bareEncoding';

/** How a thread that waits for the answer gets it: the flag is set when it is there. */
interface Waiting {
  port: MessagePort;
  flag: Int32Array;
}

export type Reply = { id: number } & (
  { ids: Int32Array } | { opened: OpenedJson | null } | { encoding: TokenEncoding } | { error: PostedError }
);

/** Characters that are posted in one go. */
const pieceLength = 2 ** 20;

/** The worker ends after this time without work. */
const idleMilliseconds = 10_000;

/** How long a thread waits for the worker, which may be busy with other texts; and a second more for 10,000 characters. */
const waitSeconds = 60;

type MakeSource = () => TokenizerSource | Promise<TokenizerSource>;

interface Job {
  resolve: (reply: Reply) => void;
  reject: (error: Error) => void;
  callerStack: string | undefined;
}

class TokenizerWorker {
  private readonly jobs = new Map<number, Job>();
  /** Tokenizers that were posted, and those whose source is being made. */
  private readonly posted = new Set<number>();
  private readonly coming = new Map<number, Promise<void>>();
  private nextJob = 0;
  private idle: NodeJS.Timeout | undefined;

  constructor(private readonly worker: Worker) {
    worker.on('message', (reply: Reply) => this.receive(reply));
    worker.on('error', (error: Error) => this.end(error));
    worker.on('exit', (code) => this.end(new Error(`the worker thread of tokenizers ended with code ${code}`)));
  }

  async ask(owner: object, makeSource: MakeSource, text: string, wants: Wanted): Promise<Reply> {
    const callerStack = new Error().stack;
    const id = this.nextJob++;
    clearTimeout(this.idle);
    // Work that is under way keeps the process alive, as reading a file does; a worker that waits does not.
    this.worker.ref();
    const reply = new Promise<Reply>((resolve, reject) => this.jobs.set(id, { resolve, reject, callerStack }));
    reply.catch(() => undefined); // until it is awaited below
    for (let start = 0; start < text.length; start += pieceLength) {
      this.post({ id, piece: text.slice(start, start + pieceLength) });
      if (start + pieceLength < text.length) await nextTurn();
    }
    const key = keyOf(owner);
    try {
      await this.introduce(key, makeSource);
      this.post({ id, key, wants });
    } catch (error) {
      this.jobs.delete(id);
      this.restIfIdle();
      throw error;
    }
    return reply;
  }

  /** Posts a tokenizer once, however many texts are asked for at once. */
  private async introduce(key: number, makeSource: MakeSource): Promise<void> {
    if (this.posted.has(key)) return;
    let coming = this.coming.get(key);
    if (coming === undefined) {
      const make = async (): Promise<void> => this.postSource(key, await makeSource());
      coming = make().finally(() => this.coming.delete(key));
      this.coming.set(key, coming);
    }
    await coming;
  }

  private postSource(key: number, source: TokenizerSource): void {
    if (this.posted.has(key)) return; // by wait(), meanwhile
    this.post({ key, source });
    this.posted.add(key);
  }

  /** Blocks this thread until the answer is there. */
  wait(owner: object, makeSource: () => TokenizerSource, text: string): Int32Array {
    const id = this.nextJob++;
    const key = keyOf(owner);
    const { port1, port2 } = new MessageChannel();
    const flag = new Int32Array(new SharedArrayBuffer(4));
    this.post({ id, piece: text });
    if (!this.posted.has(key)) this.postSource(key, makeSource());
    this.worker.postMessage({ id, key, wants: 'ids', waiting: { port: port2, flag } } satisfies Request, [port2]);
    const limit = waitSeconds + text.length / 10_000;
    Atomics.wait(flag, 0, 0, limit * 1000);
    const reply = receiveMessageOnPort(port1)?.message as Reply | undefined;
    port1.close();
    if (reply === undefined) {
      throw new TorchBindError(
        `encode: the worker thread of tokenizers gave no answer within ${Math.round(limit)} s. Use encodeAsync(), which waits ` +
          'for as long as it takes.',
        'ERR_TORCHBIND_TOKENIZER_TIME',
      );
    }
    if ('error' in reply) throw receiveError(reply.error, new Error().stack);
    this.restIfIdle();
    return (reply as { ids: Int32Array }).ids;
  }

  private post(request: Request): void {
    this.worker.postMessage(request);
  }

  private receive(reply: Reply): void {
    const job = this.jobs.get(reply.id);
    if (job === undefined) return;
    this.jobs.delete(reply.id);
    if ('error' in reply) job.reject(receiveError(reply.error, job.callerStack));
    else job.resolve(reply);
    this.restIfIdle();
  }

  private restIfIdle(): void {
    if (this.jobs.size > 0) return;
    clearTimeout(this.idle);
    this.worker.unref();
    this.idle = setTimeout(() => this.stop(), idleMilliseconds).unref();
  }

  private stop(): void {
    forget(this);
    void this.worker.terminate();
  }

  private end(error: Error): void {
    forget(this);
    clearTimeout(this.idle);
    for (const job of this.jobs.values()) job.reject(error);
    this.jobs.clear();
  }
}

let current: TokenizerWorker | undefined;

function forget(worker: TokenizerWorker): void {
  if (current === worker) current = undefined;
}

function running(): TokenizerWorker | undefined {
  if (current !== undefined) return current;
  const worker = startWorker('tokenizers/worker');
  if (worker !== undefined) current = new TokenizerWorker(worker);
  return current;
}

const keys = new WeakMap<object, number>();
let nextKey = 0;

/** The worker knows a tokenizer by a number. */
function keyOf(owner: object): number {
  const key = keys.get(owner) ?? nextKey++;
  keys.set(owner, key);
  return key;
}

/**
 * Encodes a text on the worker thread with the tokenizer of `makeSource`.
 *
 * @param owner key under which the worker keeps the tokenizer for the next text
 * @returns undefined without worker threads
 */
export function encodeInWorker(owner: object, makeSource: MakeSource, text: string): Promise<Int32Array> | undefined {
  const reply = running()?.ask(owner, makeSource, text, 'ids');
  return reply?.then((answer) => (answer as { ids: Int32Array }).ids);
}

/**
 * The ids of a text, from the worker thread, for which this thread waits.
 *
 * @throws ERR_TORCHBIND_TOKENIZER_TIME
 */
export function encodeWhileWaiting(owner: object, makeSource: () => TokenizerSource, text: string): Int32Array {
  const worker = running();
  if (worker !== undefined) return worker.wait(owner, makeSource, text);
  throw new TorchBindError(
    'encode: this tokenizer encodes on a worker thread, and there can be none here. Use encodeAsync().',
    'ERR_TORCHBIND_PLATFORM',
  );
}

/** The tokens of a text with their offsets, from the worker thread; undefined where there can be none. */
export function encodeWithOffsetsInWorker(
  owner: object,
  makeSource: MakeSource,
  text: string,
  addSpecialTokens: boolean,
): Promise<TokenEncoding> | undefined {
  const reply = running()?.ask(owner, makeSource, text, addSpecialTokens ? 'encoding' : 'bareEncoding');
  return reply?.then((answer) => (answer as { encoding: TokenEncoding }).encoding);
}

/**
 * Opens Hugging Face's tokenizer.json on the worker thread.
 *
 * @param owner stands for the tokenizer from then on
 * @returns null where the file is of another kind; undefined where there can be no worker
 */
export function openInWorker(owner: object, source: TokenizerSource): Promise<OpenedJson | null> | undefined {
  const reply = running()?.ask(owner, () => source, '', 'opened');
  return reply?.then((answer) => (answer as { opened: OpenedJson | null }).opened);
}
