/** A tiny model, and requests to servers of it. */
import { request as httpRequest } from 'node:http';
import { onTestFinished } from 'vitest';
import { CharTokenizer } from '../../lib/tokenizers';
import { createServer, type GPTServer, type ServerOptions } from '../../lib/serve';
import { GPT } from '../../lib/gpt';

const characters = [...'\n abcdefghijklmnopqrstuvwxyz'];
const config = { vocabSize: characters.length, blockSize: 32, nLayer: 1, nHead: 2, nEmbd: 16, dropout: 0, bias: true };

export function tinyModel(): GPT {
  return new GPT(config, { tokenizer: new CharTokenizer(characters) });
}

/** What `gpt` writes after a prompt, as the server generates it. */
export async function expected(gpt: GPT, prompt: string, maxNewTokens: number, seed: number): Promise<string> {
  const text = await gpt.generate(prompt, { maxNewTokens, seed, contextShift: 'half' });
  return text.slice(prompt.length);
}

export interface Running {
  server: GPTServer;
  address: string;
  post: (path: string, body: unknown, headers?: Record<string, string>) => Promise<Answer>;
  get: (path: string, headers?: Record<string, string>) => Promise<Answer>;
}

export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  json: Body;
}

/** What the answers hold that tests look at. */
export interface Body {
  model: string;
  choices: { text: string }[];
  error?: { code: string };
  steps: Record<string, number>;
  active: number;
  waiting: number;
  data: { id: string }[];
  runs: { name: string; step: number; best: number }[];
  charts: { data: number[][] }[];
  version: string;
  text: string;
}

/** A server that is closed when the test ends. */
export async function serve(models: Parameters<typeof createServer>[0], options: ServerOptions = {}): Promise<Running> {
  const server = await createServer(models, { watchInterval: 0, ...options });
  onTestFinished(() => server.close({ timeout: 0 }));
  const address = await server.listen({ port: 0 });
  const ask = async (path: string, init: RequestInit): Promise<Answer> => {
    const response = await fetch(address + path, init);
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json');
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: (isJson === true ? JSON.parse(text) : {}) as Body,
    };
  };
  return {
    server,
    address,
    get: (path, headers = {}) => ask(path, { headers }),
    post: (path, body, headers = {}) =>
      ask(path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
  };
}

/** A request with any header: `fetch` does not send some. */
export function statusOf(
  address: string,
  path: string,
  method: string,
  headers: Record<string, string>,
  body = '{}',
): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(address + path, { method, headers }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    });
    request.on('error', reject);
    request.end(method === 'GET' ? undefined : body);
  });
}
