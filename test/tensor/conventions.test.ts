/** What PyTorch's own operator samples (test/oracle) found to be different here. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { arange, full, grad, linspace, save, tensor, zeros } from '../../lib/index';

const refused = expect.objectContaining({ code: 'ERR_TORCHBIND_INVALID_ARGUMENT' }) as Error;

test('a gradient of zeros that take no memory has values', () => {
  const x = tensor([1.5, -2, 0], { requiresGrad: true });
  const [gradient] = grad(x.sgn().sum(), x);
  expect(gradient!.tolist()).toEqual([0, 0, 0]);
  x.sgn().sum().backward();
  expect(x.grad!.toString()).toBe('tensor([0., 0., 0.])');
});

test('zeros that take no memory are refused by save, as in Python; a clone is saved', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-zeros-'));
  try {
    const x = tensor([1.5, -2], { requiresGrad: true });
    const [gradient] = grad(x.sgn().sum(), x);
    const unsupported = expect.objectContaining({ code: 'ERR_TORCHBIND_UNSUPPORTED' }) as Error;
    await expect(save([gradient!], path.join(directory, 'a.pt'))).rejects.toThrow(unsupported);
    await save([gradient!.clone()], path.join(directory, 'b.pt'));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('one number is a count of parts where an overload takes a count, and a list elsewhere', () => {
  const x = arange(6);
  expect(x.hsplit(2).map((part) => part.tolist())).toEqual([
    [0, 1, 2],
    [3, 4, 5],
  ]);
  expect(x.hsplit([2]).map((part) => part.tolist())).toEqual([
    [0, 1],
    [2, 3, 4, 5],
  ]);
  expect(x.view(6).shape).toEqual([6]);
  expect(x.flip(0).tolist()).toEqual([5, 4, 3, 2, 1, 0]);
});

test('linspace takes tensors of one value for its bounds', () => {
  expect(linspace(tensor(1.5), 3, 4).tolist()).toEqual([1.5, 2, 2.5, 3]);
  expect(linspace(0, tensor(1), 3, { dtype: 'float64', requiresGrad: true }).requiresGrad).toBe(true);
});

test('a tensor in the place of a number is refused and never read as NaN', () => {
  expect(() => full([2], tensor(3) as unknown as number)).toThrow(refused);
  expect(() => full([2], tensor(3) as unknown as number)).toThrow("'fill_value', got a Tensor");
});

test('conversions to one dtype take a memory format', () => {
  const x = zeros(1, 2, 3, 4);
  expect(x.double({ memoryFormat: 'channels_last' }).strides()).toEqual([24, 1, 8, 2]);
  expect(() => x.half({ memoryformat: 'channels_last' } as object)).toThrow("Did you mean 'memoryFormat'?");
});
