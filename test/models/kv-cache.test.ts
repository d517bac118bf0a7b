import { afterAll, beforeAll, expect, it } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { inferenceMode } from '../../lib/tensor/autograd';
import { tensor } from '../../lib/tensor/creation';
import { manualSeed } from '../../lib/tensor/random';
import { memory, tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';

let gpt: GPT;
beforeAll(() => {
  manualSeed(1);
  gpt = new GPT({ vocabSize: 20, blockSize: 1000, nLayer: 2, nHead: 2, nEmbd: 16 }).eval();
});
afterAll(() => gpt.dispose());

const ids = (count: number): Tensor =>
  tensor([Array.from({ length: count }, (_, i) => (3 * i) % 20)], { dtype: 'int64' });

it('takes memory as its positions are filled, and all of it is freed', () => {
  const before = memory();
  const cache = gpt.makeCache();
  /** 2 layers, keys and values, 2 heads of 8 channels, 4 bytes each. */
  const positions = (): number => (memory().numBytes - before.numBytes) / (2 * 2 * 16 * 4);
  const counts = [1, 63, 1, 200, 700].map((count) => {
    tidy(() => void gpt.forwardCached(ids(count), cache));
    return [cache.length, cache.free, positions()];
  });
  expect(counts).toEqual([
    [1, 999, 64],
    [64, 936, 64],
    [65, 935, 128],
    [265, 735, 265],
    [965, 35, 965],
  ]);
  cache.dispose();
  expect(memory()).toEqual(before);
});

it('gives the same bits however its memory grew, in inference mode or out of it', () => {
  tidy(() => {
    const [first, next] = [ids(70), ids(130)];
    const [large, small] = [gpt.makeCache(), gpt.makeCache()];
    gpt.forwardCached(ids(900), large);
    large.reset();
    inferenceMode(() => gpt.forwardCached(first, small));
    gpt.forwardCached(first, large);
    expect(gpt.forwardCached(next, small).tolist()).toEqual(gpt.forwardCached(next, large).tolist());
    for (const cache of [large, small]) cache.dispose();
  });
});
