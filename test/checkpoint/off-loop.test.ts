/** Loading, saving and comparing let the event loop turn, copy nothing that they need not, and keep the state at the call. */
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { compare } from '../../lib/checkpoint';
import { load, save } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt';
import { native } from '../../lib/native/native';
import { AdamW } from '../../lib/optim';
import { noGrad } from '../../lib/tensor/autograd';
import { full, randint } from '../../lib/tensor/creation';
import { dispose, tidy } from '../../lib/tensor/scope';
import { Tensor } from '../../lib/tensor/tensor';
import { memoryInUse } from '../helpers/garbage';
import { temporaryDirectory } from '../helpers/tmp';

const config = { vocabSize: 11, blockSize: 8, nLayer: 2, nHead: 2, nEmbd: 8, dropout: 0 };

/** A model that was trained for an update, with its optimizer. */
function trained(layout: string): GPT {
  const model = new GPT(config, { layout });
  const optimizer = new AdamW(model.parameters(), { lr: 0.01 });
  tidy(() => {
    const ids = randint(11, [2, 8]);
    model.forward(ids, ids).loss!.backward();
    optimizer.step();
  });
  model.setTraining(optimizer, 1);
  return model;
}

/** Every number of a tree of maps and lists. */
function numbers(tree: unknown): unknown {
  if (tree instanceof Tensor) return [tree.dtype, tree.shape, tree.tolist() as unknown];
  if (tree instanceof Map) return Array.from(tree as Map<unknown, unknown>, ([key, value]) => [key, numbers(value)]);
  return Array.isArray(tree) ? (tree as unknown[]).map((item) => numbers(item)) : tree;
}

function spoil(model: GPT): void {
  noGrad(() => {
    for (const parameter of model.parameters()) parameter.fill_(9);
    for (const values of model.optimizer!.state.values())
      for (const value of values.values()) if (value instanceof Tensor) value.fill_(9);
  });
}

describe.each(['mypt', 'nanogpt', 'hf-gpt2'])('a %s model', (layout) => {
  it('is saved as it was at the call, with its optimizer', async () => {
    const model = trained(layout);
    const [weights, state] = tidy(() => [
      numbers(model.stateDict()),
      numbers(model.optimizerStateDict(model.optimizer!)),
    ]);
    const directory = path.join(temporaryDirectory(), 'model');
    const saving = model.saveCheckpointBundle(directory);
    spoil(model);
    await saving;
    const opened = await GPT.load(directory, { optimizer: true });
    expect(tidy(() => numbers(opened.stateDict()))).toEqual(weights);
    expect(tidy(() => numbers(opened.optimizerStateDict(opened.optimizer!)))).toEqual(state);
    // Each part is a tensor of its own in the file, and shares its memory with no other.
    const inFile = (await load(path.join(directory, 'optimizer.pt'))) as Map<string, Map<unknown, Map<string, Tensor>>>;
    const steps = Array.from(
      inFile.get('state')!.values(),
      (values) => native().storageInfo(values.get('step')!.handle).id,
    );
    expect(new Set(steps).size).toBe(steps.length);
    dispose(inFile);
    for (const used of [model, opened]) used.dispose();
  });

  it('is opened with the tensors of the file where they have its form, and is of nobody else', async () => {
    const model = trained(layout);
    const directory = path.join(temporaryDirectory(), 'model');
    await model.save(directory);
    const entries = model.stateEntries('');
    const before = (await memoryInUse()).numTensors;
    const copy = vi.spyOn(native(), 'copyTensors');
    const [first, second] = [await GPT.load(directory), await GPT.load(directory)];
    const parts = entries.filter(({ part, constant }) => part === true && constant !== true);
    expect(copy.mock.calls.map(([targets]) => targets.length)).toEqual(
      parts.length === 0 ? [] : [parts.length, parts.length],
    );
    copy.mockRestore();
    expect((await memoryInUse()).numTensors).toBe(before + 2 * first.parameters().length);
    noGrad(() => first.parameters().forEach((parameter) => parameter.zero_()));
    const [loaded, saved] = tidy(() => [second, model].map((used) => numbers(used.stateDict()) as [string, unknown][]));
    expect(loaded!.length).toBeGreaterThan(10);
    expect(saved).toEqual(expect.arrayContaining(loaded!));
    for (const used of [model, first, second]) used.dispose();
  });
});

/** How many turns of the event loop an action lets happen. */
async function turnsOf(action: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let timer = setImmediate(function count() {
    turns++;
    timer = setImmediate(count);
  });
  try {
    await action();
    return turns;
  } finally {
    clearImmediate(timer);
  }
}

describe('the event loop turns', () => {
  it('between slices of a large pickle', async () => {
    const file = path.join(temporaryDirectory(), 'many.pt');
    const one = full([1], 1);
    await save(new Map(Array.from({ length: 10_000 }, (_, i) => [`tensor ${i}`, one.view([1])])), file, {
      durable: false,
    });
    let loaded: unknown;
    // A tensor takes some 20 opcodes, of which 8,192 are a slice, and 1,024 tensors are made in one.
    expect(await turnsOf(async () => (loaded = await load(file)))).toBeGreaterThan(30);
    expect((loaded as Map<string, Tensor>).get('tensor 9999')!.tolist()).toEqual([1]);
    dispose([loaded, one]);
  });

  it('while tensors are compared, of which none is computed with on this thread', async () => {
    const [a, b] = [full([3, 5], 2), full([3, 5], 2.5)];
    const [call, measure] = [vi.spyOn(native(), 'call'), vi.spyOn(native(), 'measureDistance')];
    const result = await compare(new Map([['w', a]]), new Map([['w', b]]));
    expect(result.totals).toMatchObject({ elements: 15, equal: false, maxAbs: 0.5 });
    expect([call.mock.calls.length, measure.mock.calls.length]).toEqual([0, 1]);
    call.mockRestore();
    measure.mockRestore();
    dispose([a, b]);
  });
});
