/** `torchbind serve`, run as a command. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CheckpointManager, GPT } from '../../lib/gpt';
import { CharTokenizer } from '../../lib/tokenizers';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { environment, program } from './command';

const cwd = sharedTemporaryDirectory();
const headers = { authorization: 'Bearer secret', 'content-type': 'application/json' };
let command: ChildProcess;
let address: string;
let log = '';

beforeAll(async () => {
  const tokenizer = new CharTokenizer([...'\n abcdefghijklmnopqrstuvwxyz']);
  const config = { vocabSize: 28, blockSize: 32, nLayer: 1, nHead: 2, nEmbd: 16, dropout: 0 };
  const gpt = new GPT(config, { tokenizer });
  const manager = new CheckpointManager('tiny', { root: `${cwd}/checkpoints`, keep: { last: 2 } });
  const optimizer = gpt.makeOptimizer();
  for (const step of [1, 2]) await manager.saveState({ model: gpt, optimizer, step });
  gpt.dispose();
  const flags = ['--port', '0', '--log', '--max-prompt-tokens', '8', '--max-tokens', '5000'];
  const env = environment({ TORCHBIND_API_KEY: 'secret' });
  command = spawn(process.execPath, [program, 'serve', 'tiny', 'tiny@1', ...flags], { cwd, env });
  command.stderr!.setEncoding('utf8').on('data', (text: string) => (log += text));
  const [line] = (await once(command.stdout!.setEncoding('utf8'), 'data')) as [string];
  expect(line).toMatch(/^serving tiny, tiny@1 on http:\/\/127\.0\.0\.1:\d+\n$/);
  address = /http\S+/.exec(line)![0];
});

afterAll(() => void command.kill('SIGKILL'));

async function complete(body: object): Promise<Response> {
  return fetch(`${address}/v1/completions`, { method: 'POST', headers, body: JSON.stringify(body) });
}

it('serves the models that it names, with the limits and the key of its flags', async () => {
  const models = (await (await fetch(`${address}/v1/models`, { headers })).json()) as { data: { step: number }[] };
  expect(models.data).toMatchObject([
    { id: 'tiny', step: 2 },
    { id: 'tiny@1', step: 1 },
    { id: 'tiny@2', step: 2 },
  ]);
  const answer = (await (await complete({ prompt: 'a', max_tokens: 5 })).json()) as Record<string, unknown>;
  expect(answer).toMatchObject({ model: 'tiny', system_fingerprint: 'torchbind-step-2' });
  const long = await complete({ model: 'tiny@1', prompt: 'a'.repeat(9) });
  expect([long.status, await long.json()]).toMatchObject([400, { error: { code: 'context_length_exceeded' } }]);
  expect((await complete({ prompt: 'a', max_tokens: 5001 })).status).toBe(400);
  expect((await fetch(`${address}/v1/models`)).status).toBe(401);
  expect(log).toMatch(/^POST \/v1\/completions 200 [\d.]+ ms$/m);
});

it('on Ctrl-C finishes the requests that have begun, and exits', async () => {
  const stream = await complete({ prompt: 'a', max_tokens: 2000, stream: true });
  command.kill('SIGINT');
  const [events, [status]] = await Promise.all([stream.text(), once(command, 'exit') as Promise<[number | null]>]);
  expect(events.match(/"text":"[^"]/g)).toHaveLength(2000);
  expect(events).toContain('data: [DONE]');
  expect(status).toBe(0);
  expect(log).toContain('closing: waiting for the requests that have begun');
});
