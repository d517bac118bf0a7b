/** State dicts in the dicts that training scripts save: opened with what is around them, and written back as they were. */
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { load } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt/gpt';
import { inspect } from '../../lib/checkpoint';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const script = path.join(__dirname, 'training-dicts.py');
const directory = sharedTemporaryDirectory();
const at = (name: string): string => path.join(directory, name);

/** Float32: the sides sum in other orders. */
const TOLERANCE = 1e-5;

/** Updates that Python made before it saved. */
const BEFORE = 3;

/** Whether the file holds an optimizer's state, and the key of the step. */
const FORMS: Record<string, { optimizer: boolean; step: boolean }> = {
  'tutorial.pt': { optimizer: true, step: false },
  'imagenet.pth.tar': { optimizer: true, step: false },
  'no-suffix': { optimizer: true, step: true },
  'model-only.pt': { optimizer: false, step: false },
  'mp_rank_00_model_states.pt': { optimizer: false, step: true },
  'last.ckpt': { optimizer: true, step: true },
  'foreign.pt': { optimizer: true, step: true },
  'numpy.pt': { optimizer: true, step: true },
};

interface Verdict {
  keys: string[];
  steps: number | null;
  step: number | null;
  loss: number;
  kept: string;
}

let losses: number[];
let batches: Tensor[];

beforeAll(async () => {
  losses = await pythonJson(script, ['make', directory]);
  batches = ((await load(at('batches.pt'))) as Tensor).unbind(0);
}, pythonTimeout);

const open = (name: string): Promise<GPT> => GPT.load(at(name), { config: { nHead: 2 }, optimizer: true });

function update(model: GPT, batch: Tensor): number {
  return tidy(() => {
    const optimizer = model.optimizer ?? model.makeOptimizer({ lr: 1e-3 });
    const [idx, targets] = batch.unbind(0) as [Tensor, Tensor];
    const { loss } = model.forward(idx, targets);
    optimizer.zeroGrad();
    loss!.backward();
    optimizer.step();
    return Number(loss!.item());
  });
}

describe('a dict around a state dict', () => {
  it.each(Object.keys(FORMS))('%s opens with its optimizer and step, and inspect says the same', async (name) => {
    const before = (await load(at(name), { unknown: 'inert' })) as Map<string, unknown>;
    const model = await open(name);
    expect(model.origin!.form).toBe('training-dict');
    expect(model.optimizer !== undefined).toBe(FORMS[name]!.optimizer);
    expect(model.step).toBe(FORMS[name]!.step ? BEFORE : null);
    const report = await inspect(at(name));
    expect(report.family!.name).toBe('nanogpt');
    expect(report.optimizer !== null).toBe(FORMS[name]!.optimizer);
    expect(report.step).toBe(model.step);
    if (name === 'numpy.pt') expect([model.optimizer!.paramGroups[0]!.lr, model.config.nHead]).toEqual([1e-3, 2]);
    expect(Math.abs(update(model, batches[0]!) - losses[0]!)).toBeLessThan(TOLERANCE);
    await model.save(at(name), model.step === null ? {} : { step: BEFORE + 1 });
    const after = (await load(at(name), { unknown: 'inert' })) as Map<string, unknown>;
    expect([...after.keys()]).toEqual([...before.keys()]);
    model.dispose();
  });

  it(
    'is resumed by Python from what was saved over it',
    async () => {
      const verdicts = await pythonJson<Record<string, Verdict>>(script, ['judge', directory]);
      for (const [name, { optimizer, step }] of Object.entries(FORMS)) {
        const verdict = verdicts[name]!;
        expect([name, verdict.steps, verdict.step]).toEqual([
          name,
          optimizer ? BEFORE + 1 : null,
          step ? BEFORE + 1 : null,
        ]);
        if (optimizer) expect(Math.abs(verdict.loss - losses[1]!), name).toBeLessThan(TOLERANCE);
      }
      expect(verdicts['foreign.pt']!.kept).toBe("[PurePosixPath('a'), Namespace(lr=0.001), datetime.date(2024, 1, 1)]");
    },
    pythonTimeout,
  );

  it('names the optimizers that it leaves out, and is not saved over them', async () => {
    const warnings: string[] = [];
    const listen = (warning: Error): number => warnings.push(warning.message);
    process.on('warning', listen);
    try {
      const model = await open('two-optimizers.pt');
      await new Promise((resolve) => setImmediate(resolve));
      expect(warnings.join()).toMatch(/state of the optimizer under 'optimizer' was left out: .* a list of 2/);
      await expect(model.save(at('two-optimizers.pt'))).rejects.toThrow(/holds the state of an optimizer/);
    } finally {
      process.off('warning', listen);
    }
  });

  it("is refused by { unknown: 'refuse' } with an object of a foreign class", async () => {
    await expect(GPT.load(at('foreign.pt'), { unknown: 'refuse' })).rejects.toThrow(/pathlib\.PurePosixPath/);
  });

  it('names the class of a module that was pickled whole', async () => {
    await expect(GPT.load(at('module.pt'))).rejects.toThrow(
      /module\.pt: expected a dict, got a pickled torch\.nn\.modules\.linear\.Linear.*state_dict\(\)/,
    );
  });
});
