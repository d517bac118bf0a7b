/** What a server does besides generating: new bundles, limits, clients that leave, strangers, runs. */
import { once } from 'node:events';
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { CheckpointManager, GPT } from '../../lib/gpt';
import { lockDirectory } from '../../lib/checkpoint/commit';
import { GPTModel } from '../../lib/models/gpt-model';
import { memory } from '../../lib/tensor/scope';
import { temporaryDirectory } from '../helpers/tmp';
import { createServer } from '../../lib/serve';
import { completions } from '../../lib/serve/apis';
import { Completions } from '../../lib/serve/completions';
import { ServerMetrics } from '../../lib/serve/metrics';
import { ModelPool } from '../../lib/serve/model-pool';
import { readSettings } from '../../lib/serve/options';
import { Queue } from '../../lib/serve/queue';
import { expected, type Running, serve, statusOf, tinyModel } from './tiny';

function model(): GPT {
  const gpt = tinyModel();
  onTestFinished(() => gpt.dispose());
  return gpt;
}

/** A stream, and how to read on from where one has read. */
async function open(address: string, body: object): Promise<{ more: () => Promise<string>; leave: () => void }> {
  const client = new AbortController();
  const response = await fetch(`${address}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true }),
    signal: client.signal,
  });
  expect(response.status).toBe(200);
  const reader = response.body!.getReader();
  const more = async (): Promise<string> => Buffer.from((await reader.read()).value ?? []).toString();
  return { more, leave: () => client.abort() };
}

function textOf(events: string): string {
  const data = events.split('\n\n').filter((event) => event.startsWith('data: {'));
  type Chunk = { choices: { text: string }[] };
  return data.map((event) => (JSON.parse(event.slice(6)) as Chunk).choices[0]!.text).join('');
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 5));
}

const active = async ({ get }: Running): Promise<number> => (await get('/health')).json.active;

it('a request ends on the weights that it began with, and the next one gets the new bundle', async () => {
  const directory = path.join(temporaryDirectory(), 'tiny');
  const [older, newer] = [model(), model()];
  await older.saveCheckpointBundle(directory);
  const running = await serve(directory, { limits: { maxTokens: 1e6 } });
  const before = memory().numTensors;
  const body = { prompt: 'abc', max_tokens: 100, seed: 1 };
  const stream = await open(running.address, { ...body, max_tokens: 1e6 });
  let events = await stream.more();
  await newer.saveCheckpointBundle(directory);
  await running.server.reload();
  const next = await running.post('/v1/completions', body);
  expect(next.json.choices[0]!.text).toBe(await expected(newer, 'abc', 100, 1));
  const length = textOf(events).length + 100;
  while (textOf(events).length < length) events += await stream.more();
  expect(await expected(older, 'abc', length, 1)).toBe(textOf(events).slice(0, length));
  stream.leave();
  await until(async () => (await active(running)) === 0);
  expect(memory().numTensors).toBe(before); // the older weights are freed
  // A bundle that cannot be read leaves the one before in service.
  writeFileSync(path.join(directory, 'manifest.json'), '{}');
  await running.server.reload();
  expect((await running.post('/v1/completions', body)).json.choices[0]!.text).toBe(next.json.choices[0]!.text);
});

it('a model that is published answers the requests after it', async () => {
  const [older, newer] = [model(), model()];
  const running = await serve(older, { name: 'tiny', limits: { maxTokens: 1e6 } });
  const body = { prompt: 'abc', max_tokens: 20, seed: 1 };
  const stream = await open(running.address, { ...body, max_tokens: 300 });
  let events = await stream.more();
  await running.server.publish(newer);
  expect((await running.post('/v1/completions', body)).json.choices[0]!.text).toBe(await expected(newer, 'abc', 20, 1));
  while (!events.includes('[DONE]')) events += await stream.more();
  expect(textOf(events)).toBe(await expected(older, 'abc', 300, 1));
  await running.server.publish(older, 'other');
  const named = await running.post('/v1/completions', { ...body, model: 'other' });
  expect(named.json.choices[0]!.text).toBe(await expected(older, 'abc', 20, 1));
});

it('looks for new bundles by itself', async () => {
  const directory = path.join(temporaryDirectory(), 'tiny');
  const gpt = model();
  await gpt.saveCheckpointBundle(directory);
  const { get } = await serve(directory, { watchInterval: 20 });
  gpt.setTraining(gpt.makeOptimizer(), 5);
  await gpt.saveCheckpointBundle(directory);
  await until(async () => (await get('/health')).json.steps.tiny === 5);
});

it('a client that leaves ends its generation, and frees its place for those who wait', async () => {
  const running = await serve(model(), { limits: { maxConcurrent: 1, maxTokens: 1e6 } });
  const first = await open(running.address, { prompt: 'a', max_tokens: 1e6 });
  await first.more();
  const second = running.post('/v1/completions', { prompt: 'a', max_tokens: 3 });
  await until(async () => (await running.get('/health')).json.waiting === 1);
  const gone = new AbortController();
  const third = fetch(`${running.address}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"prompt": "a"}',
    signal: gone.signal,
  });
  await until(async () => (await running.get('/health')).json.waiting === 2);
  gone.abort();
  await expect(third).rejects.toThrow();
  await until(async () => (await running.get('/health')).json.waiting === 1);
  first.leave();
  expect((await second).status).toBe(200);
  expect(await active(running)).toBe(0);
  // Not a stream: nothing has been sent yet.
  const left = new AbortController();
  const whole = fetch(`${running.address}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"prompt": "a", "max_tokens": 1000000}',
    signal: left.signal,
  });
  await until(async () => (await active(running)) === 1);
  left.abort();
  await expect(whole).rejects.toThrow();
  await until(async () => (await active(running)) === 0);
});

it('limits prompts, sequences and connections', async () => {
  const limits = { maxPromptTokens: 3, maxSequences: 4, maxConnections: 20 };
  const { post, address } = await serve(model(), { limits });
  const codeOf = async (body: object): Promise<string> =>
    (await post('/v1/completions', { prompt: 'a', max_tokens: 1, ...body })).json.error?.code ?? 'none';
  expect(await codeOf({ prompt: 'abc' })).toBe('none');
  expect(await codeOf({ prompt: 'abcd' })).toBe('context_length_exceeded');
  expect(await codeOf({ prompt: ['a', 'b'], n: 2 })).toBe('none');
  expect(await codeOf({ prompt: ['a', 'b', 'c'], n: 2 })).toBe('invalid_value');
  const { hostname, port } = new URL(address);
  const sockets = Array.from({ length: 21 }, () => connect(Number(port), hostname));
  for (const socket of sockets) socket.on('error', () => undefined).resume();
  await Promise.race(sockets.map((socket) => once(socket, 'close')));
  for (const socket of sockets) socket.destroy();
});

it('limits how many wait, how long they wait, and how long a request takes', async () => {
  const long = { prompt: 'a', max_tokens: 1e6 };
  const full = await serve(model(), { limits: { maxConcurrent: 1, maxQueue: 0, maxTokens: 1e6 } });
  const stream = await open(full.address, long);
  const refused = await full.post('/v1/completions', long);
  expect([refused.status, refused.json.error?.code]).toEqual([429, 'queue_full']);
  expect(refused.headers.get('retry-after')).toBe('1');
  stream.leave();
  const slow = await serve(model(), { limits: { maxConcurrent: 1, queueTimeout: 1, maxTokens: 1e6 } });
  const other = await open(slow.address, long);
  expect((await slow.post('/v1/completions', long)).json.error?.code).toBe('queue_timeout');
  other.leave();
  const short = await serve(model(), { limits: { requestTimeout: 1, maxTokens: 1e6 } });
  const late = await short.post('/v1/completions', long);
  expect([late.status, late.json.error?.code]).toEqual([504, 'timeout']);
  const events = (await short.post('/v1/completions', { ...long, stream: true })).text;
  expect(events).toMatch(/"code":"timeout"/);
  expect(events).not.toContain('[DONE]');
});

it('many requests at once are answered in their turn, without a warning', async () => {
  const warnings: Error[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  process.on('warning', note);
  onTestFinished(() => void process.off('warning', note));
  const { post } = await serve(model(), { limits: { maxConcurrent: 8 } });
  const requests = Array.from({ length: 30 }, (_, i) => ({
    prompt: 'a',
    max_tokens: 5,
    n: (i % 8) + 1,
    stream: i % 2 > 0,
  }));
  const answers = await Promise.all(requests.map((body) => post('/v1/completions', body)));
  expect(answers.map(({ status }) => status)).toEqual(requests.map(() => 200));
  expect(warnings).toEqual([]);
});

it('requests at the same time are decoded together', async () => {
  const gpt = model();
  // A model whose method was replaced is computed on this thread.
  const together = vi.spyOn(GPTModel.prototype, 'forwardPacked');
  onTestFinished(() => together.mockRestore());
  const { post } = await serve(gpt);
  const body = { prompt: 'a', max_tokens: 20, seed: 1 };
  const answers = await Promise.all([post('/v1/completions', { ...body, n: 3 }), post('/v1/completions', body)]);
  expect(Math.max(...together.mock.calls.map(([, segments]) => segments.length))).toBe(4);
  for (const { json } of answers) expect(json.choices[0]!.text).toBe(await expected(gpt, 'a', 20, 1));
});

it('a stream that nobody reads gives its place back when it is cut off', async () => {
  const settings = readSettings({ watchInterval: 0, limits: { maxTokens: 1e6 } });
  const pool = new ModelPool(new Map([['tiny', model()]]), settings);
  onTestFinished(() => pool.close());
  const queue = new Queue(settings.limits);
  const metrics = new ServerMetrics(await import('prom-client'), pool, queue);
  const served = new Completions(pool, queue, settings, metrics);
  const body = { prompt: 'a', max_tokens: 1e6, stream: true };
  const ended = new AbortController();
  const stream = (await served.answer(completions, body, ended.signal)) as Readable;
  stream.on('error', () => undefined).once('readable', () => undefined); // it begins, and is read no further
  await until(() => Promise.resolve(stream.readableLength >= stream.readableHighWaterMark));
  ended.abort();
  await until(() => Promise.resolve(queue.active === 0));
});

describe('what a server refuses', () => {
  it('a body that is too large, is not JSON, or of another type', async () => {
    const { post, address } = await serve(model(), { limits: { maxBodyBytes: 1000 } });
    expect((await post('/v1/completions', { prompt: 'a'.repeat(2000) })).status).toBe(413);
    for (const body of ['{', '', '[]', '['.repeat(990), 'null', '1', '{"__proto__": {"n": 2}}'])
      expect([body, (await post('/v1/completions', body)).status]).toEqual([body, 400]);
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=a'])
      expect(await statusOf(address, '/v1/completions', 'POST', { 'content-type': type })).toBe(415);
    const lost = await post('/v1/nothing', {});
    expect([lost.status, lost.json.error?.code]).toEqual([404, 'not_found']);
  });

  it('pages of other sites, and names that other sites may have given to this machine', async () => {
    const root = temporaryDirectory();
    const { address } = await serve(model(), { root, allowedHosts: ['llm.example'] });
    const { host } = new URL(address);
    const json = { 'content-type': 'application/json' };
    const post = (headers: Record<string, string>): Promise<number> =>
      statusOf(address, '/v1/completions', 'POST', { ...json, ...headers }, '{"prompt": "a"}');
    expect(await post({ origin: address })).toBe(200);
    expect(await post({ origin: 'https://llm.example', host: 'llm.example' })).toBe(200);
    for (const origin of ['http://evil.example', 'null', `http://${host}.evil.example`, 'http://localhost:1'])
      expect([origin, await post({ origin })]).toEqual([origin, 403]);
    expect(await post({ 'sec-fetch-site': 'cross-site' })).toBe(403);
    expect(await statusOf(address, '/api/runs', 'GET', { 'sec-fetch-site': 'same-site' })).toBe(403);
    expect(await statusOf(address, '/', 'GET', { 'sec-fetch-site': 'cross-site' })).toBe(200); // a link
    for (const name of ['evil.example', 'evil.example:80', '127.0.0.1.evil.example', 'localhost.'])
      expect([name, await statusOf(address, '/', 'GET', { host: name })]).toEqual([name, 421]);
    for (const name of ['localhost', 'localhost:1234', '[::1]:80', '127.0.0.2'])
      expect([name, await statusOf(address, '/', 'GET', { host: name })]).toEqual([name, 200]);
  });

  it('strangers: only the pages and /health are open', async () => {
    const { get, post } = await serve(model(), { apiKeys: 'secret', root: temporaryDirectory() });
    const key = { authorization: 'Bearer secret' };
    for (const url of ['/v1/models', '/metrics', '/api/runs', '/api/runs/a/charts', '/nothing'])
      expect([url, (await get(url)).status]).toEqual([url, 401]);
    for (const url of ['/v1/models', '/metrics', '/api/runs'])
      expect([url, (await get(url, key)).status]).toEqual([url, 200]);
    expect((await post('/api/runs/a/rollback', { step: 1 })).status).toBe(401);
    for (const url of ['/', '/runs', '/health']) {
      const { status, headers } = await get(url);
      expect([status, headers.get('content-security-policy')]).toEqual([
        200,
        expect.stringContaining("default-src 'none'"),
      ]);
    }
  });

  it('options that it does not know, models that are not there, ports that are taken', async () => {
    await expect(serve(model(), { apiKey: 'a' } as never)).rejects.toThrow("Did you mean 'apiKeys'?");
    await expect(serve(model(), { limits: { maxQueue: -1 } })).rejects.toThrow("'maxQueue'");
    await expect(serve('/none/model')).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_OPEN' });
    await expect(serve(null)).rejects.toThrow("'root'");
    const { address } = await serve(model());
    expect(new URL(address).hostname).toBe('127.0.0.1');
    const taken = await createServer(model());
    await expect(taken.listen({ port: Number(new URL(address).port) })).rejects.toThrow(/EADDRINUSE.*another port/);
    await taken.close();
  });
});

it('pages load nothing from elsewhere, and have no inline script or style', async () => {
  const { get } = await serve(model());
  for (const url of ['/', '/runs']) {
    const { text } = await get(url);
    const loaded = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, to]) => to!);
    for (const to of loaded.filter((to) => to !== 'data:,')) expect([to, (await get(to)).status]).toEqual([to, 200]);
    expect(text).not.toMatch(/<script>|<style|style=|onclick=/);
  }
});

it('/metrics counts requests and tokens', async () => {
  const { get, post } = await serve(model());
  await post('/v1/completions', { prompt: 'a', max_tokens: 7 });
  await post('/v1/completions', { prompt: 'a', n: -1 });
  const { text } = await get('/metrics');
  expect(text).toContain('torchbind_generated_tokens_total{model="gpt"} 7');
  expect(text).toContain('torchbind_requests_total{route="/v1/completions",status="200"} 1');
  expect(text).toContain('torchbind_requests_total{route="/v1/completions",status="400"} 1');
  expect(text).toMatch(/torchbind_first_token_seconds_count 1/);
});

describe('runs under a root', () => {
  async function root(): Promise<{ directory: string; gpt: GPT; steps: number[] }> {
    const directory = temporaryDirectory();
    const gpt = model();
    const optimizer = gpt.makeOptimizer();
    const manager = new CheckpointManager('tiny', { root: directory, keep: { last: 5 } });
    const losses = { 1: 3, 2: 1, 3: 2 };
    for (const [step, loss] of Object.entries(losses))
      await manager.saveState({ model: gpt, optimizer, step: Number(step), metrics: { val_loss: loss } });
    mkdirSync(path.join(directory, 'empty'));
    return { directory, gpt, steps: [3, 2, 1] };
  }

  it('are models by name and step, of which few are in memory', async () => {
    const { directory, gpt } = await root();
    const { get, post } = await serve(null, { root: directory, limits: { maxLoadedModels: 1 } });
    const ids = (await get('/v1/models')).json.data.map(({ id }) => id);
    expect(ids.sort()).toEqual(['tiny', 'tiny@1', 'tiny@2', 'tiny@3']);
    for (const id of ['tiny', 'tiny@1', 'tiny@2']) {
      const { json } = await post('/v1/completions', { model: id, prompt: 'a', max_tokens: 5, seed: 1 });
      expect([json.model, json.choices[0]!.text]).toEqual([id, await expected(gpt, 'a', 5, 1)]);
      expect(Object.keys((await get('/health')).json.steps)).toEqual([id]);
    }
    for (const id of ['empty', 'tiny@9', '..', '.', 'tiny/steps', '../tiny', 'tiny@', '@1', 'steps', ''])
      expect([id, (await post('/v1/completions', { model: id, prompt: 'a' })).status]).toEqual([id, 404]);
  });

  it('have curves that grow', async () => {
    const { directory } = await root();
    const { get } = await serve(null, { root: directory });
    const file = path.join(directory, 'tiny/metrics.jsonl');
    const line = (step: number): string => `${JSON.stringify({ type: 'step', step, time: 0, loss: step / 2 })}\n`;
    writeFileSync(file, `${line(1)}not JSON\n{"step": "a"}\nnull\n${line(2)}${line(3).slice(0, 9)}`);
    const charts = '/api/runs/tiny/charts';
    const first = await get(charts);
    expect(first.json.charts).toEqual([
      {
        title: 'Loss (nats per token)',
        fromZero: false,
        labels: ['batch', 'train', 'validation'],
        data: [
          [1, 2],
          [0.5, 1],
          [null, null],
          [null, null],
        ],
      },
    ]);
    expect((await get(`${charts}?version=${first.json.version}`)).status).toBe(204);
    appendFileSync(file, line(3).slice(9) + line(4));
    const more = (await get(`${charts}?version=${first.json.version}`)).json;
    expect(more.charts[0]!.data[0]).toEqual([1, 2, 3, 4]);
    writeFileSync(file, line(1)); // a run that went back
    expect((await get(`${charts}?version=${more.version}`)).json.charts[0]!.data[0]).toEqual([1]);
    expect((await get('/api/runs/empty/charts')).json.charts).toEqual([]);
    for (const name of ['none', '..%2ftiny', '%2e%2e'])
      expect((await get(`/api/runs/${name}/charts`)).status).toBe(404);
  });

  it('are compared and rolled back, unless somebody is writing there', async () => {
    const { directory } = await root();
    const { get, post } = await serve(null, { root: directory });
    const run = (await get('/api/runs')).json.runs.find(({ name }) => name === 'tiny')!;
    expect([run.step, run.best]).toEqual([3, 2]);
    expect((await get('/api/runs/tiny/compare?a=1&b=3')).json.text).toMatch(/tensors equal/);
    expect((await get('/api/runs/tiny/compare?a=1&b=9')).status).toBe(404);
    const rollBack = (step: unknown): ReturnType<Running['post']> => post('/api/runs/tiny/rollback', { step });
    for (const step of [9, -1, '2x', null, [2]]) expect((await rollBack(step)).status).toBe(step === 9 ? 404 : 400);
    await post('/v1/completions', { model: 'tiny', prompt: 'a' });
    const unlock = await lockDirectory(path.join(directory, 'tiny'), {});
    expect((await rollBack(2)).json.error?.code).toBe('locked');
    unlock();
    expect((await rollBack(2)).json).toEqual({ name: 'tiny', step: 2 });
    expect((await get('/health')).json.steps).toEqual({ tiny: 2 });
    expect((await get('/api/runs')).json.runs.find(({ name }) => name === 'tiny')!.step).toBe(2);
  });
});
