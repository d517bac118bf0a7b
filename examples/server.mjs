// An HTTP server that streams text from a model to any number of clients at once, and can train it meanwhile.
//
//   node server.mjs [bundle] [--port 8080] [--train text.txt]
//
//   curl -N 'localhost:8080/stream?prompt=The&tokens=50'     server-sent events, a piece of text each
//   curl localhost:8080/health
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { GPT, memory } from 'torchbind';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { port: { type: 'string', default: '8080' }, train: { type: 'string' } },
});
const gpt = await GPT.load(positionals[0] ?? new URL('checkpoints/shakespeare-char', import.meta.url));

// Streams that run at the same time are decoded together, on a thread of their own: this one only passes pieces on.
async function stream(url, response) {
  const { prompt = '', tokens = '100', ...rest } = Object.fromEntries(url.searchParams);
  if (Object.keys(rest).length > 0) throw new RangeError(`unknown parameters: ${Object.keys(rest).join(', ')}`);
  const client = new AbortController();
  response.on('close', () => client.abort());
  const pieces = gpt.stream(prompt, { maxNewTokens: Number(tokens), signal: client.signal });
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  for await (const piece of pieces) {
    // A client that reads slowly is waited for; the others are not.
    if (!response.write(`data: ${JSON.stringify(piece)}\n\n`)) await once(response, 'drain', { signal: client.signal });
  }
  response.end('event: end\ndata: {}\n\n');
}

function health(response) {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ step: gpt.step, tensors: memory().numTensors, rss: process.memoryUsage().rss }));
}

async function answer(request, response) {
  const url = new URL(request.url, 'http://localhost');
  try {
    if (url.pathname === '/stream') await stream(url, response);
    else if (url.pathname === '/health') health(response);
    else response.writeHead(404).end();
  } catch (error) {
    if (response.destroyed) return; // the client has left
    if (!response.headersSent) response.writeHead(400);
    response.end(
      response.headersSent ? `event: error\ndata: ${JSON.stringify(error.message)}\n\n` : `${error.message}\n`,
    );
  }
}

const server = createServer((request, response) => void answer(request, response));
server.listen(Number(values.port), '127.0.0.1', () => console.log(`listening on port ${server.address().port}`));

if (values.train !== undefined) {
  const text = await readFile(values.train, 'utf8');
  await gpt.fit({ text, maxSteps: 1e9, evalInterval: 0 });
}
