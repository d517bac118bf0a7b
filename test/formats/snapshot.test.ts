/** A save writes what the tensors hold when it is called, whatever the program does to them while the file is written. */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { load, save } from '../../lib/formats/pt';
import { loadSafetensors, saveSafetensors } from '../../lib/formats/safetensors';
import { Parameter } from '../../lib/nn/parameter';
import { AdamW } from '../../lib/optim';
import { noGrad } from '../../lib/tensor/autograd';
import { arange, ones, tensor } from '../../lib/tensor/creation';
import { keep } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { discard, share } from '../../lib/tensor/transfer';
import { memoryInUse } from '../helpers/garbage';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const directory = sharedTemporaryDirectory();
/** Several parts of a file's writer, so that the writing takes turns with the program. */
const size = 6_000_000;

const writers = {
  save: {
    write: (tensors: Map<string, Tensor>, file: string) => save(tensors, file),
    read: async (file: string) => (await load(file)) as Map<string, Tensor>,
  },
  saveSafetensors: {
    write: (tensors: Map<string, Tensor>, file: string) => saveSafetensors(tensors, file),
    read: loadSafetensors,
  },
} as const;

const numbers = (): Tensor => arange(size).to('float32');

/** Tensors by where their memory comes from, and what is written to them afterwards. */
const cases: Record<string, () => Promise<{ x: Tensor; change: () => void }> | { x: Tensor; change: () => void }> = {
  'a tensor, by an operator in place': () => {
    const x = numbers();
    return { x, change: () => x.add_(1) };
  },
  'a tensor, through a view that was taken before': () => {
    const x = numbers();
    const view = x.narrow(0, 100, size - 100);
    return { x, change: () => view.fill_(-1) };
  },
  'a view that is not contiguous': () => {
    const whole = numbers().view([2, size / 2]);
    return { x: whole.t(), change: () => whole.zero_() };
  },
  'a small tensor': () => {
    const x = tensor([1, 2, 3]);
    return { x, change: () => x.mul_(5) };
  },
  'a parameter, by its optimizer': () => {
    const x = new Parameter(numbers());
    const optimizer = new AdamW([x], { lr: 1 });
    x.grad = ones([size]);
    return { x, change: () => optimizer.step() };
  },
  'memory that a typed array has': () => {
    const x = numbers();
    const array = x.toTypedArray({ copy: false }) as Float32Array;
    return { x, change: () => array.fill(-1) };
  },
  'memory that a typed array gets while it is written': () => {
    const x = numbers();
    return { x, change: () => (x.toTypedArray({ copy: false }) as Float32Array).fill(-1) };
  },
  'memory of a mapped file': async () => {
    const file = path.join(directory, 'mapped.pt');
    await save(numbers(), file);
    const x = (await load(file, { mmap: true })) as Tensor;
    return { x, change: () => x.fill_(-1) };
  },
  'memory that another thread has': () => {
    const x = numbers();
    discard(share(x));
    return { x, change: () => x.fill_(-1) };
  },
};

describe.each(Object.keys(writers) as (keyof typeof writers)[])('%s', (writer) => {
  const { write, read } = writers[writer];

  test.each(Object.keys(cases))('%s', async (name) => {
    const { x, change } = await cases[name]!();
    const expected = noGrad(() => x.detach().clone());
    const file = path.join(directory, `${writer}.bin`);
    const writing = write(new Map([['x', x.detach()]]), file);
    noGrad(() => change());
    expect(x.equal(expected)).toBe(false); // the change reaches the tensor
    await writing;
    const read_ = await read(file);
    expect(read_.get('x')!.equal(expected)).toBe(true);
  });

  test('keeps no memory', async () => {
    const x = keep(numbers());
    const file = path.join(directory, 'memory.bin');
    await write(new Map([['x', x]]), file);
    const before = await memoryInUse();
    await write(new Map([['x', x]]), file);
    x.add_(1);
    expect(await memoryInUse()).toEqual(before);
    x.dispose();
  });
});

test('a typed array and its tensor stay one memory after a save', async () => {
  const x = numbers();
  const array = x.toTypedArray({ copy: false }) as Float32Array;
  const writing = save(x, path.join(directory, 'one.pt'));
  x.fill_(7);
  expect(array[size - 1]).toBe(7);
  array[0] = 3;
  expect(x.select(0, 0).item()).toBe(3);
  await writing;
});
