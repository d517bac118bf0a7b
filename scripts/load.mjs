#!/usr/bin/env node
// npm run load: `torchbind serve` under load. autocannon holds many connections, each of which asks for text again and again; prints how
// many requests were answered, and how long they took. The status is 1 if one failed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import autocannon from 'autocannon';
import { inRoot, main } from './steps.mjs';

const HELP = `npm run load -- [--seconds 20] [--connections 16] [--tokens 32] [--model examples/checkpoints/shakespeare-char]

Loads a server of its own: /health alone, then completions, then streamed ones while /health is asked too.
`;

main(async (args) => {
  const { values } = parseArgs({
    args,
    options: {
      seconds: { type: 'string', default: '20' },
      connections: { type: 'string', default: '16' },
      tokens: { type: 'string', default: '32' },
      model: { type: 'string', default: inRoot('examples/checkpoints/shakespeare-char') },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const [duration, connections, tokens] = [values.seconds, values.connections, values.tokens].map(Number);
  const flags = ['--port', '0', '--max-queue', '1000', '--checkpoint-dir', inRoot('examples/checkpoints')];
  const server = spawn(process.execPath, [inRoot('dist/cli/main.js'), 'serve', values.model, ...flags], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [line] = await once(server.stdout.setEncoding('utf8'), 'data');
    const address = /http\S+/.exec(line)[0];
    const health = { url: `${address}/health`, duration, connections: 2 };
    const text = (stream) => ({
      url: `${address}/v1/completions`,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'The ', max_tokens: tokens, seed: 1, stream }),
      duration,
      connections,
      timeout: 60,
    });
    const results = [
      ['/health', await autocannon(health)],
      [`completions of ${tokens} tokens, ${connections} connections`, await autocannon(text(false))],
    ];
    const [streams, meanwhile] = await Promise.all([autocannon(text(true)), autocannon(health)]);
    results.push(
      [`streams of ${tokens} tokens, ${connections} connections`, streams],
      ['/health meanwhile', meanwhile],
    );
    return results.map(([name, result]) => report(name, result)).every(Boolean) ? 0 : 1;
  } finally {
    server.kill();
  }
});

function report(name, { requests, latency, errors, timeouts, non2xx, duration }) {
  const failed = errors + timeouts + non2xx;
  process.stdout.write(
    `${name}: ${requests.total} requests in ${duration.toFixed(0)} s (${(requests.total / duration).toFixed(1)} a second), p50 ${latency.p50} ms, p99 ${latency.p99} ms, at most ${latency.max} ms, ${failed} failed\n`,
  );
  return failed === 0;
}
