/**
 * Checkpoints whose optimizer is not AdamW. One Python process trains with each class, and continues from what Node writes.
 */
import { existsSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TokenStream } from '../../lib/data';
import { load, save } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt/gpt';
import { noGrad } from '../../lib/tensor/autograd';
import { dispose, tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonTimeout, runPython } from '../helpers/python';
import { expectClose } from '../helpers/tensors';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

/** Python computes with its default kernels here, Node with the fused ones. */
const TOLERANCE = 1e-6;
const classes = { adamw: 'AdamW', adam: 'Adam', amsgrad: 'Adam', sgd: 'SGD', momentum: 'SGD', adagrad: 'Adagrad' };
const others = ['RMSprop', 'Adamax', 'Adadelta', 'RAdam', 'NAdam', 'Adafactor'];
const kinds = ['nano', 'bundle'] as const;

const directory = sharedTemporaryDirectory();
const at = (...names: string[]): string => path.join(directory, ...names);
let python: Promise<string>;
let reference: { batches: Tensor; weights: Map<string, Map<string, Tensor>> };

beforeAll(async () => {
  python = runPython(path.join(__dirname, 'optimizers.py'), [directory]);
  let failed = false;
  python.catch(() => (failed = true));
  while (!existsSync(at('ready')) && !failed) await sleep(50);
  if (failed) await python;
  reference = Object.fromEntries((await load(at('reference.pt'))) as Map<string, unknown>) as never;
}, pythonTimeout);

/** Ends the Python process, whatever became of the tests. */
afterAll(async () => {
  if (!existsSync(at('node.json'))) await writeFile(at('node.json'), '{}');
  await python.catch(() => undefined);
}, pythonTimeout);

function update(model: GPT, index: number): void {
  tidy(() => {
    const batch = reference.batches.select(0, index); // (2, B, T)
    model.optimizer!.zeroGrad();
    model.forward(batch.select(0, 0), batch.select(0, 1)).loss!.backward();
    model.optimizer!.step();
  });
}

test(
  'each class resumes by its own rule, and Python resumes what is written back',
  async () => {
    const places: Record<string, string> = {};
    for (const [name, constructor] of Object.entries(classes)) {
      for (const kind of kinds) {
        const model = await GPT.load(at(name, kind), { optimizer: true });
        expect(model.optimizer!.constructor.name, name).toBe(constructor);
        update(model, 2);
        const expected = reference.weights.get(`${name}/${kind}`)!;
        const weights = noGrad(() => model.stateDict()) as Map<string, Tensor>;
        for (const [key, tensor] of expected)
          expectClose(weights.get(key)!, tensor, TOLERANCE, `${name} ${kind} ${key}`);
        dispose(weights);
        const place = at('node', name, kind);
        await mkdir(place, { recursive: true });
        places[`${name}/${kind}`] = place;
        if (kind === 'nano') await model.save(path.join(place, 'ckpt.pt'), { step: 3 });
        else await model.saveCheckpointBundle(place, { step: 3, keep: null });
        model.dispose();
      }
    }
    await writeFile(at('node.tmp'), JSON.stringify(places));
    await rename(at('node.tmp'), at('node.json'));
    const verdicts = JSON.parse(await python) as Record<string, number>;
    expect(Object.keys(verdicts)).toHaveLength(Object.keys(classes).length * kinds.length);
    for (const [name, difference] of Object.entries(verdicts)) expect(difference, name).toBeLessThan(2 * TOLERANCE);
  },
  pythonTimeout,
);

test('fit continues with the class that the file has', async () => {
  const model = await GPT.load(at('momentum', 'nano'), { optimizer: true });
  const { optimizer } = model;
  const data = new TokenStream(Int32Array.from({ length: 200 }, (_, i) => i % 19));
  const result = await model.fit({ data, maxSteps: 2, batchSize: 2, evalInterval: 0 });
  expect(result.step).toBe(4);
  expect(model.optimizer).toBe(optimizer);
});

test.each(others)('the state of %s is refused by name', async (name) => {
  for (const kind of kinds) {
    await expect(GPT.load(at(name, kind), { optimizer: true })).rejects.toMatchObject({
      code: 'ERR_TORCHBIND_OPTIMIZER_STATE',
      message: expect.stringContaining(
        `expected the state of AdamW, Adam, Adagrad, SGD, got one of ${name}: groups with`,
      ) as unknown,
    });
    (await GPT.load(at(name, kind))).dispose(); // without its optimizer
  }
});

describe('a state that is not whole is noticed at opening, with parameter and part', () => {
  type State = Map<number, Map<string, unknown>>;
  const broken: [string, (state: State) => void, RegExp][] = [
    [
      'a missing part',
      (state) => void state.get(1)!.delete('exp_avg_sq'),
      /state of transformer\.wpe\.weight lacks 'exp_avg_sq'/,
    ],
    ['no step', (state) => void state.get(0)!.delete('step'), /state of transformer\.wte\.weight lacks 'step'/],
    [
      'another shape',
      (state) => void state.get(1)!.set('exp_avg', state.get(0)!.get('exp_avg')),
      /exp_avg for transformer\.wpe\.weight has shape/,
    ],
    [
      'integers',
      (state) => void state.get(1)!.set('exp_avg', (state.get(1)!.get('exp_avg') as Tensor).to('int64')),
      /floating-point numbers for 'exp_avg' of transformer\.wpe\.weight, got int64/,
    ],
    [
      'text as a step',
      (state) => void state.get(1)!.set('step', 'two'),
      /number of updates for 'step' of transformer\.wpe\.weight/,
    ],
  ];
  test.each(broken)('%s', async (_, damage, message) => {
    const file = path.join(temporaryDirectory(), 'ckpt.pt');
    const checkpoint = (await load(at('adamw', 'nano', 'ckpt.pt'), { exact: true })) as Map<string, Map<string, State>>;
    damage(checkpoint.get('optimizer')!.get('state')!);
    await save(checkpoint, file);
    await expect(GPT.load(file, { optimizer: true })).rejects.toMatchObject({
      code: 'ERR_TORCHBIND_OPTIMIZER_STATE',
      message: expect.stringMatching(message) as unknown,
    });
  });
});
