import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { TorchBindError } from '../errors';
import { FileLock } from '../lock';
import { ConnectionBroken, downloadRest, sizeOf } from '../resume-download';
import { type RepoCache, isFile } from './cache';
import { HubUnreachable } from './errors';

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

/** Fetches what is missing of a file; `onBytes` counts what is there, once. */
async function complete(incomplete: string, file: HubFile, request: FetchBlob): Promise<void> {
  const { url, headers, fetch, signal } = request;
  if ((await sizeOf(incomplete)) > file.size) await rm(incomplete);
  let counted = await sizeOf(incomplete);
  request.onBytes(counted);
  if (counted === file.size && file.size > 0) return;
  try {
    await downloadRest(incomplete, {
      size: file.size,
      request: async (have, own) => {
        const range: Record<string, string> = have > 0 ? { range: `bytes=${have}-` } : {};
        const answer = await fetch(url, { headers: { ...headers, ...range }, signal: own });
        return {
          status: answer.status,
          contentRange: answer.headers.get('content-range'),
          length: 0,
          body: answer.body as AsyncIterable<Uint8Array> | null,
        };
      },
      onProgress: (done) => {
        if (done > file.size) {
          throw new TorchBindError(
            `${file.path}: expected ${file.size} bytes, got more: the hub lists another file than it sends.`,
            'ERR_TORCHBIND_HUB_DAMAGED',
          );
        }
        if (done > counted) request.onBytes(done - counted);
        counted = Math.max(counted, done);
      },
      mayRetry: (error) => error instanceof HubUnreachable,
      signal,
    });
  } catch (error) {
    // The cause may name an address, which may be signed.
    if (error instanceof ConnectionBroken)
      throw new HubUnreachable(`${file.path}: the connection ended after ${counted} of ${file.size} bytes.`);
    throw error;
  }
}

async function hasSum(file: string, { etag, size }: HubFile): Promise<boolean> {
  const hash = createHash(etag.length === 64 ? 'sha256' : 'sha1');
  if (etag.length === 40) hash.update(`blob ${size}\0`); // as git counts
  for await (const piece of createReadStream(file, { highWaterMark: 2 ** 20 })) hash.update(piece as Buffer);
  return hash.digest('hex') === etag;
}
