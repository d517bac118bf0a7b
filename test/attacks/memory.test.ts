/** Memory of small files that ask for much. All of them, and their times: `npm run hostile -- --bombs`. */
import path from 'node:path';
import { expect, it } from 'vitest';
import { load } from '../../lib/formats/pt';
import { CheckpointError } from '../../lib/errors';
import { loadSafetensors } from '../../lib/formats/safetensors';
import { inspect } from '../../lib/checkpoint/inspect';
import { memory } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { bytes, checkpoint, op, pickle, safetensorsFile } from './assemble';
import { bombs, storages, tensorsWithStorages } from './bombs';
import { canMeasure, runBombs } from './detonate';
import { writeFileSync } from 'node:fs';

const file = path.join(sharedTemporaryDirectory(), 'bomb');

/** One for each way to ask for much; the script has all. */
const chosen = [
  'nested lists',
  'memo that is recalled',
  'counters of a dict',
  'keys of a long tuple',
  'tensors',
  'safetensors, metadata',
];

it.each(chosen)(
  '%s: opened, mapped and inspected, with one class of errors',
  async (name) => {
    writeFileSync(file, bombs[name]!());
    const before = memory();
    for (const open of [() => load(file), () => load(file, { mmap: true }), () => inspect(file)]) {
      const outcome: unknown = await open().catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome).toBeInstanceOf(CheckpointError);
    }
    expect(memory()).toEqual(before);
  },
  60_000,
);

it.runIf(canMeasure())(
  'nothing takes more than its size and 64 MB',
  async () => {
    const names = ['empty dicts', 'counters of a dict', 'deflated zeros', storages];
    for await (const { name, overMb, allowedMb, outcome } of runBombs({ names, modes: ['read'] })) {
      expect(outcome, name).toBe(name === storages ? 'loaded' : 'ERR_TORCHBIND_CHECKPOINT_LIMIT');
      expect(overMb, name).toBeLessThan(allowedMb);
    }
  },
  120_000,
);

it('tensors with storages of their own load in any number, unless a limit is asked for', async () => {
  writeFileSync(file, tensorsWithStorages(40_000));
  await expect(load(file, { limits: { memory: 2 ** 24 } })).rejects.toMatchObject({
    code: 'ERR_TORCHBIND_CHECKPOINT_LIMIT',
  });
  const loaded = (await load(file)) as Tensor[];
  expect(loaded).toHaveLength(40_000);
  expect([...Array(5).keys()].map((i) => loaded[i * 9973]!.item())).toEqual([0, 245, 234, 223, 212]);
  for (const tensor of loaded) tensor.dispose();
}, 60_000);

it('limits allow more to who trusts the file', async () => {
  writeFileSync(file, checkpoint(pickle('](', ']'.repeat(500_000), 'e')));
  await expect(load(file)).rejects.toMatchObject({
    code: 'ERR_TORCHBIND_CHECKPOINT_LIMIT',
    message: /limits: \{ memory: \d+ \}/,
    record: 'data.pkl',
  });
  expect(await load(file, { limits: { memory: 2 ** 28 } })).toHaveLength(500_000);
  await expect(load(file, { limits: { memory: '1' as never } })).rejects.toThrow('expected a number of bytes');
  await expect(load(file, { limits: { memroy: 1 } as never })).rejects.toThrow("Did you mean 'memory'?");
});

it('limits of safetensors', async () => {
  const entry = (i: number): string => `"${i}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`;
  writeFileSync(file, safetensorsFile(`{${Array.from({ length: 100 }, (_, i) => entry(i)).join()}}`));
  await expect(loadSafetensors(file, { limits: { memory: 1000 } })).rejects.toMatchObject({
    code: 'ERR_TORCHBIND_CHECKPOINT_LIMIT',
  });
  const tensors = await loadSafetensors(file);
  expect(tensors.size).toBe(100);
  for (const tensor of tensors.values()) tensor.dispose();
});

it('a vocabulary of 100,000 tokens and the state of 10,000 parameters are honest', async () => {
  const vocabulary = bytes(
    '}(',
    ...Array.from({ length: 100_000 }, (_, i) => bytes(op.text(`token ${i}`), op.int(i))),
    'u',
  );
  writeFileSync(file, checkpoint(pickle(vocabulary)));
  expect(await load(file)).toHaveProperty('size', 100_000);
  const group = (i: number): Buffer =>
    bytes(op.int(i), '}(', op.text('step'), 'G?\xf0\0\0\0\0\0\0', op.text('exp_avg'), op.list('N', 'N'), 'u');
  writeFileSync(file, checkpoint(pickle('}(', ...Array.from({ length: 10_000 }, (_, i) => group(i)), 'u')));
  expect(await load(file)).toHaveProperty('size', 10_000);
});
