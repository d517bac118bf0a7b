/** Requests that no client would send: each is answered or refused, and the server goes on as before. */
import { connect } from 'node:net';
import { expect, it } from 'vitest';
import { memory } from '../../lib/tensor/scope';
import { temporaryDirectory } from '../helpers/tmp';
import { expected, serve, tinyModel } from './tiny';

let state = 1;
/** A number from 0 to `below` - 1, the same ones in each run. */
function random(below: number): number {
  state = (state * 48271) % 2147483647;
  return state % below;
}
const oneOf = <T>(list: readonly T[]): T => list[random(list.length)]!;

const names = (
  'model prompt messages stream stream_options n max_tokens max_completion_tokens temperature top_p top_k min_p ' +
  'repetition_penalty presence_penalty frequency_penalty logit_bias logprobs top_logprobs ignore_eos stop seed user ' +
  'best_of echo suffix tools response_format __proto__ constructor toString'
).split(' ');
const values: readonly unknown[] = [
  ...[
    null,
    true,
    false,
    -1,
    0,
    1,
    2,
    5,
    0.5,
    1e308,
    -1e308,
    2 ** 53,
    '',
    'a',
    'é',
    '\u0000',
    '\ud800',
    'a'.repeat(5000),
  ],
  ...[
    [],
    {},
    [[]],
    ['a'],
    ['a', 'b'],
    [0],
    [0, 1e9],
    [-1],
    [[0], [1]],
    [null],
    { 0: 1 },
    { 5: -100 },
    { 99999: 1 },
    { '-1': 1 },
  ],
  ...[{ include_usage: true }, { type: 'text' }, { type: 'json_object' }, [{ role: 'user', content: 'a' }], [{}]],
  ...[[{ role: 'user', content: [{ type: 'text', text: 'a' }] }], [{ role: 5, content: {} }], 'gpt', '../gpt', 'gpt@1'],
];

/** A body in which some parameters make no sense. */
function anyBody(): string {
  const base =
    random(2) === 0 ? { prompt: 'a', max_tokens: 2 } : { max_tokens: 3, messages: [{ role: 'user', content: 'a' }] };
  const odd = Array.from({ length: random(4) }, () => [oneOf(names), oneOf(values)] as const);
  // As text, so that __proto__ is a parameter like the others.
  const entries = [...Object.entries(base), ...odd].map(
    ([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`,
  );
  return `{${entries.join(', ')}}`;
}

/** Sends bytes, and waits until the server has closed the connection or a moment has passed. */
async function sendBytes(address: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(address).port), '127.0.0.1');
  let answer = '';
  socket.setEncoding('latin1').on('data', (text: string) => (answer += text));
  await new Promise<void>((resolve) => {
    socket.once('close', resolve).once('error', () => undefined);
    socket.write(bytes, 'latin1');
    setTimeout(() => socket.destroy(), 200);
  });
  return answer;
}

it('any parameters, any bytes', async () => {
  const gpt = tinyModel();
  const tokenizer = gpt.tokenizer!;
  const applyChatTemplate = (messages: { content: string }[]): string =>
    messages.map(({ content }) => content).join('');
  gpt.tokenizer = Object.assign(Object.create(tokenizer) as typeof tokenizer, { applyChatTemplate });
  const errors: Error[] = [];
  const onError = (error: Error): unknown => errors.push(error);
  const { post, get, address } = await serve(gpt, { root: temporaryDirectory(), limits: { maxTokens: 8 }, onError });
  const tensors = memory().numTensors;
  const statuses = new Map<number, number>();
  for (let i = 0; i < 600; i += 10) {
    const answers = await Promise.all(
      Array.from({ length: 10 }, async () => {
        const body = anyBody();
        return { body, ...(await post(oneOf(['/v1/completions', '/v1/chat/completions']), body)) };
      }),
    );
    for (const { body, status, text } of answers) {
      expect([200, 400, 404], body).toContain(status);
      expect(text, body).not.toContain('server_error');
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  }
  expect(statuses.get(200)).toBeGreaterThan(50);
  expect(statuses.get(400)).toBeGreaterThan(200);
  const head = 'POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n';
  for (const bytes of [
    '\0\0\0\0',
    'GET\r\n\r\n',
    `${head}content-length: 5\r\n\r\n{}`,
    `${head}content-length: 2\r\ncontent-length: 3\r\n\r\n{}`,
    `${head}content-length: -1\r\n\r\n{}`,
    `${head}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n`,
    `${head}x: ${'a'.repeat(100_000)}\r\n\r\n`,
    'GET /%ff%00/../v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n',
    'GET /api/runs/%00/charts HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n',
  ])
    expect(await sendBytes(address, bytes)).toMatch(/^(HTTP\/1\.1 4\d\d |$)/);
  expect(errors).toEqual([]);
  expect((await get('/health')).json).toMatchObject({ active: 0, waiting: 0 });
  const { json } = await post('/v1/completions', { prompt: 'abc', max_tokens: 8, seed: 3 });
  expect(json.choices[0]!.text).toBe(await expected(gpt, 'abc', 8, 3));
  expect(memory().numTensors).toBe(tensors);
  gpt.dispose();
});
