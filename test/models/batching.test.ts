import { expect, it } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { manualSeed } from '../../lib/tensor/random';
import { memory } from '../../lib/tensor/scope';

async function collect(stream: AsyncIterable<number>): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of stream) tokens.push(token);
  return tokens;
}

it('tokens are those of each alone', async () => {
  manualSeed(1);
  const gpt = new GPT({ vocabSize: 50, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 32 });
  const calls = Array.from({ length: 6 }, (_, i) => ({
    prompt: Array.from({ length: 1 + 5 * i }, (_, j) => (7 * i + 3 * j) % 50),
    options: { maxNewTokens: 5 + 6 * i, seed: i, greedy: i % 2 === 0 },
  }));
  const before = memory();
  const alone: number[][] = [];
  for (const { prompt, options } of calls) alone.push(await collect(gpt.generateTokens(prompt, options)));
  expect(await Promise.all(calls.map(({ prompt, options }) => collect(gpt.generateTokens(prompt, options))))).toEqual(
    alone,
  );
  expect(memory()).toEqual(before);
});
