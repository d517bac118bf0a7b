import path from 'node:path';
import { expect } from 'vitest';
import { manualSeed, Tensor, tidy, viewAsReal } from '../../lib/index';
import { pythonJson } from './python';

function describe(value: unknown): unknown {
  if (value instanceof Tensor) {
    const real = value.dtype.startsWith('complex') ? viewAsReal(value.detach()) : value.detach();
    const array = real.contiguous().toTypedArray();
    const bytes = Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('hex');
    return { dtype: value.dtype, shape: value.shape, bytes };
  }
  return Array.isArray(value) ? Array.from(value as unknown[], describe) : value;
}

/**
 * What the Python of a pair gives is what its function gives here, to the bit, each after the same seed.
 *
 * @param setup Python that makes what the expressions use; `torch` and `F`, torch.nn.functional, are there
 */
export async function expectSameAsPython(
  setup: string,
  pairs: readonly (readonly [python: string, here: () => unknown])[],
): Promise<void> {
  const job = JSON.stringify({ setup, expressions: pairs.map(([python]) => python) });
  const expected = await pythonJson<unknown[]>(path.join(__dirname, 'expressions.py'), [], job);
  pairs.forEach(([python, here], i) => {
    tidy(() => {
      manualSeed(0);
      expect([python, describe(here())]).toEqual([python, expected[i]]);
    });
  });
}
