/** Linears of a few rows go through other kernels while tokens are generated, where the processor gains by that. */
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { applyLora, mergeLora } from '../../lib/models';
import { loadedAddon } from '../../lib/native/native';
import { autocast, noGrad } from '../../lib/tensor/autograd';
import { full, ones, rand, randint, randn, tensor } from '../../lib/tensor/creation';
import { allclose, equal } from '../../lib/tensor/generated/functions';
import { setNumThreads } from '../../lib/tensor/device';
import { Operator } from '../../lib/tensor/operator';
import { manualSeed } from '../../lib/tensor/random';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';

const shape = { vocabSize: 30, blockSize: 32, nLayer: 2, nHead: 4, nEmbd: 256 };
const linears = 2 * 4 + 1; // four of each block, and the head
const head = 1; // it multiplies the last row of a prompt alone
let gpt: GPT;
const { kernels } = loadedAddon();
const own = { ...kernels };

beforeAll(() => {
  setNumThreads(1);
  manualSeed(1);
  gpt = new GPT(shape).eval();
});
afterEach(() => {
  Object.assign(kernels, own);
  vi.restoreAllMocks();
});

/** How often our own kernel multiplies while `fn` runs. */
function countOwn(fn: () => void): number {
  const spies = (['call', 'call3'] as const).map((name) => vi.spyOn(Operator.prototype, name));
  fn();
  const called = spies.flatMap((spy) => spy.mock.contexts as Operator[]);
  spies.forEach((spy) => spy.mockRestore());
  return called.filter(({ name }) => name === 'torchbind::linear').length;
}

/** Logits after `count` tokens and then one more, and how often our own kernel multiplied in each pass. */
function run(rows: number, count: number, model = gpt): { logits: number[]; calls: number[] } {
  kernels.ownRows = rows;
  using cache = model.makeCache();
  const logits: number[] = [];
  const pass = (ids: number[]): number =>
    countOwn(() =>
      tidy(() => {
        const last = model.forwardCached(tensor([ids], { dtype: 'int64' }), cache);
        logits.push(...(last.to('float32').flatten().tolist() as number[]));
      }),
    );
  const calls = [pass(Array.from({ length: count }, (_, i) => i)), pass([5])];
  return { logits, calls };
}

describe.runIf(kernels.processor.avx2)('passes of a few rows', () => {
  test('up to the number of rows that the processor gains by', () => {
    expect(run(0, 4).calls).toEqual([0, 0]);
    expect(run(1, 4).calls).toEqual([head, linears]);
    expect(run(4, 4).calls).toEqual([linears, linears]);
    expect(run(4, 5).calls).toEqual([head, linears]);
  });

  test.each([true, false])('in bfloat16, where the processor has instructions for it: %s', (avx512) => {
    const half = new GPT(shape).eval().to('bfloat16');
    kernels.processor = { ...kernels.processor, avx512 };
    // Without them our own kernel is ahead for any number of rows but two.
    expect(run(4, 2, half).calls).toEqual([avx512 ? linears : head, linears]);
    expect(run(4, 5, half).calls).toEqual([avx512 ? head : linears, linears]);
    expect(run(0, 4, half).calls).toEqual([0, 0]);
    half.dispose();
  });

  test.each([
    ['float32', 1e-4, linears, (): void => undefined],
    ['bfloat16', 0.05, linears, (model: GPT): void => void model.to('bfloat16')],
    ['8 bits', 0.05, head, (model: GPT): void => void model.quantize({ bits: 8 })],
  ] as const)('with the results of libtorch, but for rounding: %s', (_, allowed, ofPrompt, change) => {
    manualSeed(1);
    const model = new GPT(shape).eval();
    change(model);
    const [stock, auto] = [run(0, 3, model), run(16, 3, model)];
    expect([stock.calls, auto.calls]).toEqual([
      [0, 0],
      [ofPrompt, linears],
    ]);
    auto.logits.forEach((value, i) => expect(Math.abs(value - stock.logits[i]!)).toBeLessThan(allowed));
    model.dispose();
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
    kernels.ownRows = 0;
    const stock = await generate();
    kernels.ownRows = 16;
    const spy = vi.spyOn(Operator.prototype, 'call3');
    expect(await generate()).toEqual(stock);
    expect((spy.mock.contexts as Operator[]).some(({ name }) => name === 'torchbind::linear')).toBe(true);
  });

  test('not in forward, nor under autocast, nor in another dtype', () => {
    kernels.ownRows = 16;
    const idx = tensor([[1]], { dtype: 'int64' });
    using cache = gpt.makeCache();
    const half = new GPT(shape).to('float16');
    using halfCache = half.makeCache();
    expect(
      countOwn(() => {
        noGrad(() => gpt.forward(idx));
        autocast({ device: 'cpu' }, () => gpt.forwardCached(idx, cache));
        half.forwardCached(idx, halfCache);
      }),
    ).toBe(0);
    half.dispose();
  });

  test('in layers with adapters, merged or not', () => {
    const adapted = new GPT(shape).eval();
    applyLora(adapted, { rank: 2, alpha: 4, targets: ['attn.qkv', 'mlp.up'] });
    for (const merge of [false, true]) {
      if (merge) mergeLora(adapted);
      expect(run(1, 2, adapted).calls).toEqual([head, linears]);
    }
    adapted.dispose();
  });
});

describe.runIf(kernels.processor.avx2)('torchbind::linear', () => {
  const linear = (...args: (Tensor | null)[]): Tensor => new Operator('torchbind::linear', '').call(args) as Tensor;

  /** The largest difference from the product in float64, relative to the largest element. */
  const difference = (product: Tensor, input: Tensor, weight: Tensor): number =>
    tidy(() => {
      const exact = input.to('float64').matmul(weight.to('float64').t());
      return Number(product.to('float64').sub(exact).abs().max().div(exact.abs().max()).item());
    });

  test.each([
    // float32: the order of sums. bfloat16: the rounding of the result. int8: the input's rounding to 16 bits.
    ['float32', 1e-6],
    ['bfloat16', 4e-3],
    ['int8', 1e-4],
  ] as const)('multiplies %s weights of all sizes', (dtype, allowed) => {
    tidy(() => {
      for (const [rows, columns] of [
        [1, 1],
        [3, 15],
        [5, 16],
        [7, 37],
        [64, 2048],
        [9, 5000],
        [600, 300],
      ] as const) {
        const input = randn([1, 1, columns]).to(dtype === 'bfloat16' ? dtype : 'float32');
        const weight =
          dtype === 'int8' ? randint(-127, 128, [rows, columns], { dtype }) : randn([rows, columns]).to(dtype);
        const product = linear(input, weight, null, dtype === 'int8' ? ones([rows]) : null);
        expect([product.shape, product.dtype]).toEqual([[1, 1, rows], input.dtype]);
        expect(difference(product, input, weight)).toBeLessThan(allowed);
      }
    });
  });

  test('scales rows and adds the bias', () => {
    tidy(() => {
      const [input, weight] = [randn(1, 40), randint(-127, 128, [6, 40], { dtype: 'int8' })];
      const [scales, bias] = [rand(6).to('bfloat16'), randn(6)];
      const expected = input.matmul(weight.to('float32').t()).mul(scales).add(bias);
      expect(allclose(linear(input, weight, bias, scales), expected, { rtol: 1e-3, atol: 1e-2 })).toBe(true);
    });
  });

  test('gives the same bits with two threads, and sums int8 exactly', () => {
    tidy(() => {
      for (const dtype of ['float32', 'bfloat16', 'int8'] as const) {
        const scales = dtype === 'int8' ? ones([2000]) : null;
        for (const count of dtype === 'int8' ? [1] : [1, 3, 12]) {
          const [input, weight] = [randn(count, 300), randn(2000, 300).mul(40).to(dtype)];
          const one = linear(input, weight, null, scales);
          setNumThreads(2);
          const two = linear(input, weight, null, scales);
          setNumThreads(1);
          expect(equal(one, two)).toBe(true);
        }
      }
      const largest = linear(full([1, 8192], 1), full([1, 8192], 127, { dtype: 'int8' }), null, ones([1]));
      expect(largest.item()).toBeCloseTo(127 * 8192, -1);
    });
  });

  test('hands on what is not finite', () => {
    tidy(() => {
      const input = ones([1, 20]);
      for (const value of [NaN, Infinity]) {
        input.narrow(1, 3, 1).fill_(value);
        for (const dtype of ['float32', 'bfloat16', 'int8'] as const)
          expect(
            Number.isFinite(
              linear(input, ones([2, 20]).to(dtype), null, dtype === 'int8' ? ones([2]) : null)
                .sum()
                .item(),
            ),
          ).toBe(false);
      }
    });
  });

  test.each([
    ['float32', 1e-6],
    ['bfloat16', 4e-3],
  ] as const)('multiplies several rows with %s weights of all sizes', (dtype, allowed) => {
    tidy(() => {
      for (const [count, rows, columns] of [
        [2, 1, 1],
        [3, 7, 15],
        [8, 17, 256],
        [9, 33, 300],
        [16, 64, 2048],
        [13, 50, 96],
        [21, 9, 700],
      ] as const) {
        const [input, weight, bias] = [randn(count, columns).to(dtype), randn(rows, columns).to(dtype), randn(rows)];
        const product = linear(input, weight, null, null);
        expect([product.shape, product.dtype]).toEqual([[count, rows], dtype]);
        expect(difference(product, input, weight)).toBeLessThan(allowed);
        const shifted = linear(input.to('float32'), weight, bias, null).sub(bias);
        expect(difference(shifted, input, weight)).toBeLessThan(1e-5);
      }
    });
  });

  test('gives a row the same bits whichever rows are computed with it', () => {
    tidy(() => {
      for (const dtype of ['float32', 'bfloat16'] as const) {
        const [input, weight] = [randn(16, 700).to(dtype), randn(50, 700).to(dtype)];
        const all = linear(input, weight, null, null);
        for (const count of [2, 8, 9])
          expect(equal(linear(input.narrow(0, 3, count), weight, null, null), all.narrow(0, 3, count))).toBe(true);
      }
    });
  });

  test('has no rows, or none of the columns', () => {
    expect(linear(ones([0, 8]), ones([3, 8]), null, null).shape).toEqual([0, 3]);
    for (const count of [1, 2])
      expect(linear(ones([count, 0]), ones([3, 0]), ones([3]), null).tolist()).toEqual(Array(count).fill([1, 1, 1]));
    expect(linear(ones([2, 8]), ones([0, 8]), null, null).shape).toEqual([2, 0]);
  });

  test('refuses what it cannot multiply', () => {
    const [input, weight] = [ones([1, 8]), ones([3, 8])];
    const bytes = weight.to('int8');
    expect(() => linear(input, ones([8]), null, null)).toThrow(/expected rows and a matrix/);
    expect(() => linear(input, ones([3, 7]), null, null)).toThrow(/expected rows and a matrix/);
    expect(() => linear(ones([2, 8]), bytes, null, ones([3]))).toThrow(/one row with int8/);
    expect(() => linear(input, bytes, null, null)).toThrow(/expected scales/);
    expect(() => linear(input, weight, null, ones([3]))).toThrow(/only there/);
    expect(() => linear(input, weight.to('float64'), null, null)).toThrow(/no kernel/);
    expect(() => linear(input, bytes, null, ones([2]))).toThrow(/expected 3 scales/);
    expect(() => linear(input, weight, ones([3], { dtype: 'int64' }), null)).toThrow(/BFloat16/);
  });
});
