/** Downloads that continue where a connection broke, for libtorch and for the hub's files. */
import { open, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** Tries without a byte more, after which a download is given up. */
const maxTries = 5;

/** Milliseconds without a byte after which a connection counts as broken. */
const patience = 30_000;

/** A server's answer to the request for the rest of a file. */
export interface PartialAnswer {
  status: number;
  contentRange: string | null | undefined;
  /** Bytes of the body; 0 where the server does not say. */
  length: number;
  body: AsyncIterable<Uint8Array> | null;
}

/** The connection broke before all bytes arrived. */
export class ConnectionBroken extends Error {}

export interface ResumableDownload {
  /** Asks for the bytes from `have` on, with `signal`. Returns undefined if `have` is all that there is. */
  request: (have: number, signal: AbortSignal) => Promise<PartialAnswer | undefined>;
  /** Bytes of the whole file; else what the server says counts. */
  size?: number;
  /** `total` is 0 where it is not known. What it throws ends the download. */
  onProgress: (done: number, total: number) => void;
  /** Whether an error of `request` may be gone at another try. */
  mayRetry: (error: unknown) => boolean;
  signal?: AbortSignal | undefined;
}

/**
 * Appends to `part` what it lacks of the file, over as many connections as it takes, as long as each brings something. The caller
 * checks the result.
 *
 * @throws ConnectionBroken, or what `request` and `onProgress` throw; the signal's reason
 */
export async function downloadRest(part: string, download: ResumableDownload): Promise<void> {
  for (let tries = 1; ;) {
    const before = await sizeOf(part);
    try {
      return await receive(part, before, download);
    } catch (error) {
      download.signal?.throwIfAborted();
      // Progress earns new tries: a long download over a bad line still ends.
      tries = (await sizeOf(part)) > before ? 1 : tries + 1;
      if (tries > maxTries || !(error instanceof ConnectionBroken || download.mayRetry(error))) throw error;
      await sleep(100 * 2 ** tries);
    }
  }
}

/** Size of a file in bytes, 0 for one that is not there. */
export async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0;
}

async function receive(
  part: string,
  have: number,
  { request, size, onProgress, signal }: ResumableDownload,
): Promise<void> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), patience);
  try {
    const answer = await request(have, AbortSignal.any([controller.signal, ...(signal ? [signal] : [])]));
    if (answer === undefined) return;
    const start = startOf(answer, have);
    const total = size ?? (answer.length > 0 ? start + answer.length : 0);
    let done = start;
    // Each piece is written on arrival, so that a broken download can resume after it.
    const file = await open(part, start === 0 ? 'w' : 'r+');
    try {
      for await (const piece of withBreaks(answer.body)) {
        timer.refresh();
        onProgress(done + piece.length, total);
        await file.write(piece, 0, piece.length, done);
        done += piece.length;
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (done < total) throw new ConnectionBroken(`the connection ended after ${done} of ${total} bytes`);
  } finally {
    clearTimeout(timer);
    controller.abort(); // frees a connection whose answer was not read to its end
  }
}

/** A server without ranges sends all of the file again. */
function startOf({ status, contentRange }: PartialAnswer, have: number): number {
  if (status !== 206) return 0;
  const start = Number(/^bytes (\d+)-/.exec(contentRange ?? '')?.[1] ?? have);
  if (start === have || start === 0) return start;
  throw new ConnectionBroken(`the server sent bytes from ${start} on instead of ${have}`);
}

async function* withBreaks(body: PartialAnswer['body']): AsyncGenerator<Uint8Array> {
  if (body === null) return;
  try {
    yield* body;
  } catch (error) {
    throw new ConnectionBroken(`the connection ended: ${(error as Error).message}`, { cause: error });
  }
}
