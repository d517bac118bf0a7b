/** Linears of a few rows go through oneDNN while tokens are generated, where the processor gains by that. */
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { applyLora, mergeLora } from '../../lib/models';
import { loadedAddon } from '../../lib/native/native';
import { autocast, noGrad } from '../../lib/tensor/autograd';
import { tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { Operator } from '../../lib/tensor/operator';
import { manualSeed } from '../../lib/tensor/random';
import { tidy } from '../../lib/tensor/scope';

// Weights of 768 x 256 and 1024 x 256 are large enough; the projection (256, 256) and the head (30, 256) are not.
const shape = { vocabSize: 30, blockSize: 32, nLayer: 2, nHead: 4, nEmbd: 256 };
let gpt: GPT;
const { kernels } = loadedAddon();
const own = kernels.oneDnnRows;

beforeAll(() => {
  setNumThreads(1);
  manualSeed(1);
  gpt = new GPT(shape).eval();
});
afterEach(() => {
  kernels.oneDnnRows = own;
  vi.restoreAllMocks();
});

/** Logits after `count` tokens and then one more, and how often oneDNN multiplied in each pass. */
function run(rows: number, count: number): { logits: number[]; calls: number[] } {
  kernels.oneDnnRows = rows;
  const spy = vi.spyOn(Operator.prototype, 'call');
  using cache = gpt.makeCache();
  const calls: number[] = [];
  const logits: number[] = [];
  for (const ids of [Array.from({ length: count }, (_, i) => i), [5]]) {
    spy.mockClear();
    logits.push(
      ...tidy(() => [...gpt.forwardCached(tensor([ids], { dtype: 'int64' }), cache).toTypedArray()]).map(Number),
    );
    calls.push(
      (spy.mock.contexts as Operator[]).filter((operator) => operator.name === 'mkldnn::_linear_pointwise').length,
    );
  }
  spy.mockRestore();
  return { logits, calls };
}

const layers = 2 * 3; // qkv, up and down of each block

test('up to the number of rows that the processor gains by', () => {
  expect(run(0, 4).calls).toEqual([0, 0]);
  expect(run(1, 4).calls).toEqual([0, layers]);
  expect(run(4, 4).calls).toEqual([layers, layers]);
  expect(run(4, 5).calls).toEqual([0, layers]);
});

test('with the results of libtorch, but for the order of sums', () => {
  const [stock, auto] = [run(0, 4).logits, run(16, 4).logits];
  auto.forEach((value, i) => expect(Math.abs(value - stock[i]!)).toBeLessThan(1e-4));
});

test('in packed passes, and the tokens are the same', async () => {
  const generate = async (): Promise<number[][]> =>
    Promise.all(
      [[1], [2, 3], [4, 5, 6]].map(async (prompt) => {
        const tokens: number[] = [];
        const options = { greedy: true, maxNewTokens: 12, thread: 'main' } as const;
        for await (const id of gpt.generateTokens(prompt, options)) tokens.push(id);
        return tokens;
      }),
    );
  kernels.oneDnnRows = 0;
  const stock = await generate();
  kernels.oneDnnRows = 16;
  const spy = vi.spyOn(Operator.prototype, 'call');
  expect(await generate()).toEqual(stock);
  expect((spy.mock.contexts as Operator[]).some((operator) => operator.name === 'mkldnn::_linear_pointwise')).toBe(
    true,
  );
});

test('not in forward, nor under autocast, nor in another dtype', () => {
  kernels.oneDnnRows = 16;
  const spy = vi.spyOn(Operator.prototype, 'call');
  const idx = tensor([[1]], { dtype: 'int64' });
  noGrad(() => gpt.forward(idx));
  using cache = gpt.makeCache();
  autocast({ device: 'cpu' }, () => gpt.forwardCached(idx, cache));
  const half = new GPT(shape).to('bfloat16');
  using halfCache = half.makeCache();
  half.forwardCached(idx, halfCache);
  half.dispose();
  expect((spy.mock.contexts as Operator[]).filter((operator) => operator.name === 'mkldnn::_linear_pointwise')).toEqual(
    [],
  );
});

test('in layers with adapters, merged or not', () => {
  const adapted = new GPT(shape).eval();
  applyLora(adapted, { rank: 2, alpha: 4, targets: ['attn.qkv', 'mlp.up'] });
  kernels.oneDnnRows = 1;
  const idx = tensor([[1]], { dtype: 'int64' });
  for (const merge of [false, true]) {
    if (merge) mergeLora(adapted);
    const spy = vi.spyOn(Operator.prototype, 'call');
    using cache = adapted.makeCache();
    adapted.forwardCached(idx, cache);
    const found = (spy.mock.contexts as Operator[]).filter(
      (operator) => operator.name === 'mkldnn::_linear_pointwise',
    ).length;
    expect(found).toBe(layers);
    spy.mockRestore();
  }
  adapted.dispose();
});
