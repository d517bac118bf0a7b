import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { repositoryRoot } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

/** examples/server.mjs, run as a program. */
const root = sharedTemporaryDirectory();
let program: ChildProcess;
let client: OpenAI;

beforeAll(async () => {
  const args = ['examples/server.mjs', '--port', '0', '--root', root, '--save-every', '3'];
  // It imports 'torchbind', which in a clone is the package itself.
  program = spawn(process.execPath, args, { cwd: repositoryRoot, stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(program.stdout!.setEncoding('utf8'), 'data')) as [string];
  client = new OpenAI({ baseURL: `${/http\S+/.exec(line)![0]}/v1`, apiKey: 'none', maxRetries: 0 });
});

afterAll(async () => {
  if (program.exitCode !== null || program.signalCode !== null) return;
  program.kill('SIGKILL');
  await once(program, 'exit');
});

/** A stream's number of tokens, and the steps of the weights that it says it came from. */
async function read(tokens: number, most = Infinity): Promise<{ pieces: number; steps: Set<string> }> {
  const steps = new Set<string>();
  let pieces = 0;
  const request = { model: 'shrew', prompt: 'The ', max_tokens: tokens, stream: true } as const;
  for await (const { choices, system_fingerprint: fingerprint } of await client.completions.create(request)) {
    steps.add(fingerprint!);
    if (choices[0]!.text !== '') pieces++;
    if (pieces >= most) break;
  }
  return { pieces, steps };
}

it('trains and serves: each stream ends on the weights it began with, later ones get newer ones, none fails', async () => {
  const seen = new Set<string>();
  for (let round = 0; seen.size < 3; round++) {
    const streams = await Promise.all([read(150), read(150), read(1e3, 5)]);
    for (const { steps } of streams) {
      expect(steps.size).toBe(1);
      seen.add([...steps][0]!);
    }
    for (const { pieces } of streams.slice(0, 2)) expect(pieces).toBe(150);
  }
});

it('saves and ends on SIGINT, when the requests that have begun have ended', async () => {
  const running = read(100);
  await read(1);
  program.kill('SIGINT');
  expect((await running).pieces).toBe(100);
  const [status] = (await once(program, 'exit')) as [number | null];
  expect(status).not.toBe(1);
  const state = JSON.parse(readFileSync(path.join(root, 'shrew/training_state.json'), 'utf8')) as { step: number };
  expect(state.step).toBeGreaterThan(0);
}, 60_000);
