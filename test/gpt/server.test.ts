import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../helpers/python';

/** examples/server.mjs, run as a program. */
describe('the example of a server', () => {
  let server: ChildProcess;
  let address: string;

  beforeAll(async () => {
    const text = path.join(repositoryRoot, 'examples/data/shrew.txt');
    // It imports 'torchbind', which in a clone is the package itself.
    server = spawn(process.execPath, ['examples/server.mjs', '--port', '0', '--train', text], { cwd: repositoryRoot });
    const [line] = (await once(server.stdout!.setEncoding('utf8'), 'data')) as [string];
    address = `http://127.0.0.1:${/port (\d+)/.exec(line)![1]}`;
  });

  afterAll(async () => {
    if (server.exitCode === null) server.kill();
    if (server.exitCode === null && server.signalCode === null) await once(server, 'exit');
  });

  const health = async (): Promise<{ step: number; tensors: number }> =>
    (await fetch(`${address}/health`)).json() as Promise<{ step: number; tensors: number }>;

  async function stream(prompt: string, tokens: number, most = Infinity): Promise<string[]> {
    const client = new AbortController();
    const url = `${address}/stream?prompt=${encodeURIComponent(prompt)}&tokens=${tokens}`;
    const response = await fetch(url, { signal: client.signal });
    let text = '';
    for await (const chunk of response.body!) {
      text += Buffer.from(chunk as Uint8Array).toString();
      if (text.split('\n\n').length > most) {
        client.abort();
        break;
      }
    }
    return text.split('\n\n').filter((event) => event.startsWith('data: '));
  }

  it('streams to several clients while it trains, and some of them leave', async () => {
    const steps = new Set([(await health()).step]);
    const staying = Promise.all(['The', 'And', 'O', ''].map((prompt) => stream(prompt, 40)));
    const leaving = Promise.allSettled(['The', 'And'].map((prompt) => stream(prompt, 1e5, 3)));
    for (const events of await staying) expect(events.length).toBeGreaterThan(20);
    await leaving;
    while (steps.size < 4) steps.add((await health()).step);
  });

  it('says what is wrong with a request, and goes on', async () => {
    const wrong = await fetch(`${address}/stream?prompt=The&tokens=-1`);
    expect([wrong.status, await wrong.text()]).toEqual([400, expect.stringContaining('maxNewTokens')]);
    expect((await fetch(`${address}/stream?speed=1`)).status).toBe(400);
    expect((await fetch(`${address}/elsewhere`)).status).toBe(404);
    expect(await stream('The', 5)).toHaveLength(5);
  });
});
