/** Values that nest deeper than any stack reaches: an error or a result, never an exhausted stack. */
import { inspect as print } from 'node:util';
import path from 'node:path';
import { expect, it } from 'vitest';
import { inspect } from '../../lib/checkpoint/inspect';
import { CheckpointError } from '../../lib/errors';
import { load, save } from '../../lib/formats/pt';
import { saveSafetensors } from '../../lib/formats/safetensors';
import { GPT } from '../../lib/gpt/gpt';
import { Linear } from '../../lib/nn';
import { Tuple } from '../../lib/pickle/types';
import { tensor, zeros } from '../../lib/tensor/creation';
import { dispose, tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const depth = 250_000;
const file = path.join(sharedTemporaryDirectory(), 'deep.pt');

/** Lists, dicts, plain objects and tuples in turn, around one value. */
function nested(core: unknown): unknown {
  let value = core;
  for (let i = 0; i < depth; i += 4) value = [new Map([['k', { k: Tuple.of(value) }]])];
  return value;
}

function coreOf(value: unknown): unknown {
  let core = value;
  for (;;) {
    if (Array.isArray(core)) core = (core as unknown[])[0];
    else if (core instanceof Map) core = core.get('k');
    else return core;
  }
}

it('is saved, inspected, loaded, printed and freed', { timeout: 240_000 }, async () => {
  const weight = zeros([2]);
  await save(nested(weight), file);
  weight.dispose();
  await expect(load(file)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_LIMIT' });
  expect(String(await inspect(file))).toContain('limits: { memory: ');
  const value = await load(file, { limits: { memory: 2 ** 31 } });
  expect(tidy(() => value)).toBe(value);
  expect(print(value).length).toBeLessThan(10_000);
  const found = coreOf(value) as Tensor;
  expect(found.tolist()).toEqual([0, 0]);
  dispose(value);
  expect(() => found.shape).toThrow(/disposed/);
});

it('is refused where it can be nothing', { timeout: 60_000 }, async () => {
  const value = nested(1);
  expect(() => tensor(value as never)).toThrow(/tensor\(\)/);
  expect(() => tidy(() => new Linear(2, 2).loadStateDict(value as never))).toThrow(/expected a Map/);
  await expect(saveSafetensors({ value } as never, file)).rejects.toThrow(/expected a tensor/);
  await expect(GPT.load(file)).rejects.toBeInstanceOf(CheckpointError);
});
