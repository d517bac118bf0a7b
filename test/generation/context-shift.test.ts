/** Texts longer than the context, by halves: `contextShift: 'half'`. */
import { beforeAll, describe, expect, it } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import type { KVCache } from '../../lib/models';
import { noGrad } from '../../lib/tensor/autograd';
import { tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';

const shape = { vocabSize: 30, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 32 };
let [learned, rotary]: [GPT?, GPT?] = [];

beforeAll(() => {
  setNumThreads(1);
  manualSeed(1);
  learned = new GPT(shape);
  rotary = new GPT({ ...shape, positionEncoding: 'rope' }, { layout: 'mypt-fused' });
});

async function generate(gpt: GPT, prompt: number[], count: number, seed?: number): Promise<number[]> {
  const tokens: number[] = [];
  const sampling = seed === undefined ? { greedy: true } : { seed };
  const options = { ...sampling, maxNewTokens: count, contextShift: 'half' } as const;
  for await (const id of gpt.generateTokens(prompt, options)) tokens.push(id);
  return tokens;
}

const argmax = (logits: Tensor): number => Number(logits.argmax(-1).item());

/** The same without a cache: when the window is full, its last half stays. */
function withoutCache(gpt: GPT, prompt: number[], count: number): number[] {
  gpt.eval();
  const { blockSize } = gpt.config;
  const tokens = [...prompt];
  let start = Math.max(0, tokens.length - blockSize);
  for (let i = 0; i < count; i++) {
    if (tokens.length - start > blockSize) start = tokens.length - Math.ceil(blockSize / 2);
    const window = tokens.slice(start);
    const next = noGrad(() =>
      tidy(() => argmax(gpt.forward(tensor([window], { dtype: 'int64' })).logits.select(1, window.length - 1))),
    );
    tokens.push(next);
  }
  gpt.train();
  return tokens.slice(prompt.length);
}

/** With rotary positions: keys and values of all that was kept stay as they were computed. */
function withOneCache(gpt: GPT, prompt: number[], count: number): number[] {
  gpt.eval();
  const { blockSize } = gpt.config;
  const cache = gpt.makeCache();
  const tokens: number[] = [];
  let fed = prompt.slice(-blockSize);
  for (let i = 0; i < count; i++) {
    if (cache.length + fed.length > blockSize) cache.drop(cache.length + 1 - Math.ceil(blockSize / 2));
    const next = tidy(() => argmax(gpt.forwardCached(tensor([fed], { dtype: 'int64' }), cache)));
    tokens.push(next);
    fed = [next];
  }
  cache.dispose();
  gpt.train();
  return tokens;
}

describe("contextShift: 'half'", () => {
  it.each([1, 9, 16, 40])('keeps the last half of a full context, after a prompt of %i tokens', async (length) => {
    const prompt = Array.from({ length }, (_, i) => (7 * i + i * i) % 30);
    expect(await generate(learned!, prompt, 60)).toEqual(withoutCache(learned!, prompt, 60));
  });

  it.each([1, 9, 16, 40])('keeps the cache with rotary positions, after a prompt of %i tokens', async (length) => {
    const prompt = Array.from({ length }, (_, i) => (7 * i + i * i) % 30);
    expect(await generate(rotary!, prompt, 60)).toEqual(withOneCache(rotary!, prompt, 60));
  });

  it('reads each token once with rotary positions, and half a context twice with learned ones', async () => {
    const read = async (gpt: GPT): Promise<number> => {
      let count = 0;
      gpt.forwardCached = (idx: Tensor, cache: KVCache) => {
        count += idx.size(1);
        return GPT.prototype.forwardCached.call(gpt, idx, cache);
      };
      await generate(gpt, [1], 48);
      Reflect.deleteProperty(gpt, 'forwardCached');
      return count;
    };
    expect(await read(rotary!)).toBe(48);
    // 16 tokens fill the context; each further 9 begin with the 7 before them.
    expect(await read(learned!)).toBe(48 + 7 * Math.ceil((48 - 16) / 9));
  });

  it('gives several sequences what it gives each alone', async () => {
    for (const gpt of [learned!, rotary!]) {
      const alone = [await generate(gpt, [1, 2], 40, 1), await generate(gpt, [3], 40, 2)];
      expect(await Promise.all([generate(gpt, [1, 2], 40, 1), generate(gpt, [3], 40, 2)])).toEqual(alone);
    }
  });

  it('is refused where it is misspelled, and a cache drops no more than it has', () => {
    expect(() => learned!.generateTokens([1], { contextShift: 'whole' as 'half' })).toThrow(/'exact' or 'half'/);
    using cache = learned!.makeCache();
    expect(() => cache.drop(1)).toThrow(/a number of positions from 0 to 0/);
  });
});
