/**
 * Checkpoints of Hugging Face's Trainer. One Python process trains, waits for what Node writes, and resumes from it.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { load } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt/gpt';
import { type AdamW, clipGradNorm_ } from '../../lib/optim';
import { linear } from '../../lib/optim/schedulers';
import { noGrad } from '../../lib/tensor/autograd';
import { dispose, tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonTimeout, runPython } from '../helpers/python';
import { expectClose } from '../helpers/tensors';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

/** Float32: the sides sum in other orders (SDPA, fused kernels). */
const TOLERANCE = 1e-5;
const LEARNING_RATE = 1e-3;
const LAST = 6;

const directory = sharedTemporaryDirectory();
const at = (...names: string[]): string => path.join(directory, ...names);
const first = at('python', 'checkpoint-2');

let python: Promise<string>;
let reference: { batches: Tensor; losses: number[]; logits: Tensor };

beforeAll(async () => {
  python = runPython(path.join(__dirname, 'families/trainer.py'), [directory]);
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

/** An update as Trainer makes it: labels shifted, gradients clipped, the rate falling to zero. */
function update(model: GPT, index: number): number {
  const optimizer = model.optimizer as AdamW;
  return tidy(() => {
    const batch = reference.batches.select(0, index); // (B, T)
    const { loss } = model.forward(batch.narrow(1, 0, 7), batch.narrow(1, 1, 7));
    optimizer.zeroGrad();
    loss!.backward();
    clipGradNorm_(model.parameters(), 1);
    optimizer.step();
    setRate(optimizer, index + 1);
    return Number(loss!.item());
  });
}

/** Trainer saves the rate of the next update. */
function setRate(optimizer: AdamW, step: number): void {
  for (const group of optimizer.paramGroups) group.lr = LEARNING_RATE * linear({ steps: LAST })(step);
}

interface Verdict {
  losses: number[];
  expected: number[];
  step: number;
  epochs: [number, number];
  logged: number[];
  scheduler: number;
  optimizer: number;
  weights: number;
  moments: number;
}

test(
  'opens with step and optimizer, trains as Trainer does, and Trainer goes on from what is written back',
  async () => {
    const model = await GPT.load(first, { optimizer: true });
    expect(model.origin).toMatchObject({ form: 'hf-trainer', layout: 'hf-gpt2', path: first });
    expect(model.origin!.saw[0]).toBe('a trainer_state.json of global_step 2');
    expect(model.step).toBe(2);
    expectClose(
      noGrad(() => model.forward(reference.batches.select(0, 2)).logits),
      reference.logits,
      TOLERANCE,
      'logits',
    );

    await model.save(at('node', 'same', 'checkpoint-2'));
    for (const name of await readdir(first)) {
      // Weights, optimizer and scheduler are compared as values by Python; all else is the same to the byte.
      if (/^(model|optimizer|scheduler)\./.test(name)) continue;
      expect(await readFile(at('node', 'same', 'checkpoint-2', name)), name).toEqual(
        await readFile(path.join(first, name)),
      );
    }
    expect(await readdir(at('node', 'same', 'checkpoint-2'))).toEqual(await readdir(first));

    const losses = [2, 3].map((index) => update(model, index));
    losses.forEach((loss, i) => expect(Math.abs(loss - reference.losses[2 + i]!)).toBeLessThan(TOLERANCE));
    await model.save(at('node', 'trained', 'checkpoint-4'), { step: 4 });
    model.dispose();

    const places = { same: at('node', 'same', 'checkpoint-2'), trained: at('node', 'trained', 'checkpoint-4') };
    await writeFile(at('node.tmp'), JSON.stringify(places));
    await rename(at('node.tmp'), at('node.json'));
    const { same, trained } = JSON.parse(await python) as Record<'same' | 'trained', Verdict>;
    expect(same).toMatchObject({ optimizer: 0, scheduler: 0, weights: 0, moments: 0, step: LAST });
    expect(same.losses).toEqual(same.expected);
    expect(trained.losses).toHaveLength(2);
    trained.losses.forEach((loss, i) => expect(Math.abs(loss - trained.expected[i]!)).toBeLessThan(TOLERANCE));
    for (const part of ['optimizer', 'scheduler', 'weights', 'moments'] as const)
      expect(trained[part], part).toBeLessThan(TOLERANCE);
    expect(trained).toMatchObject({ step: LAST, epochs: [4 / 6, 4 / 6], logged: [1, 2, 5, 6] });
  },
  pythonTimeout,
);

async function warningsOf(run: () => Promise<void>): Promise<string[]> {
  const warnings: string[] = [];
  const note = ({ message }: Error): void => void warnings.push(message);
  process.on('warning', note);
  try {
    await run();
    await sleep(0);
  } finally {
    process.off('warning', note);
  }
  return warnings;
}

test("Trainer's output directory opens at its last complete checkpoint, which is named", async () => {
  const output = temporaryDirectory();
  const copy = (name: string): Promise<void> => cp(first, path.join(output, name), { recursive: true });
  await copy('checkpoint-2');
  const open = async (): Promise<string> => {
    const model = await GPT.load(output, { optimizer: true });
    expect(model.step).toBe(2);
    return path.basename(model.origin!.path);
  };
  expect(await warningsOf(async () => expect(await open()).toBe('checkpoint-2'))).toEqual([]);
  for (const name of ['checkpoint-10', 'checkpoint-20', 'checkpoint-30', 'checkpoint-x']) await copy(name);
  await rm(path.join(output, 'checkpoint-10', 'trainer_state.json'));
  await rm(path.join(output, 'checkpoint-20', 'model.safetensors'));
  await writeFile(path.join(output, 'checkpoint-30', 'trainer_state.json'), '{"global_step": 30, "log_hi');
  const [warning] = await warningsOf(async () => expect(await open()).toBe('checkpoint-2'));
  expect(warning).toMatch(
    /checkpoint-30.*not valid JSON.*checkpoint-20 is not complete: .*no model.*checkpoint-10 .*no trainer_state.json.*Opened .*checkpoint-2 instead/s,
  );
  await rename(path.join(output, 'checkpoint-2'), path.join(output, '.checkpoint-2.replaced'));
  await warningsOf(async () => expect(await open()).toBe('.checkpoint-2.replaced'));
  await rm(path.join(output, '.checkpoint-2.replaced'), { recursive: true });
  await expect(GPT.load(output)).rejects.toThrow(/checkpoint-30.*not valid JSON/);
});

test('a checkpoint is replaced whole: what is not of Trainer stays, and a save that fails leaves the old one', async () => {
  const output = temporaryDirectory();
  const place = path.join(output, 'checkpoint-2');
  await cp(first, place, { recursive: true });
  await mkdir(path.join(place, 'runs'));
  await writeFile(path.join(place, 'notes.txt'), 'mine');
  const before = (await readdir(place)).sort();
  const model = await GPT.load(place, { optimizer: true });
  await model.save(place);
  expect((await readdir(place)).sort()).toEqual(before);
  expect(await readdir(output)).toEqual(['checkpoint-2']);

  await writeFile(path.join(place, 'trainer_state.json'), '{"global_step": 2}');
  const minified = await GPT.load(place, { optimizer: true });
  await expect(minified.save(place, { step: 3 })).rejects.toThrow(/each field on a line of its own/);
  expect(await readdir(output)).toEqual(['checkpoint-2']);
  expect((await GPT.load(place)).step).toBe(2);

  await model.save(output, { step: 5 });
  expect((await readdir(output)).sort()).toEqual(['checkpoint-2', 'checkpoint-5']);
  expect((await GPT.load(output)).step).toBe(5);
  dispose([model, minified]);
});

test('bare NaN in the log is read and kept; without an optimizer the model alone is written', async () => {
  const place = path.join(temporaryDirectory(), 'checkpoint-2');
  await cp(first, place, { recursive: true });
  const file = path.join(place, 'trainer_state.json');
  const text = (await readFile(file, 'utf8')).replace(/"grad_norm": [\d.]+/, '"grad_norm": NaN');
  await writeFile(file, text);
  const model = await GPT.load(place, { optimizer: true });
  await model.save(place, { step: 7 });
  const changed = text
    .replace('"global_step": 2', '"global_step": 7')
    .replace(/^ {2}"epoch": .*,/m, '  "epoch": 1.1666666666666665,');
  expect(await readFile(file, 'utf8')).toBe(changed);
  const scheduler = (await load(path.join(place, 'scheduler.pt'))) as Map<string, unknown>;
  expect([scheduler.get('last_epoch'), scheduler.get('_step_count')]).toEqual([7, 8]);

  const bare = await GPT.load(place);
  await expect(bare.save(place)).rejects.toThrow(/holds the state of an optimizer/);
  await bare.save(place, { optimizer: null });
  expect((await readdir(place)).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors']);
  expect((await GPT.load(place)).origin!.form).toBe('hf-gpt2');
});
