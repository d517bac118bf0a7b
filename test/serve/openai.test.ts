/** The official client against a server in this process. */
import OpenAI, { BadRequestError, NotFoundError } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GPT } from '../../lib/gpt';
import { createServer, type GPTServer } from '../../lib/serve';
import { expected, serve, tinyModel } from './tiny';

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe("OpenAI's client", () => {
  let gpt: GPT;
  let server: GPTServer;
  let client: OpenAI;

  beforeAll(async () => {
    gpt = tinyModel();
    server = await createServer(gpt, { name: 'tiny', apiKeys: ['secret', 'other'] });
    const baseURL = `${await server.listen({ port: 0 })}/v1`;
    client = new OpenAI({ baseURL, apiKey: 'other', maxRetries: 0 });
  });

  afterAll(async () => {
    await server.close();
    gpt.dispose();
  });

  const request = { model: 'tiny', prompt: 'abc', max_tokens: 40, seed: 7 };

  it('gets the text that the model generates, what it used, and why it ended', async () => {
    const { choices, usage, object, model } = await client.completions.create(request);
    const text = await expected(gpt, 'abc', 40, 7);
    expect(choices).toEqual([{ index: 0, text, logprobs: null, finish_reason: 'length' }]);
    expect(usage).toEqual({ prompt_tokens: 3, completion_tokens: 40, total_tokens: 43 });
    expect([object, model]).toEqual(['text_completion', 'tiny']);
  });

  it('gets the same text as a stream, with the usage where it asks for it', async () => {
    const options = { include_usage: true };
    const stream = await client.completions.create({ ...request, stream: true, stream_options: options });
    const chunks = await all(stream);
    expect(chunks.map(({ choices: [choice] }) => choice?.text ?? '').join('')).toBe(await expected(gpt, 'abc', 40, 7));
    expect(chunks.at(-2)!.choices[0]!.finish_reason).toBe('length');
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 43 } });
    expect(chunks.length).toBeGreaterThan(20);
  });

  it('gets several texts, each as a request of its own would get it', async () => {
    const { choices, usage } = await client.completions.create({ ...request, prompt: ['abc', 'xyz'], n: 2 });
    const texts = await Promise.all(
      ['abc', 'abc', 'xyz', 'xyz'].map((prompt, i) => expected(gpt, prompt, 40, 7 + (i % 2))),
    );
    expect(choices.map(({ text }) => text)).toEqual(texts);
    expect(usage).toEqual({ prompt_tokens: 6, completion_tokens: 160, total_tokens: 166 });
  });

  it('stops before a text, and takes token ids', async () => {
    const whole = await expected(gpt, 'abc', 40, 7);
    const stop = whole.slice(10, 13);
    const prompt = [...gpt.tokenizer!.encode('abc')];
    const { choices } = await client.completions.create({ ...request, prompt, stop: [stop] });
    expect(choices[0]).toMatchObject({ text: whole.slice(0, whole.indexOf(stop)), finish_reason: 'stop' });
  });

  it('gets the options of generate, and log-probabilities', async () => {
    const penalties = { presence_penalty: 0.5, frequency_penalty: 1.5, logit_bias: { '3': 4 } };
    const own = { presencePenalty: 0.5, frequencyPenalty: 1.5, logitBias: { 3: 4 } };
    const common = { maxNewTokens: 40, seed: 7, contextShift: 'half', ...own } as const;
    const { text, logprobs } = await gpt.generate('abc', { ...common, details: true, logprobs: 2 });
    const { choices } = await client.completions.create({ ...request, ...penalties, logprobs: 2 });
    expect(choices[0]!.text).toBe(text);
    const { tokens, token_logprobs, top_logprobs, text_offset } = choices[0]!.logprobs!;
    expect(tokens!.join('')).toBe(text);
    expect(token_logprobs).toEqual(logprobs!.map(({ logprob }) => logprob));
    expect(text_offset).toEqual(tokens!.map((_, i) => i));
    for (const [i, { top }] of logprobs!.entries())
      expect(top_logprobs![i]).toEqual(
        Object.fromEntries(top.map(({ token, logprob }) => [gpt.tokenizer!.decode([token]), logprob])),
      );
    const chunks = await all(await client.completions.create({ ...request, ...penalties, logprobs: 2, stream: true }));
    const streamed = chunks.flatMap((chunk) => chunk.choices[0]?.logprobs ?? []);
    expect(streamed.flatMap(({ tokens }) => tokens!)).toEqual(tokens);
    expect(streamed.flatMap(({ text_offset }) => text_offset!)).toEqual(text_offset);
    const minP = await client.completions.create({ ...request, min_p: 0.9, repetition_penalty: 1.2 } as typeof request);
    expect(minP.choices[0]!.text).toBe(
      (
        await gpt.generate('abc', {
          maxNewTokens: 40,
          seed: 7,
          contextShift: 'half',
          minP: 0.9,
          repetitionPenalty: 1.2,
        })
      ).slice(3),
    );
  });

  it('lists the models', async () => {
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['tiny']);
  });

  it('learns what is wrong with a request', async () => {
    const refused = async (body: object): Promise<unknown> =>
      client.completions.create({ ...request, ...body } as never).catch((error: unknown) => error);
    expect(await refused({ model: 'other' })).toBeInstanceOf(NotFoundError);
    for (const [body, param] of [
      [{ temperature: 3 }, 'temperature'],
      [{ top_p: 'much' }, 'top_p'],
      [{ max_tokens: 1e9 }, 'max_tokens'],
      [{ n: 100 }, 'n'],
      [{ stop: [''] }, 'stop'],
      [{ suffix: 'end' }, 'suffix'],
      [{ tools: [{}] }, 'tools'],
      [{ speed: 1 }, 'speed'],
      [{ presence_penalty: 3 }, 'presence_penalty'],
      [{ logit_bias: { x: 1 } }, 'logit_bias'],
      [{ logit_bias: [3] }, 'logit_bias'],
      [{ logprobs: 9 }, 'logprobs'],
      [{ prompt: [[]] }, 'prompt'],
      [{ prompt: [0, 99] }, 'prompt'],
      [{ prompt: [-1] }, 'prompt'],
      [{ prompt: 'a'.repeat(33) }, 'prompt'],
    ] as const) {
      const error = (await refused(body)) as BadRequestError;
      expect(error).toBeInstanceOf(BadRequestError);
      expect([error.param, error.type]).toEqual([param, 'invalid_request_error']);
      expect(error.message).toContain(param);
    }
    const unknownCharacter = (await refused({ prompt: 'É' })) as BadRequestError;
    expect([unknownCharacter.status, unknownCharacter.code]).toEqual([400, 'unknown_character']);
  });

  it('needs one of the keys', async () => {
    const stranger = new OpenAI({ baseURL: client.baseURL, apiKey: 'secre', maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
  });

  it('without a chat template is told so', async () => {
    const messages = [{ role: 'user', content: 'abc' }] as const;
    const chat = client.chat.completions.create({ model: 'tiny', messages: [...messages] });
    await expect(chat).rejects.toMatchObject({ status: 400, code: 'no_chat_template' });
  });
});

it('conversations go through the template of the tokenizer', async () => {
  const gpt = tinyModel();
  const tokenizer = gpt.tokenizer!;
  const applyChatTemplate = (messages: { role: string; content: string }[]): string =>
    messages.map(({ role, content }) => `${role} ${content}\n`).join('') + 'assistant ';
  gpt.tokenizer = Object.assign(Object.create(tokenizer) as typeof tokenizer, { applyChatTemplate });
  const { address } = await serve(gpt);
  const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: 'any', maxRetries: 0 });
  const text = await expected(gpt, 'user abc\nassistant ', 20, 3);
  const request = {
    model: 'gpt',
    seed: 3,
    max_completion_tokens: 20,
    messages: [{ role: 'user' as const, content: [{ type: 'text' as const, text: 'abc' }] }],
  };
  const answer = await client.chat.completions.create(request);
  expect(answer.choices[0]).toMatchObject({ message: { role: 'assistant', content: text }, finish_reason: 'length' });
  const stream = await client.chat.completions.create({ ...request, stream: true });
  const chunks = await all(stream);
  expect(chunks[0]!.choices[0]!.delta).toEqual({ role: 'assistant', content: '' });
  expect(chunks.map(({ choices: [choice] }) => choice!.delta.content ?? '').join('')).toBe(text);
  const probable = await client.chat.completions.create({ ...request, logprobs: true, top_logprobs: 2 });
  const content = probable.choices[0]!.logprobs!.content!;
  expect(content.map(({ token }) => token).join('')).toBe(text);
  expect(content[0]).toMatchObject({ bytes: [...Buffer.from(text[0]!)] });
  expect(content[0]!.top_logprobs).toHaveLength(2);
  const wrong = client.chat.completions.create({ ...request, top_logprobs: 2 });
  await expect(wrong).rejects.toMatchObject({ status: 400, param: 'top_logprobs' });
  // The generation config says what ends a text.
  const end = tokenizer.encode(text)[4]!;
  gpt.generationConfig = { greedy: true, stopTokens: [end] };
  const ended = await client.chat.completions.create(request);
  expect(ended.choices[0]).toMatchObject({
    message: { content: text.slice(0, text.indexOf(text[4]!)) },
    finish_reason: 'stop',
  });
  const ignoring = await client.chat.completions.create({ ...request, ignore_eos: true } as typeof request);
  expect(ignoring.choices[0]!.message.content).toBe(text);
  gpt.dispose();
});
