/** Fetches over HTTP: proxy variables honoured, timeouts, resumed where a connection broke, checked by SHA-256. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { Agent, EnvHttpProxyAgent, request, type Dispatcher } from 'undici';
import { TorchBindError } from '../errors';
import { downloadRest, type PartialAnswer } from '../resume-download';
import type { Reporter } from './report';

const TIMEOUTS = { connect: { timeout: 15_000 }, headersTimeout: 30_000, bodyTimeout: 60_000 };
const MAX_REDIRECTS = 5;

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
  await withAgent((agent) =>
    downloadRest(part, {
      request: (have, signal) => requestRest(agent, url, part, have, signal),
      onProgress: (done, total) => options.reporter.progress(done, total, 'bytes'),
      mayRetry: (error) => !isRefusal(error),
    }),
  ).catch((error: unknown) => {
    throw unreachable(url, error);
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

async function requestRest(
  agent: Dispatcher,
  url: string,
  part: string,
  have: number,
  signal: AbortSignal,
): Promise<PartialAnswer | undefined> {
  const { status, headers, body } = await get(agent, url, have > 0 ? { range: `bytes=${have}-` } : {}, signal);
  const contentRange = headers['content-range']?.toString();
  if (status === 200 || status === 206)
    return { status, contentRange, length: Number(headers['content-length'] ?? 0), body };
  await body.dump();
  if (status !== 416) throw new UnreachableError(`${url} answered with status ${status}`);
  const total = /\/(\d+)$/.exec(contentRange ?? '')?.[1];
  if (total !== undefined && Number(total) === have) return undefined; // all of it was there already
  await rm(part, { force: true });
  throw new Error('the server has another file than the one begun');
}

interface Response {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Dispatcher.ResponseData['body'];
  url: string;
}

async function get(
  agent: Dispatcher,
  url: string,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Promise<Response> {
  let address = url;
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
    const response = await request(address, { dispatcher: agent, headers, signal }).catch((error: unknown) => {
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
