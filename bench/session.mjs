#!/usr/bin/env node
/** Time to the first token of a conversation's second turn: with the cache of a session, and with the whole text computed anew. */
import { parseArgs } from 'node:util';
import { GPT, manualSeed } from '../dist/index.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    history: { type: 'string', default: '512' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log('usage: node bench/session.mjs [--rounds 5] [--history 512 tokens before the second turn] [--json]');
  process.exit(0);
}

manualSeed(1);
const gpt = new GPT({ vocabSize: 50304, blockSize: 1024, nLayer: 12, nHead: 12, nEmbd: 768, dropout: 0 });
const tokens = (count, seed) => Array.from({ length: count }, (_, i) => (i * 7919 + seed * 104729) % 50257);
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

async function firstToken(stream) {
  const start = performance.now();
  await stream.next();
  const time = performance.now() - start;
  await stream.return();
  return time;
}

const times = { session: [], anew: [] };
for (let round = 0; round < Number(values.rounds); round++) {
  const session = gpt.session({ greedy: true, maxNewTokens: 2 });
  for await (const token of session.generateTokens(tokens(Number(values.history), round))) void token;
  const whole = [...session.tokens, ...tokens(16, round + 100)];
  times.session.push(await firstToken(session.generateTokens(tokens(16, round + 100))));
  times.anew.push(await firstToken(gpt.generateTokens(whole, { greedy: true, maxNewTokens: 2 })));
  session.dispose();
}
const result = {
  model: 'GPT-2 124M, random weights, float32',
  history: Number(values.history),
  prompt: 16,
  sessionMs: median(times.session),
  anewMs: median(times.anew),
  ratio: median(times.anew) / median(times.session),
};
if (values.json) console.log(JSON.stringify(result, null, 2));
else {
  console.log(`${result.model}; ${result.history} tokens before, 16 new ones; medians of ${values.rounds} rounds`);
  console.log(
    `first token with the session's cache ${result.sessionMs.toFixed(0)} ms, computed anew ${result.anewMs.toFixed(0)} ms`,
  );
  console.log(`ratio ${result.ratio.toFixed(1)}`);
}
