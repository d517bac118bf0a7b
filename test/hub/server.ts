/** A server that speaks the part of the hub's API that its clients use, with git's and LFS's checksums, and with faults on request. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Repo {
  commit: string;
  files: Map<string, Buffer>;
  gated?: boolean;
}

/** What happens to the bytes of a file, in this order; afterwards they are sent whole. */
export type Fault = 'cut' | 'wrong' | 'ignore-range' | 'busy';

export class Hub {
  readonly repos = new Map<string, Repo>();
  /** `METHOD path range token?` of each request to the hub. */
  readonly log: string[] = [];
  /** Headers that came to the other host, where large files are. */
  readonly elsewhere: IncomingMessage['headers'][] = [];
  readonly faults = new Map<string, Fault[]>();
  readonly token = 'hf_secret_of_the_test';
  endpoint = '';
  private storage = '';
  private readonly servers: Server[] = [];
  private readonly lfs = new Map<string, Buffer>();

  async start(): Promise<this> {
    this.endpoint = await this.listen((request, response) => this.answer(request, response));
    this.storage = await this.listen((request, response) => this.store(request, response));
    return this;
  }

  async stop(): Promise<void> {
    for (const server of this.servers.splice(0)) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  add(name: string, files: Record<string, Buffer | string>, more: Partial<Repo> = {}): Repo {
    const contents = new Map(Object.entries(files).map(([file, bytes]) => [file, Buffer.from(bytes)]));
    const commit = createHash('sha1')
      .update(JSON.stringify([name, [...contents.values()].map(sha1)]))
      .digest('hex');
    const repo = { commit, files: contents, ...more };
    this.repos.set(name, repo);
    return repo;
  }

  private async listen(handle: (request: IncomingMessage, response: ServerResponse) => unknown): Promise<string> {
    const server = createServer((request, response) => {
      void Promise.resolve(handle(request, response)).catch((error: Error) =>
        response.writeHead(500).end(error.message),
      );
    });
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const url = new URL(request.url!, this.endpoint);
    const isKnown = request.headers.authorization === `Bearer ${this.token}`;
    const range = request.headers.range ? ` ${request.headers.range}` : '';
    this.log.push(`${request.method} ${url.pathname}${range}${isKnown ? ' token' : ''}`);
    const fail = (status: number, code: string): unknown => {
      response.writeHead(status, { 'x-error-code': code, 'x-error-message': `no, ${request.headers.authorization}` });
      return response.end(JSON.stringify({ error: `refused for ${request.headers.authorization}` }));
    };
    const json = (value: unknown): unknown =>
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (url.pathname === '/api/repos/create') {
      const { name, organization } = JSON.parse(await bodyOf(request)) as { name: string; organization?: string };
      if (!isKnown) return fail(401, '');
      this.add(organization ? `${organization}/${name}` : name, {});
      return json({ url: `${this.endpoint}/${organization}/${name}`, id: '1' });
    }
    const [, name = '', rest = ''] =
      /^\/(?:api\/models\/)?([\w.-]+\/[\w.-]+?)(?:\.git)?(\/(?:revision|tree|resolve|preupload|commit|info)\/.*|)$/.exec(
        url.pathname,
      ) ?? [];
    const repo = this.repos.get(name);
    if (repo === undefined) return fail(isKnown ? 404 : 401, 'RepoNotFound');
    const [, action, revision = '', file = ''] = /^\/(\w+)\/([^/]+)\/?(.*)$/.exec(rest) ?? [];
    if (['revision', 'tree', 'resolve'].includes(action!) && !['main', 'HEAD', repo.commit].includes(revision))
      return fail(404, 'RevisionNotFound');
    if (repo.gated === true && action === 'resolve' && !isKnown) return fail(403, 'GatedRepo');
    if (action === 'revision' || rest === '') {
      const siblings = [...repo.files.keys()].map((rfilename) => ({ rfilename }));
      return json({
        _id: '1',
        id: name,
        modelId: name,
        sha: repo.commit,
        private: false,
        gated: false,
        downloads: 0,
        likes: 0,
        lastModified: '2026-01-01T00:00:00.000Z',
        siblings,
      });
    }
    if (action === 'tree') return json([...repo.files].map(([path, bytes]) => entryOf(path, bytes)));
    if (action === 'resolve') return this.resolve(request, response, repo, decodeURIComponent(file));
    if (!isKnown) return fail(403, '');
    const body = await bodyOf(request);
    if (action === 'preupload') {
      const { files } = JSON.parse(body) as { files: { path: string; size: number }[] };
      return json({ files: files.map(({ path }) => ({ path, uploadMode: isLarge(path) ? 'lfs' : 'regular' })) });
    }
    if (action === 'info') {
      const { objects } = JSON.parse(body) as { objects: { oid: string; size: number }[] };
      const withUrl = objects.map((object) => ({
        ...object,
        actions: { upload: { href: `${this.storage}/${object.oid}?sig=s3cret`, header: {} } },
      }));
      return json({ transfer: 'basic', objects: withUrl });
    }
    const lines = body
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { key: string; value: Record<string, string> });
    for (const { key, value } of lines) {
      if (key === 'file') repo.files.set(value.path!, Buffer.from(value.content!, value.encoding as 'base64'));
      if (key === 'lfsFile') repo.files.set(value.path!, this.lfs.get(value.oid!)!);
    }
    repo.commit = createHash('sha1').update(body).digest('hex');
    return json({
      success: true,
      commitOid: repo.commit,
      commitUrl: `${this.endpoint}/${name}/commit/${repo.commit}`,
      hookOutput: '',
    });
  }

  /** Large files are on another host, to which the hub leads. */
  private resolve(request: IncomingMessage, response: ServerResponse, repo: Repo, file: string): unknown {
    const bytes = repo.files.get(file);
    const common = { 'x-repo-commit': repo.commit, 'accept-ranges': 'bytes' };
    if (bytes === undefined) return response.writeHead(404, { ...common, 'x-error-code': 'EntryNotFound' }).end();
    if (!isLarge(file)) return send(request, response, bytes, { ...common, etag: `"${gitSha(bytes)}"` });
    this.lfs.set(sha256(bytes), bytes);
    const fault = this.faults.get(file)?.[0];
    return response
      .writeHead(302, {
        ...common,
        location: `${this.storage}/${sha256(bytes)}?file=${encodeURIComponent(fault === undefined ? '' : file)}&sig=s3cret`,
        'x-linked-etag': `"${sha256(bytes)}"`,
        'x-linked-size': String(bytes.length),
      })
      .end();
  }

  private async store(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const url = new URL(request.url!, this.storage);
    this.elsewhere.push(request.headers);
    if (request.method === 'PUT') {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece as Buffer);
      this.lfs.set(url.pathname.slice(1), Buffer.concat(pieces));
      return response.writeHead(200).end();
    }
    const bytes = this.lfs.get(url.pathname.slice(1))!;
    const fault = this.faults.get(url.searchParams.get('file') ?? '')?.shift();
    if (fault === 'busy') return response.writeHead(503).end();
    if (fault === 'wrong') return send(request, response, Buffer.from(bytes).fill(1, 100, 200), {});
    if (fault === 'ignore-range') return response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
    if (fault !== 'cut') return send(request, response, bytes, {});
    const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const headers = {
      'content-length': bytes.length - start,
      'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}`,
    };
    response.writeHead(start > 0 ? 206 : 200, headers);
    response.write(bytes.subarray(start, start + (bytes.length >> 2)));
    return setTimeout(() => response.destroy(), 20);
  }
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  headers: Record<string, string>,
): unknown {
  const [, from, to] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? [];
  const part = from === undefined ? bytes : bytes.subarray(Number(from), to ? Number(to) + 1 : undefined);
  const range =
    from === undefined ? {} : { 'content-range': `bytes ${from}-${Number(from) + part.length - 1}/${bytes.length}` };
  response.writeHead(from === undefined ? 200 : 206, { ...headers, ...range, 'content-length': String(part.length) });
  return request.method === 'HEAD' ? response.end() : response.end(part);
}

function entryOf(path: string, bytes: Buffer): object {
  const size = bytes.length;
  const oid = gitSha(bytes);
  return {
    type: 'file',
    path,
    size,
    oid,
    ...(isLarge(path) && { lfs: { oid: sha256(bytes), size, pointerSize: 134 } }),
  };
}

const isLarge = (path: string): boolean => /\.(safetensors|bin|pt)$/.test(path);
const sha1 = (bytes: Buffer | string): string => createHash('sha1').update(bytes).digest('hex');
const gitSha = (bytes: Buffer): string => sha1(Buffer.concat([Buffer.from(`blob ${bytes.length}\0`), bytes]));
export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

async function bodyOf(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString('utf8');
}
