/** Fetches over HTTP: proxy variables honoured, timeouts, resumed where a connection broke, checked by SHA-256. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, EnvHttpProxyAgent, request, type Dispatcher } from 'undici';
import { TorchBindError } from '../errors';
import type { Reporter } from './report';

const TIMEOUTS = { connect: { timeout: 15_000 }, headersTimeout: 30_000, bodyTimeout: 60_000 };
const MAX_REDIRECTS = 5;
const MAX_TRIES = 5;

/** The server could not be reached or did not give the file: another way may. */
export class UnreachableError extends TorchBindError {
  constructor(message: string, cause?: unknown) {
    super(message, 'ERR_TORCHBIND_UNREACHABLE', { cause });
  }
}

/** A page of text, and the address that it came from after redirects. */
export async function fetchPage(url: string): Promise<{ text: string; url: string }> {
  return withAgent(async (agent) => {
    const response = await get(agent, url, {});
    if (response.status !== 200) {
      await response.body.dump();
      throw new UnreachableError(`${url} answered with status ${response.status}`);
    }
    return { text: await response.body.text(), url: response.url };
  });
}

/** Options of `download`. */
export interface DownloadOptions {
  /** Of the whole file, as hexadecimal digits. */
  sha256: string;
  reporter: Reporter;
}

/**
 * Downloads to `file`. What has come so far is in `file`.part: a broken connection, or a later call, continues from
 * there. A file whose SHA-256 is not the expected one is deleted and refused.
 */
export async function download(url: string, file: string, options: DownloadOptions): Promise<void> {
  const part = `${file}.part`;
  await withAgent(async (agent) => {
    for (let tries = 1; ;) {
      const before = await sizeOf(part);
      try {
        await fetchRest(agent, url, part, before, options.reporter);
        return;
      } catch (error) {
        // Progress earns new tries: a long download over a bad line still ends.
        tries = (await sizeOf(part)) > before ? 1 : tries + 1;
        if (tries > MAX_TRIES || isRefusal(error)) throw unreachable(url, error);
        await sleep(200 * 2 ** tries);
      }
    }
  });
  const actual = await sha256OfFile(part);
  if (actual !== options.sha256.toLowerCase()) {
    await rm(part, { force: true });
    throw new TorchBindError(
      `${url}: expected SHA-256 ${options.sha256}, but the download has ${actual}. It was deleted. ` +
        `Try again; if it stays so, the server or a proxy on the way changes the file.`,
      'ERR_TORCHBIND_CHECKSUM',
    );
  }
  await rename(part, file);
}

/** SHA-256 of a file, as hexadecimal digits. */
export async function sha256OfFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

async function fetchRest(
  agent: Dispatcher,
  url: string,
  part: string,
  have: number,
  reporter: Reporter,
): Promise<void> {
  const response = await get(agent, url, have > 0 ? { range: `bytes=${have}-` } : {});
  if (response.status === 416) {
    await response.body.dump();
    const total = /\/(\d+)$/.exec(String(response.headers['content-range'] ?? ''))?.[1];
    if (total !== undefined && Number(total) === have) return; // all of it was there already
    await rm(part, { force: true });
    throw new Error('the server has another file than the one begun');
  }
  if (response.status !== 200 && response.status !== 206) {
    await response.body.dump();
    throw new UnreachableError(`${url} answered with status ${response.status}`);
  }
  const start = response.status === 206 ? have : 0; // 200: the server sends all of it again
  const length = Number(response.headers['content-length'] ?? 0);
  const total = length > 0 ? start + length : 0;
  // Written as it comes, so that what came before the line broke is there to go on from.
  const file = await open(part, start > 0 ? 'a' : 'w');
  try {
    let done = start;
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      await file.write(chunk);
      reporter.progress((done += chunk.length), total, 'bytes');
    }
  } finally {
    await file.close();
  }
}

interface Response {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Dispatcher.ResponseData['body'];
  url: string;
}

async function get(agent: Dispatcher, url: string, headers: Record<string, string>): Promise<Response> {
  let address = url;
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
    const response = await request(address, { dispatcher: agent, headers }).catch((error: unknown) => {
      throw unreachable(address, error);
    });
    const location = response.headers.location;
    if (response.statusCode < 300 || response.statusCode >= 400 || typeof location !== 'string') {
      return { status: response.statusCode, headers: response.headers, body: response.body, url: address };
    }
    await response.body.dump();
    address = new URL(location, address).href;
  }
  throw new UnreachableError(`${url} was redirected more than ${MAX_REDIRECTS} times`);
}

async function withAgent<T>(work: (agent: Dispatcher) => Promise<T>): Promise<T> {
  const agent = newAgent();
  try {
    return await work(agent);
  } finally {
    await agent.destroy();
  }
}

function newAgent(): Dispatcher {
  return proxyAgent(TIMEOUTS) ?? new Agent(TIMEOUTS);
}

/**
 * An agent for HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case; undefined where they name no proxy. undici warns of its agent
 * for them, so use it only then.
 */
export function proxyAgent(options: EnvHttpProxyAgent.Options = {}): Dispatcher | undefined {
  const isProxied = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy'].some((name) => process.env[name]);
  return isProxied ? new EnvHttpProxyAgent(options) : undefined;
}

/** An answer such as 404 stays what it is however often it is asked for. */
function isRefusal(error: unknown): boolean {
  return error instanceof UnreachableError && / status 4\d\d/.test(error.message);
}

function unreachable(url: string, error: unknown): UnreachableError {
  if (error instanceof UnreachableError) return error;
  return new UnreachableError(
    `${url} cannot be reached: ${error instanceof Error ? error.message : String(error)}`,
    error,
  );
}

async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0;
}
