/**
 * Checkpoints of Hugging Face's Trainer. One Python process trains, waits for what Node writes, and resumes from it.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { inspect } from '../../lib/checkpoint';
import { load } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt/gpt';
import { applyLora } from '../../lib/models';
import { type AnyOptimizer, clipGradNorm_ } from '../../lib/optim';
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
let reference: Record<'batches' | 'loraBatches' | 'logits', Tensor> &
  Record<'losses' | 'loraLosses' | 'sgdLosses' | 'adagradLosses', number[]>;

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
function update(model: GPT, index: number, batches = reference.batches): number {
  const optimizer = model.optimizer!;
  return tidy(() => {
    const batch = batches.select(0, index); // (B, T)
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
function setRate(optimizer: AnyOptimizer, step: number): void {
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

/** A run of Python's Trainer, which continues in Node. */
const runs = {
  plain: { first, options: {}, batches: () => reference.batches, losses: () => reference.losses },
  lora: {
    first: at('lora', 'checkpoint-2'),
    options: { base: at('base') },
    batches: () => reference.loraBatches,
    losses: () => reference.loraLosses,
  },
  sgd: {
    first: at('sgd', 'checkpoint-2'),
    options: {},
    batches: () => reference.batches,
    losses: () => reference.sgdLosses,
  },
  adagrad: {
    first: at('adagrad', 'checkpoint-2'),
    options: {},
    batches: () => reference.batches,
    losses: () => reference.adagradLosses,
  },
};

/** Opens a checkpoint of Trainer, saves it as it is and after two updates, and says where. */
async function goOn(kind: keyof typeof runs): Promise<{ same: string; trained: string }> {
  const { first: source, options, batches, losses } = runs[kind];
  const model = await GPT.load(source, { optimizer: true, ...options });
  const [same, trained] = [at('node', kind, 'same', 'checkpoint-2'), at('node', kind, 'trained', 'checkpoint-4')];
  await model.save(same);
  for (const name of await readdir(source)) {
    // Weights, optimizer and scheduler are compared as values by Python; all else is the same to the byte.
    if (/^(model|adapter_model|optimizer|scheduler)\./.test(name)) continue;
    expect(await readFile(path.join(same, name)), name).toEqual(await readFile(path.join(source, name)));
  }
  expect(await readdir(same)).toEqual(await readdir(source));
  for (const index of [2, 3])
    expect(Math.abs(update(model, index, batches()) - losses()[index]!)).toBeLessThan(TOLERANCE);
  await model.save(trained, { step: 4 });
  model.dispose();
  return { same, trained };
}

test('a checkpoint opens with step and optimizer', async () => {
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
});

test(
  'training continues as in Python, and Trainer resumes what is written back: a model, an adapter of PEFT, SGD and Adagrad',
  async () => {
    const { same, trained } = await goOn('plain');
    const places: Record<string, string> = { same, trained };
    for (const kind of ['lora', 'sgd', 'adagrad'] as const) {
      const other = await goOn(kind);
      places[`${kind}Same`] = other.same;
      places[`${kind}Trained`] = other.trained;
    }
    await writeFile(at('node.tmp'), JSON.stringify(places));
    await rename(at('node.tmp'), at('node.json'));
    const verdicts = JSON.parse(await python) as Record<string, Verdict>;
    expect(Object.keys(verdicts).sort()).toEqual(Object.keys(places).sort());
    for (const [name, same] of Object.entries(verdicts).filter(([kind]) => /same/i.test(kind))) {
      expect(same, name).toMatchObject({ optimizer: 0, scheduler: 0, weights: 0, moments: 0, step: LAST });
      expect(same.losses).toEqual(same.expected);
    }
    for (const [kind, trained] of Object.entries(verdicts).filter(([name]) => /trained/i.test(name))) {
      expect(trained.losses).toHaveLength(2);
      trained.losses.forEach((loss, i) => expect(Math.abs(loss - trained.expected[i]!)).toBeLessThan(TOLERANCE));
      // Adagrad divides the smallest gradients, which are rounding errors, by their own size: far less than one update (1e-3).
      const tolerance = kind.startsWith('adagrad') ? 10 * TOLERANCE : TOLERANCE;
      for (const part of ['optimizer', 'scheduler', 'weights', 'moments'] as const)
        expect(trained[part], `${part} of ${kind}`).toBeLessThan(tolerance);
      expect(trained).toMatchObject({ step: LAST, epochs: [4 / 6, 4 / 6], logged: [1, 2, 5, 6] });
    }
  },
  pythonTimeout,
);

test('a PEFT run of Trainer: its output directory opens, and nothing stale stays next to a new adapter', async () => {
  const output = temporaryDirectory();
  const options = { base: at('base') };
  await cp(at('lora', 'checkpoint-2'), path.join(output, 'checkpoint-2'), { recursive: true });
  await mkdir(path.join(output, 'checkpoint-9'));
  await cp(
    path.join(output, 'checkpoint-2', 'adapter_config.json'),
    path.join(output, 'checkpoint-9', 'adapter_config.json'),
  );
  let model!: GPT;
  const warnings = await warningsOf(async () => {
    model = await GPT.load(output, { ...options, optimizer: true });
  });
  expect(warnings.join()).toMatch(/checkpoint-9 is not complete: it has no model.safetensors.*or adapter_model/);
  expect(model.step).toBe(2);
  expect(model.optimizer!.paramGroups.map(({ params }) => params.length)).toEqual([12, 0]);
  expect(model.origin).toMatchObject({ form: 'hf-trainer', path: path.join(output, 'checkpoint-2') });

  const place = path.join(output, 'checkpoint-2');
  const bare = await GPT.load(place, options);
  expect(bare.step).toBe(2);
  await expect(bare.save(place)).rejects.toThrow(/holds the state of an optimizer/);
  await bare.save(place, { optimizer: null });
  expect((await readdir(place)).sort()).toEqual(['README.md', 'adapter_config.json', 'adapter_model.safetensors']);
  dispose([model, bare]);
});

test("an optimizer that is not of torch.optim is refused by Trainer's name, and the model opens without it", async () => {
  const place = at('adafactor', 'checkpoint-2');
  const refusal = {
    code: 'ERR_TORCHBIND_OPTIMIZER_STATE',
    message: expect.stringContaining("optim='adafactor'") as string,
  };
  await expect(GPT.load(place, { optimizer: true })).rejects.toMatchObject(refusal);
  const model = await GPT.load(place);
  expect(model.step).toBe(2);
  // What the state looks like does not matter: other optimizers write the keys of AdamW, too.
  const mixed = path.join(temporaryDirectory(), 'checkpoint-2');
  await cp(first, mixed, { recursive: true });
  await cp(path.join(place, 'training_args.bin'), path.join(mixed, 'training_args.bin'));
  await expect(GPT.load(mixed, { optimizer: true })).rejects.toMatchObject(refusal);
  model.dispose();
});

test('a model of another origin is not saved next to the moments of a checkpoint', async () => {
  const place = path.join(temporaryDirectory(), 'checkpoint-2');
  await cp(first, place, { recursive: true });
  const before = await Promise.all((await readdir(place)).map((name) => readFile(path.join(place, name))));
  const model = await GPT.load(at('base'));
  await expect(model.save(place)).rejects.toThrow(/optimizer\.pt belongs to other weights/);
  applyLora(model, { rank: 2, alpha: 4 });
  for (const save of [() => model.saveAdapter(place), () => model.save(place)])
    await expect(save()).rejects.toMatchObject({ code: 'ERR_TORCHBIND_SAVE' });
  expect(await Promise.all((await readdir(place)).map((name) => readFile(path.join(place, name))))).toEqual(before);
  await rm(path.join(place, 'optimizer.pt'));
  await model.saveAdapter(place);
  model.dispose();
});

test('inspect finds nothing wrong with a checkpoint of Trainer', async () => {
  for (const directory of [first, at('lora', 'checkpoint-2'), at('lora')]) {
    const { family, problems, step, optimizer, globals } = await inspect(directory, { verify: true });
    expect(problems).toEqual([]);
    expect(family!.name).toBe('hf-gpt2');
    expect(step).toBe(directory === at('lora') ? LAST : 2);
    expect(optimizer!.groups).toHaveLength(2);
    expect(globals.map(({ name }) => name)).toContain('transformers.training_args.TrainingArguments');
  }
});

test('moments that came in bfloat16 go back in bfloat16', async () => {
  const place = path.join(temporaryDirectory(), 'checkpoint-2');
  const model = await GPT.load(at('half', 'checkpoint-2'), { optimizer: true });
  await model.save(place);
  const states = await Promise.all(
    [at('half', 'checkpoint-2'), place].map((directory) => load(path.join(directory, 'optimizer.pt'))),
  );
  const [came, written] = states.map((dict) => (dict as Map<string, Map<number, Map<string, Tensor>>>).get('state')!);
  expect(came!.get(0)!.get('exp_avg')!.dtype).toBe('bfloat16');
  for (const [index, parts] of came!) {
    for (const [name, tensor] of parts) {
      const other = written!.get(index)!.get(name)!;
      expect([name, other.dtype, other.equal(tensor)]).toEqual([name, tensor.dtype, true]);
    }
  }
  await model.save(place, { dtype: 'float32' });
  const wide = (await load(path.join(place, 'optimizer.pt'))) as Map<string, Map<number, Map<string, Tensor>>>;
  expect(wide.get('state')!.get(0)!.get('exp_avg')!.dtype).toBe('float32');
});

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
