import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startProxy } from '../helpers/proxy';
import { download, fetchPage } from '../../lib/install/download';
import { silentReporter } from '../../lib/install/report';
import { temporaryDirectory } from '../helpers/tmp';
import { NOWHERE, serve, sha256 } from './fixtures';

const data = randomBytes(300_000);
const options = { sha256: sha256(data), reporter: silentReporter };

/** Sends the file from where a Range header says; `limit` cuts each answer off after that many bytes. */
function fileServer(ranges: (string | undefined)[], limit = Infinity): http.RequestListener {
  return (request, response) => {
    ranges.push(request.headers.range);
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const rest = data.subarray(start);
    response.writeHead(start > 0 ? 206 : 200, { 'content-length': rest.length });
    if (rest.length <= limit) response.end(rest);
    else response.write(rest.subarray(0, limit), () => setTimeout(() => response.destroy(), 20));
  };
}

test('a file arrives whole, with progress up to its size', async () => {
  const file = path.join(temporaryDirectory(), 'file');
  const seen: [number, number][] = [];
  const reporter = { step: () => undefined, progress: (done: number, total: number) => void seen.push([done, total]) };
  await download(`${await serve(fileServer([]))}/file`, file, { ...options, reporter });
  expect(readFileSync(file).equals(data)).toBe(true);
  expect(existsSync(`${file}.part`)).toBe(false);
  expect(seen.at(-1)).toEqual([data.length, data.length]);
});

test('a connection that is cut again and again is resumed where it broke', async () => {
  const file = path.join(temporaryDirectory(), 'file');
  const ranges: (string | undefined)[] = [];
  await download(`${await serve(fileServer(ranges, 120_000))}/file`, file, options);
  expect(readFileSync(file).equals(data)).toBe(true);
  // On a busy machine a connection may break before its bytes are read: then the same place is asked for again.
  const starts = ranges.map((range) => (range === undefined ? 0 : Number(/^bytes=(\d+)-$/.exec(range)![1])));
  expect(starts).toEqual([...starts].sort((a, b) => a - b));
  expect(new Set(starts).size).toBeGreaterThanOrEqual(3);
});

test('a later call continues with what an earlier one left', async () => {
  const file = path.join(temporaryDirectory(), 'file');
  const ranges: (string | undefined)[] = [];
  writeFileSync(`${file}.part`, data.subarray(0, 200_000));
  await download(`${await serve(fileServer(ranges))}/file`, file, options);
  expect(ranges).toEqual(['bytes=200000-']);
  expect(readFileSync(file).equals(data)).toBe(true);
});

test('a server without ranges sends the whole file again, and it is not appended', async () => {
  const file = path.join(temporaryDirectory(), 'file');
  writeFileSync(`${file}.part`, 'of an earlier try');
  await download(`${await serve((_, response) => response.end(data))}/file`, file, options);
  expect(readFileSync(file).equals(data)).toBe(true);
});

test('a file with another SHA-256 is refused and deleted', async () => {
  const file = path.join(temporaryDirectory(), 'file');
  const wrong = { ...options, sha256: '0'.repeat(64) };
  await expect(download(`${await serve(fileServer([]))}/file`, file, wrong)).rejects.toMatchObject({
    code: 'ERR_TORCHBIND_CHECKSUM',
    message: expect.stringContaining(options.sha256) as string,
  });
  expect(existsSync(file)).toBe(false);
  expect(existsSync(`${file}.part`)).toBe(false);
});

test('a redirect is followed, and the page says where it came from', async () => {
  const url = await serve((request, response) => {
    if (request.url === '/old') response.writeHead(301, { location: '/new' }).end();
    else response.end('here');
  });
  expect(await fetchPage(`${url}/old`)).toEqual({ text: 'here', url: `${url}/new` });
});

test('a server that is not there, or has no such file, is unreachable, which is another matter than a wrong file', async () => {
  const file = path.join(temporaryDirectory(), 'file');
  const refusals: (string | undefined)[] = [];
  const missing = await serve((request, response) => {
    refusals.push(request.url);
    response.writeHead(404).end();
  });
  await expect(fetchPage(`${NOWHERE}/`)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_UNREACHABLE' });
  await expect(download(`${missing}/file`, file, options)).rejects.toThrow(/status 404/);
  expect(refusals).toEqual(['/file']); // asked once: the answer would stay the same
});

test('proxy variables are honoured, and NO_PROXY too', async () => {
  const { url: proxy, tunnels, stop } = await startProxy();
  onTestFinished(() => {
    vi.unstubAllEnvs();
    stop();
  });
  const url = await serve((_, response) => response.end('through'));
  for (const name of ['http_proxy', 'https_proxy', 'no_proxy', 'NO_PROXY']) vi.stubEnv(name, undefined);
  vi.stubEnv('HTTP_PROXY', proxy);
  expect((await fetchPage(`${url}/`)).text).toBe('through');
  expect(tunnels).toEqual([new URL(url).host]);
  vi.stubEnv('NO_PROXY', '127.0.0.1');
  expect((await fetchPage(`${url}/`)).text).toBe('through');
  expect(tunnels).toHaveLength(1);
});
