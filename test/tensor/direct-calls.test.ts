/** Operators of common signatures go another way than the rest: what that way must not lose. */
import { describe, expect, test } from 'vitest';
import { add, enableGrad, full, mul, ones, tensor, tidy, zeros } from '../../lib/index';

const codeOf = (run: () => unknown): unknown => {
  try {
    run();
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
  return undefined;
};

describe('arguments', () => {
  test('a disposed tensor on either side is refused by name', () => {
    const [a, gone] = [ones([2]), ones([2])];
    gone.dispose();
    expect(() => a.add(gone)).toThrow(/other: the tensor was disposed/);
    expect(() => gone.add(a)).toThrow(/self: the tensor was disposed/);
    expect(() => gone.view(2)).toThrow(/disposed/);
    expect(() => gone.sum()).toThrow(/disposed/);
    expect(codeOf(() => gone.mul(2))).toBe('ERR_TORCHBIND_DISPOSED');
  });

  test('a tensor whose scope has ended is refused', () => {
    let left = ones([2]);
    tidy(() => {
      left = ones([2]);
    });
    expect(codeOf(() => ones([2]).add(left))).toBe('ERR_TORCHBIND_DISPOSED');
  });

  test('numbers are ints or floats as elsewhere', () => {
    const x = tensor([1, 2]);
    expect(x.mul(2).dtype).toBe('int64');
    expect(x.mul(2.5).dtype).toBe('float32');
    expect(x.mul(-0).dtype).toBe('float32');
    expect(x.mul(2 ** 53).dtype).toBe('float32');
    expect(x.mul(Infinity).tolist()).toEqual([Infinity, Infinity]);
    expect(x.add(NaN).tolist()).toEqual([NaN, NaN]);
    expect(x.mul(3n).tolist()).toEqual([3, 6]);
    expect(x.mul(true).tolist()).toEqual([1, 2]);
  });

  test('sizes as a list, as numbers, or none', () => {
    const x = ones([2, 3]);
    expect(x.view([3, 2]).shape).toEqual([3, 2]);
    expect(x.view(-1).shape).toEqual([6]);
    expect(ones([1]).view([]).shape).toEqual([]);
  });

  test('wrong sizes say what is wrong', () => {
    const x = ones([2, 3]);
    expect(() => x.view(4, 2)).toThrow(/invalid for input of size 6/);
    expect(() => x.view([2, 1.5])).toThrow();
    expect(() => x.view([2, NaN])).toThrow();
    expect(() => x.view([3, undefined as unknown as number])).toThrow();
    expect(x.view([1, 1, 1, 1, 1, 1, 1, 1, 2, 3]).ndim).toBe(10);
    expect(x.permute(1, 0).shape).toEqual([3, 2]);
  });
});

describe('autograd', () => {
  test('what does not require a gradient gives a leaf that may come to', () => {
    const sum = add(ones([2]), ones([2]));
    expect([sum.isLeaf, sum.requiresGrad]).toEqual([true, false]);
    sum.requiresGrad = true;
    sum.mul(3).sum().backward();
    expect(sum.grad!.tolist()).toEqual([3, 3]);
  });

  test('one argument that requires a gradient is enough, on either side', () => {
    const w = full([2], 2, { dtype: 'float32', requiresGrad: true });
    mul(ones([2]), w)
      .sum()
      .backward();
    w.mul(ones([2]))
      .sum()
      .backward();
    expect(w.grad!.tolist()).toEqual([2, 2]);
  });

  test('a change in place of a view reaches the tensor that an operator made', () => {
    const w = full([2], 5, { dtype: 'float32', requiresGrad: true });
    const made = zeros([4]).add(1);
    made.view(2, 2).select(0, 0).mul_(w);
    expect(made.requiresGrad).toBe(true);
    made.sum().backward();
    expect(w.grad!.tolist()).toEqual([1, 1]);
  });

  test('what was saved for the backward pass may not change', () => {
    const w = full([2], 5, { dtype: 'float32', requiresGrad: true });
    const made = ones([2]).add(1);
    const loss = made.mul(w).sum();
    made.add_(1);
    expect(() => loss.backward()).toThrow(/modified by an inplace operation/);
  });

  test('the way below autograd ends with the call', () => {
    ones([2]).add(ones([2]));
    expect(() => ones([2]).add(ones([3]))).toThrow(/must match/);
    const w = ones([2], { requiresGrad: true });
    expect(enableGrad(() => w.add(1)).requiresGrad).toBe(true);
  });
});
