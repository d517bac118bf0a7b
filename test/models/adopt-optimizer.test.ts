/** Optimizer state that nobody else holds is taken over off the event loop, and is what `resumeOptimizer` makes of it. */
import { describe, expect, test } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { adoptOptimizer } from '../../lib/models/optimizers';
import { native } from '../../lib/native/native';
import { tensor } from '../../lib/tensor/creation';
import { dispose, memory } from '../../lib/tensor/scope';
import { Tensor } from '../../lib/tensor/tensor';
import { expectSameBits } from '../helpers/tensors';

type State = Map<number, Map<string, unknown>>;

const config = { vocabSize: 5, blockSize: 4, nEmbd: 4, nHead: 2, nLayer: 2, bias: true };
const stateOf = (file: Map<string, unknown>): State => file.get('state') as State;

/** A model, and what the optimizer of its family's program writes after an update. */
function trained(layout: string): { model: GPT; file: Map<string, unknown> } {
  const model = new GPT(config, { layout });
  const optimizer = model.makeOptimizer();
  const idx = tensor([[0, 1, 2, 3]]);
  model.eval().forward(idx, idx).loss!.backward();
  optimizer.step();
  return { model, file: ownCopy(model.optimizerStateDict(optimizer)) };
}

/** A state dict with tensors of its own, as reading a file makes it. */
function ownCopy(file: Map<string, unknown>): Map<string, unknown> {
  const state = Array.from(stateOf(file), ([index, values]) => {
    const own = Array.from(values, ([key, value]) => [key, value instanceof Tensor ? value.clone() : value] as const);
    return [index, new Map<string, unknown>(own)] as const;
  });
  return new Map<string, unknown>([...file, ['state', new Map(state)]]);
}

const storageOf = (value: unknown): number => native().storageInfo((value as Tensor).handle).id;

describe('adoptOptimizer', () => {
  test.each(['mypt', 'nanogpt', 'hf-gpt2', 'mingpt'])(
    'gives the state that resumeOptimizer gives: %s',
    async (layout) => {
      const { model, file } = trained(layout);
      const expected = model.optimizerStateDict(model.resumeOptimizer(file));
      const copy = ownCopy(file);
      const got = model.optimizerStateDict(await adoptOptimizer(model, copy));
      expect(got.get('param_groups')).toEqual(expected.get('param_groups'));
      expect([...stateOf(got).keys()]).toEqual([...stateOf(expected).keys()]);
      for (const [index, values] of stateOf(expected))
        for (const [key, value] of values)
          expectSameBits(stateOf(got).get(index)!.get(key) as Tensor, value as Tensor, `${index} ${key}`);
    },
  );

  test('takes over the memory of what it can keep', async () => {
    const { model, file } = trained('nanogpt');
    const before = new Set([...stateOf(file).values()].map((values) => storageOf(values.get('exp_avg'))));
    const optimizer = await adoptOptimizer(model, file);
    const after = [...optimizer.state.values()].map((values) => storageOf(values.get('exp_avg')));
    expect(after.filter((id) => before.has(id)).length).toBe(after.length);
  });

  test('copies what parameters share, and views of larger storages', async () => {
    const { model, file } = trained('nanogpt');
    const [a, b] = [...stateOf(file).values()].filter((values) => (values.get('exp_avg') as Tensor).ndim === 1);
    b!.set('exp_avg', a!.get('exp_avg'));
    const wide = (a!.get('exp_avg_sq') as Tensor).repeat([2]);
    a!.set('exp_avg_sq', wide.narrow(0, 0, wide.size(0) / 2));
    const expected = model.optimizerStateDict(model.resumeOptimizer(file));
    const optimizer = await adoptOptimizer(model, file);
    const got = model.optimizerStateDict(optimizer);
    for (const [index, values] of stateOf(expected))
      for (const [key, value] of values)
        expectSameBits(stateOf(got).get(index)!.get(key) as Tensor, value as Tensor, `${index} ${key}`);
    const storages = [...optimizer.state.values()].flatMap((values) => [...values.values()].map(storageOf));
    expect(new Set(storages).size).toBe(storages.length);
  });

  test.each(['mypt', 'nanogpt'])('leaves no tensor behind: %s', async (layout) => {
    const { model, file } = trained(layout);
    const first = await adoptOptimizer(model, ownCopy(file));
    const count = memory().numTensors;
    const copy = ownCopy(file);
    const second = await adoptOptimizer(model, copy);
    dispose([copy, first.state]);
    expect(memory().numTensors).toBe(count);
    expect(second.state.size).toBe(first.state.size);
  });

  test('changes nothing where the state does not fit', async () => {
    const { model, file } = trained('mypt');
    stateOf(file).get(0)!.delete('exp_avg');
    await expect(adoptOptimizer(model, file)).rejects.toThrow(/lacks 'exp_avg'/);
    expect(stateOf(file).get(1)!.get('exp_avg')).toSatisfy((value: Tensor) => !value.isDisposed);
  });
});
