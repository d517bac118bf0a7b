import { describe, expect, test } from 'vitest';
import {
  dispose,
  inferenceMode,
  isGradEnabled,
  keep,
  memory,
  noGrad,
  ones,
  tensor,
  Tensor,
  tidy,
  TorchBindError,
  zeros,
} from '../../lib/index';
import { native } from '../../lib/native/native';

const live = (): number => memory().numTensors;
const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('tidy', () => {
  test('frees all but what it returns, in any shape', () => {
    const before = live();
    const kept = tidy(() => {
      const a = ones(2);
      const b = a.add(1);
      return { a, list: [b, new Map([['c', b.mul(a)]])], text: 'x' };
    });
    expect(live()).toBe(before + 3);
    expect(kept.a.tolist()).toEqual([1, 1]);
    dispose(kept);
    expect(live()).toBe(before);
  });

  test('frees everything when the callback throws', () => {
    const before = live();
    expect(() =>
      tidy(() => {
        ones(2).add(1);
        throw new Error('midway');
      }),
    ).toThrow('midway');
    expect(live()).toBe(before);
  });

  test('nests: what an inner scope returns belongs to the outer one', () => {
    const before = live();
    tidy(() => {
      const inner = tidy(() => ones(2).mul(3));
      expect(inner.tolist()).toEqual([3, 3]);
    });
    expect(live()).toBe(before);
  });

  test('async scopes that interleave never mix', async () => {
    const before = live();
    const run = (n: number): Promise<Tensor> =>
      tidy(async () => {
        const a = ones(1).mul(n);
        await pause();
        const b = tidy(() => a.add(a));
        await pause();
        return b.add(0);
      });
    const results = await Promise.all([run(1), run(2), run(3)]);
    expect(results.map((t) => t.item())).toEqual([2, 4, 6]);
    expect(live()).toBe(before + 3);
    dispose(results);
  });

  test('an async scope does not catch tensors made beside it', async () => {
    const scoped = tidy(async () => {
      await pause();
      return 1;
    });
    const outside = ones(2);
    await scoped;
    expect(outside.isDisposed).toBe(false);
    outside.dispose();
  });

  test('an async rejection frees everything', async () => {
    const before = live();
    await expect(
      tidy(async () => {
        ones(3);
        await pause();
        ones(4);
        throw new Error('late');
      }),
    ).rejects.toThrow('late');
    expect(live()).toBe(before);
  });

  test('of many async scopes that interleave, some fail midway: each frees its own and nothing else', async () => {
    const before = live();
    const run = (n: number): Promise<number> =>
      tidy(async () => {
        const a = ones(1).mul(n);
        for (let i = 0; i < 5; i++) {
          await pause();
          const inner = await tidy(async () => {
            const b = a.add(i);
            await pause();
            if (n % 3 === 0 && i === 2) throw new Error(`run ${n}`);
            return b;
          });
          expect(inner.item()).toBe(n + i);
        }
        return Number(a.item());
      });
    const results = await Promise.allSettled(Array.from({ length: 30 }, (_, n) => run(n)));
    expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(10);
    expect(results[1]).toEqual({ status: 'fulfilled', value: 1 });
    expect(live()).toBe(before);
  });

  test('a generator makes its tensors in the scope of whoever asks for a value', () => {
    const before = live();
    function* squares(): Generator<Tensor> {
      for (let n = 1; ; n++) yield ones(1).mul(n * n);
    }
    const values = squares();
    const first = tidy(() => {
      const kept = values.next().value as Tensor;
      values.next();
      return kept;
    });
    expect(live()).toBe(before + 1);
    expect(first.item()).toBe(1);
    expect(tidy(() => (values.next().value as Tensor).item())).toBe(9);
    expect(live()).toBe(before + 1);
    first.dispose();
  });

  test('an async generator that is left early frees what its scopes made', async () => {
    const before = live();
    async function* numbers(): AsyncGenerator<number> {
      for (let n = 0; ; n++) {
        yield await tidy(async () => {
          const a = ones(2).mul(n);
          await pause();
          return Number(a.sum().item());
        });
      }
    }
    const seen: number[] = [];
    for await (const n of numbers()) {
      seen.push(n);
      if (n >= 4) break;
    }
    expect(seen).toEqual([0, 2, 4]);
    expect(live()).toBe(before);
  });

  test('code that outlives its scope makes tensors in the scope around it', async () => {
    const before = live();
    let late: Promise<Tensor> | undefined;
    await tidy(async () => {
      tidy(() => {
        late = pause().then(() => ones(2));
      });
      const tensor = await late!;
      expect(tensor.tolist()).toEqual([1, 1]);
    });
    expect(live()).toBe(before);
  });

  test('grows beyond its first buffer', () => {
    const before = live();
    tidy(() => {
      const base = ones(1);
      for (let i = 0; i < 1000; i++) base.add(i);
      expect(live()).toBeGreaterThan(before + 999);
    });
    expect(live()).toBe(before);
  });
});

test('keep takes a tensor out of all scopes', () => {
  const kept = tidy(() => {
    const t = keep(ones(2));
    return { value: t.sum().item(), t };
  });
  let second: Tensor | undefined;
  tidy(() => {
    tidy(() => void (second = keep(ones(1))));
  });
  expect(kept.t.isDisposed).toBe(false);
  expect(second!.isDisposed).toBe(false);
  dispose([kept.t, second]);
});

test('views share their storage, which is counted once', () => {
  const before = memory().numBytes;
  tidy(() => {
    const base = tensor(new Float32Array(1000));
    base.view(10, 100).select(0, 1).transpose(0, 0);
    expect(memory().numBytes - before).toBe(4000);
  });
  expect(memory().numBytes).toBe(before);
});

test('V8 hears of a storage once, however many tensors outside scopes view it', () => {
  const reported = (): number => native().memory().reported;
  const before = reported();
  const base = zeros(1024, 1024);
  expect(reported()).toBe(before); // the scope of this test frees it
  keep(base);
  const view = keep(base.view(1024 * 1024));
  const row = keep(base.select(0, 1));
  expect(reported() - before).toBe(4 << 20);
  base.dispose();
  view.dispose();
  expect(reported() - before).toBe(4 << 20);
  row.dispose();
  expect(reported()).toBe(before);
});

test('a view keeps the data when its base is disposed', () => {
  const base = tensor([1, 2, 3, 4]);
  const view = base.slice(0, 1, 3);
  base.dispose();
  expect(view.tolist()).toEqual([2, 3]);
  view.dispose();
});

test('Symbol.dispose frees', () => {
  const t = ones(1);
  t[Symbol.dispose]();
  expect(t.isDisposed).toBe(true);
});

test('grad modes nest, are restored after errors and refuse promises', () => {
  expect(noGrad(() => isGradEnabled())).toBe(false);
  expect(() =>
    noGrad(() => {
      throw new Error('inside');
    }),
  ).toThrow('inside');
  expect(isGradEnabled()).toBe(true);
  expect(() => noGrad(() => Promise.resolve(1))).toThrow(TorchBindError);
  expect(isGradEnabled()).toBe(true);
  const t = ones(1).requiresGrad_();
  expect(noGrad(() => t.mul(2).requiresGrad)).toBe(false);
  expect(inferenceMode(() => t.mul(2)).requiresGrad).toBe(false);
  expect(t.mul(2).requiresGrad).toBe(true);
});
