import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { setMaxListeners } from 'node:events';
import path from 'node:path';
import { checkArgument, checkOptions, describe, type PathLike, TorchBindError, toPath } from '../errors';
import { GPT } from '../gpt';
import { isPlainObject } from '../objects';
import { chat, completions } from './apis';
import { Completions } from './completions';
import { type Access, Guard, isLoopback, SECURITY_HEADERS } from './guard';
import { clientHasLeft, errorBody, HttpError, toHttpError } from './http-error';
import { ServerMetrics } from './metrics';
import { ModelPool } from './model-pool';
import { readSettings, type ServerOptions, type Settings } from './options';
import { assets } from './pages/assets';
import { loadPeers } from './peers';
import { Queue } from './queue';
import { RunRoutes } from './run-routes';

/** A GPT, or a path that `GPT.load` opens. */
export type ModelSource = GPT | PathLike;

/** A server for OpenAI's API. */
export interface GPTServer {
  /**
   * Starts listening.
   *
   * @param options `host`: default 127.0.0.1, reachable from this machine only; `port`: default 8000, or 0 for a free
   *   port
   * @returns the address, such as `http://127.0.0.1:8000`
   * @throws ERR_TORCHBIND_LISTEN
   */
  listen(options?: { host?: string; port?: number }): Promise<string>;
  /** Replaces a model for new requests. Running requests keep the old weights. */
  publish(source: ModelSource, name?: string): Promise<void>;
  /** Checks for newer bundles now, and resolves when they are served. */
  reload(): Promise<void>;
  /**
   * Refuses new requests, waits for running ones, and frees the models that the server loaded. After `timeout`
   * milliseconds (10,000) running requests are cancelled.
   */
  close(options?: { timeout?: number }): Promise<void>;
}

/**
 * A server for OpenAI's clients, `POST /v1/completions` and `/v1/chat/completions`, with pages to try a model and to look at runs.
 *
 * A directory of bundles is watched: a request that comes after a save is answered with the new weights, also while `fit` trains in
 * the same process. A GPT is served as it is, and stays yours to dispose of.
 *
 * @param models a GPT, the path of one, several by their names; or null for those of `root` alone
 * @throws ERR_TORCHBIND_MISSING_PACKAGE where fastify or prom-client is not installed; what `GPT.load` throws
 */
export async function createServer(
  models: ModelSource | Readonly<Record<string, ModelSource>> | null,
  options: ServerOptions = {},
): Promise<GPTServer> {
  const settings = readSettings(options);
  const sources = sourcesOf(models, options.name);
  checkArgument(sources.size > 0 || settings.root !== undefined, "a model, or 'root'", models, 'createServer');
  const peers = await loadPeers();
  const pool = new ModelPool(sources, settings);
  try {
    await pool.open();
  } catch (error) {
    pool.close();
    throw error;
  }
  return new Server(peers, pool, settings, options.name);
}

class Server implements GPTServer {
  private readonly app: FastifyInstance;
  private readonly queue: Queue;
  private readonly metrics: ServerMetrics;
  private readonly completions: Completions;
  /** Aborts all requests. */
  private readonly stop = new AbortController();
  private host = '127.0.0.1';
  private closing: Promise<void> | undefined;

  constructor(
    { fastify, prometheus }: Awaited<ReturnType<typeof loadPeers>>,
    private readonly pool: ModelPool,
    private readonly settings: Settings,
    private readonly name: string | undefined,
  ) {
    const { limits, apiKeys, allowedHosts } = settings;
    setMaxListeners(0, this.stop.signal); // one for each request
    this.queue = new Queue(limits);
    this.metrics = new ServerMetrics(prometheus, pool, this.queue);
    this.completions = new Completions(pool, this.queue, settings, this.metrics);
    this.app = fastify({
      bodyLimit: limits.maxBodyBytes,
      requestTimeout: 30_000, // to send the request
      routerOptions: { maxParamLength: 300 },
      keepAliveTimeout: 5000,
      forceCloseConnections: 'idle',
    });
    this.app.server.maxConnections = limits.maxConnections;
    const guard = new Guard(apiKeys, allowedHosts, () => isLoopback(this.host));
    this.app.addHook('onRequest', (request, reply, done) => {
      reply.headers(SECURITY_HEADERS);
      guard.check(request, accessOf(request));
      done();
    });
    this.app.addHook('onResponse', (request, reply, done) => {
      this.report(request, reply);
      done();
    });
    this.addRoutes();
  }

  async listen(options: { host?: string; port?: number } = {}): Promise<string> {
    checkOptions(options, ['host', 'port'], 'listen');
    const { host = '127.0.0.1', port = 8000 } = options;
    checkArgument(typeof host === 'string', "a name or an address for 'host'", host, 'listen');
    this.host = host;
    try {
      await this.app.listen({ host, port });
    } catch (error) {
      const message = `The server cannot listen on ${host}, port ${describe(port)}: ${(error as Error).message}. Choose another port: --port 0 takes a free one.`;
      throw new TorchBindError(message, 'ERR_TORCHBIND_LISTEN', { cause: error });
    }
    const { port: used } = this.app.server.address() as { port: number };
    return `http://${host.includes(':') ? `[${host}]` : host}:${used}`;
  }

  async publish(source: ModelSource, name = this.name ?? this.pool.defaultId ?? 'gpt'): Promise<void> {
    await this.pool.publish(name, sourceOf(source, 'publish'));
  }

  reload(): Promise<void> {
    return this.pool.reload();
  }

  close({ timeout = 10_000 }: { timeout?: number } = {}): Promise<void> {
    this.closing ??= this.end(timeout);
    return this.closing;
  }

  private async end(timeout: number): Promise<void> {
    const { server } = this.app;
    const closing = this.app.close();
    // A connection that becomes idle now would stay open until its client or a timeout closes it.
    const idle = setInterval(() => server.closeIdleConnections(), 50);
    const last = setTimeout(() => {
      this.stop.abort(new HttpError(503, 'The server is shutting down.', { code: 'shutting_down' }));
      setTimeout(() => server.closeAllConnections(), 100).unref(); // those that read what they are told have read it
    }, timeout);
    try {
      await closing;
    } finally {
      clearInterval(idle);
      clearTimeout(last);
      this.pool.close();
    }
  }

  private addRoutes(): void {
    const { app } = this;
    // Of all content types only JSON: a form of another site can send the others without asking.
    app.removeContentTypeParser('text/plain');
    app.setErrorHandler((error, _request, reply) => this.fail(error, reply));
    app.setNotFoundHandler((request, reply) => {
      this.fail(
        new HttpError(404, `Unknown route: ${request.method} ${pathOf(request)}.`, { code: 'not_found' }),
        reply,
      );
    });
    for (const [url, api] of Object.entries({ '/v1/completions': completions, '/v1/chat/completions': chat })) {
      app.post(url, async (request, reply) => {
        const answer = await this.completions.answer(api, request.body, this.endOf(reply));
        if ('pipe' in answer)
          reply.headers({ 'content-type': 'text/event-stream; charset=utf-8', 'x-accel-buffering': 'no' });
        return reply.send(answer);
      });
    }
    app.get('/v1/models', async () => {
      const models = await this.pool.list();
      return {
        object: 'list',
        data: models.map(({ id, step }) => ({ id, object: 'model', created: 0, owned_by: 'torchbind', step })),
      };
    });
    app.get('/health', { config: { access: 'open' } }, () => {
      const { active, length: waiting } = this.queue;
      if (this.settings.apiKeys.length > 0) return { status: 'ok' }; // anybody may ask
      return { status: 'ok', steps: this.pool.steps(), active, waiting };
    });
    app.get('/metrics', async (_request, reply) => {
      const text = await this.metrics.text();
      return reply.type(this.metrics.contentType).send(text);
    });
    for (const { url, type, text } of assets(this.settings.apiKeys.length > 0)) {
      app.get(url, { config: { access: 'open' } }, (_request, reply) => reply.type(type).send(text));
    }
    new RunRoutes(this.settings.root, this.pool).add(app, (reply) => this.endOf(reply));
  }

  /** A signal that aborts when the client disconnects or the server closes. */
  private endOf(reply: FastifyReply): AbortSignal {
    const left = new AbortController();
    const end = (): void => left.abort(this.stop.signal.reason ?? clientHasLeft());
    const { signal } = this.stop;
    signal.addEventListener('abort', end, { once: true });
    reply.raw.once('close', () => {
      signal.removeEventListener('abort', end);
      end();
    });
    if (signal.aborted || reply.raw.destroyed) end();
    return left.signal;
  }

  private fail(error: unknown, reply: FastifyReply): void {
    const { http, isExpected } = toHttpError(error);
    if (!isExpected) this.settings.onError(error as Error);
    void reply
      .code(http.status)
      .headers(http.details.headers ?? {})
      .type('application/json; charset=utf-8')
      .send(errorBody(http));
  }

  private report(request: FastifyRequest, reply: FastifyReply): void {
    const { statusCode: status, elapsedTime: milliseconds } = reply;
    this.metrics.request(request.routeOptions.url ?? 'none', status, milliseconds);
    this.settings.onResponse({ method: request.method, path: pathOf(request), status, milliseconds });
  }
}

/** Routes without an explicit access level need a key, and so do unknown paths. */
function accessOf({ routeOptions }: FastifyRequest): Access {
  return (routeOptions.config as { access?: Access } | undefined)?.access ?? 'key';
}

function pathOf({ url }: FastifyRequest): string {
  return url.split('?', 1)[0]!;
}

function sourcesOf(
  models: ModelSource | Readonly<Record<string, ModelSource>> | null,
  name: string | undefined,
): Map<string, GPT | string> {
  if (models === null) return new Map();
  if (isPlainObject(models)) {
    const named = Object.entries(models as Record<string, ModelSource>);
    return new Map(named.map(([id, source]) => [id, sourceOf(source, 'createServer')]));
  }
  const source = sourceOf(models as ModelSource, 'createServer');
  return new Map([[name ?? (source instanceof GPT ? 'gpt' : path.parse(path.resolve(source)).name), source]]);
}

function sourceOf(source: ModelSource, where: string): GPT | string {
  // Now, as the program may change its working directory.
  return source instanceof GPT ? source : path.resolve(toPath(source, `${where}: model`));
}
