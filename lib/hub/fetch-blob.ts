import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { TorchBindError } from '../errors';
import { FileLock } from '../lock';
import { type RepoCache, isFile } from './cache';
import { HubUnreachable } from './errors';
import { patience } from './request';

/** A file of a repository, as the hub lists it. */
export interface HubFile {
  path: string;
  size: number;
  /** SHA-256 of a large file, else the SHA-1 that git has for it. */
  etag: string;
}

export interface FetchBlob {
  /** As `RepoCache` and the hub know it. */
  url: string;
  headers: Record<string, string>;
  fetch: typeof fetch;
  /** Bytes that just arrived. */
  onBytes: (count: number) => void;
  signal: AbortSignal | undefined;
}

/** How often a connection that ends early is resumed, as long as each one brings some bytes. */
const attempts = 5;
const lockPause = 100;

/**
 * Downloads a file into the cache if it is missing. Resumes an interrupted download. The file is accepted when its size
 * and checksum match.
 */
export async function fetchBlob(cache: RepoCache, file: HubFile, request: FetchBlob): Promise<void> {
  if (await isFile(cache.blob(file.etag))) return request.onBytes(file.size);
  const release = await lock(cache.lock(file.etag), request.signal);
  try {
    if (await isFile(cache.blob(file.etag))) return request.onBytes(file.size);
    const incomplete = `${cache.blob(file.etag)}.incomplete`;
    await mkdir(path.dirname(incomplete), { recursive: true });
    const hadPart = await isFile(incomplete);
    await complete(incomplete, file, request);
    if (!(await hasSum(incomplete, file))) {
      await rm(incomplete);
      // The part of an earlier call may have been of other bytes.
      if (hadPart) await complete(incomplete, file, { ...request, onBytes: () => undefined });
      if (!hadPart || !(await hasSum(incomplete, file))) {
        await rm(incomplete, { force: true });
        throw new TorchBindError(
          `${file.path}: the downloaded bytes do not have the checksum that the hub states (${file.etag}). They were discarded; try again.`,
          'ERR_TORCHBIND_HUB_DAMAGED',
        );
      }
    }
    await rename(incomplete, cache.blob(file.etag));
  } finally {
    release();
  }
}

async function lock(file: string, signal: AbortSignal | undefined): Promise<() => void> {
  await mkdir(path.dirname(file), { recursive: true });
  for (;;) {
    signal?.throwIfAborted();
    const found = FileLock.acquire(file);
    if (found instanceof FileLock) return () => found.release();
    await wait(lockPause);
  }
}

async function complete(incomplete: string, file: HubFile, request: FetchBlob): Promise<void> {
  let have = await sizeOf(incomplete);
  if (have > file.size) {
    await rm(incomplete);
    have = 0;
  }
  request.onBytes(have);
  for (let left = attempts; have < file.size || have === 0;) {
    const before = have;
    try {
      have = await receive(incomplete, file, have, request);
      if (file.size === 0) return;
    } catch (error) {
      request.signal?.throwIfAborted();
      have = await sizeOf(incomplete);
      if (!(error instanceof HubUnreachable)) throw error;
      left = have > before ? attempts : left - 1;
      if (left === 0) throw error;
      await wait(100 * (attempts - left));
    }
  }
}

/** One request for the bytes from `have` on; gives how many there are then. */
async function receive(incomplete: string, file: HubFile, have: number, request: FetchBlob): Promise<number> {
  const range: Record<string, string> = have > 0 ? { range: `bytes=${have}-` } : {};
  const answer = await request.fetch(request.url, { headers: { ...request.headers, ...range } });
  // A server without ranges sends all from the beginning.
  const start =
    answer.status === 206 && answer.headers.get('content-range')?.startsWith(`bytes ${have}-`) === true ? have : 0;
  const handle = await open(incomplete, start === 0 ? 'w' : 'r+');
  let at = start;
  try {
    for await (const piece of piecesOf(answer, file, request.signal)) {
      if (at + piece.length > file.size) {
        throw new TorchBindError(
          `${file.path}: expected ${file.size} bytes, got more: the hub lists another file than it sends.`,
          'ERR_TORCHBIND_HUB_DAMAGED',
        );
      }
      await handle.write(piece, 0, piece.length, at);
      at += piece.length;
      if (at > have) request.onBytes(Math.min(piece.length, at - have));
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  if (at < file.size) throw new HubUnreachable(`${file.path}: the connection ended after ${at} of ${file.size} bytes.`);
  return at;
}

/** The body's pieces; a connection on which nothing comes any more counts as cut. */
async function* piecesOf(answer: Response, file: HubFile, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  const reader = (answer.body as ReadableStream<Uint8Array> | null)?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error('no bytes')), patience);
      });
      try {
        const { done, value } = await Promise.race([reader.read(), late]);
        if (done) return;
        yield value;
      } finally {
        clearTimeout(timer);
      }
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof TorchBindError) throw error;
    throw new HubUnreachable(`${file.path}: the connection ended.`);
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function sizeOf(file: string): Promise<number> {
  return stat(file).then(
    ({ size }) => size,
    () => 0,
  );
}

async function hasSum(file: string, { etag, size }: HubFile): Promise<boolean> {
  const hash = createHash(etag.length === 64 ? 'sha256' : 'sha1');
  if (etag.length === 40) hash.update(`blob ${size}\0`); // as git counts
  for await (const piece of createReadStream(file, { highWaterMark: 2 ** 20 })) hash.update(piece as Buffer);
  return hash.digest('hex') === etag;
}
