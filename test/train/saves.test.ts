/** Saves while a model trains: each is of one whole update, and says which; and the callbacks of `fit` are awaited. */
import { existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CheckpointManager, GPT } from '../../lib/gpt';
import type { FitOptions } from '../../lib';
import { load, save } from '../../lib/formats/pt';
import { saveSafetensors, loadSafetensors } from '../../lib/formats/safetensors';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { dispose, tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { CharTokenizer } from '../../lib/tokenizers';
import { temporaryDirectory } from '../helpers/tmp';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);
const options: FitOptions = { text, batchSize: 2, evalInterval: 0, learningRate: 1e-2, seed: 1, maxSteps: 8 };

beforeAll(() => setNumThreads(1));

function makeGpt(layout = 'mypt', dropout = 0): GPT {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  const config = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 32, dropout };
  return new GPT(config, { tokenizer, layout });
}

/** The numbers of a state dict, as text. */
function numbersOf(state: ReadonlyMap<string, unknown>): string {
  return JSON.stringify([...state].map(([key, value]) => [key, (value as Tensor).tolist()]));
}

/** What the weights were after each update. */
function record(model: GPT, into: Map<number, string>, step: number): void {
  tidy(() => into.set(step, numbersOf(model.stateDict())));
}

type Save = (model: GPT, target: string) => Promise<unknown>;

const saves: Record<
  string,
  { layout?: string; file?: string; save: Save; weights: (target: string) => Promise<unknown> }
> = {
  saveCheckpointBundle: {
    save: (model, target) => model.saveCheckpointBundle(target),
    weights: (target) => load(path.join(target, 'model.pt')),
  },
  'saveState of a manager': {
    save: (model, target) =>
      new CheckpointManager(path.basename(target), { root: path.dirname(target) }).saveState({ model }),
    weights: (target) => load(path.join(target, 'model.pt')),
  },
  'saveWeightsForSampler of a manager': {
    save: (model, target) =>
      new CheckpointManager(path.basename(target), { root: path.dirname(target) }).saveWeightsForSampler({ model }),
    weights: (target) => load(path.join(target, 'sampler/model.pt')),
  },
  "save as nanoGPT's ckpt.pt": {
    layout: 'nanogpt',
    file: 'ckpt.pt',
    save: (model, target) => model.save(target),
    weights: async (target) => ((await load(target)) as Map<string, unknown>).get('model'),
  },
  'save of a state dict': {
    file: 'weights.pt',
    save: (model, target) => save(model.stateDict(), target),
    weights: (target) => load(target),
  },
  'saveSafetensors of a state dict': {
    file: 'weights.safetensors',
    save: (model, target) => saveSafetensors(model.stateDict(), target, { tied: 'copy' }),
    weights: async (target) => new Map(await loadSafetensors(target)),
  },
};

describe.each(Object.keys(saves))('%s', (name) => {
  const { layout, file = 'run', save: write, weights } = saves[name]!;

  async function expectWeightsOf(step: number, target: string, recorded: Map<number, string>): Promise<void> {
    const saved = (await weights(target)) as Map<string, Tensor>;
    const order = [...(JSON.parse(recorded.get(step)!) as [string, unknown][])].map(([key]) => key);
    expect(numbersOf(new Map(order.map((key) => [key, saved.get(key)]))) === recorded.get(step)).toBe(true);
    dispose(saved);
  }

  it('in onStep, not awaited, is of that step', async () => {
    const model = makeGpt(layout);
    const target = path.join(temporaryDirectory(), file);
    const recorded = new Map<number, string>();
    let writing: Promise<unknown> | undefined;
    await model.fit({
      ...options,
      onStep: ({ step }) => {
        record(model, recorded, step);
        if (step === 3) writing = write(model, target);
      },
    });
    await writing;
    await expectWeightsOf(3, target, recorded);
  });

  it('between two batches of one update is of the update before', async () => {
    const model = makeGpt(layout);
    const target = path.join(temporaryDirectory(), file);
    const recorded = new Map<number, string>();
    let writing: Promise<unknown> | undefined;
    await model.fit({
      ...options,
      gradAccumulation: 4,
      onStep: ({ step }) => {
        record(model, recorded, step);
        if (step === 3)
          void nextTurn()
            .then(() => nextTurn())
            .then(() => (writing = write(model, target)));
      },
    });
    await writing;
    await expectWeightsOf(3, target, recorded);
  });
});

/** Weights, moments, step and the next losses of a run. */
async function continuation(model: GPT): Promise<unknown> {
  const { losses } = await model.fit({ ...options, maxSteps: 3, gradAccumulation: 3 });
  return [losses, tidy(() => numbersOf(model.stateDict())), model.step];
}

it('a bundle that was saved in the middle of an update resumes exactly', async () => {
  const directory = path.join(temporaryDirectory(), 'run');
  const model = makeGpt('mypt', 0.2);
  let writing: Promise<void> | undefined;
  const onStep = ({ step }: { step: number }): void => {
    if (step !== 4) return;
    // Update 5 has begun: numbers were drawn, and the position in the text has moved.
    void nextTurn()
      .then(() => nextTurn())
      .then(() => (writing = model.saveCheckpointBundle(directory)));
  };
  await model.fit({ ...options, gradAccumulation: 3, maxSteps: 7, onStep });
  await writing;
  const straight = makeGpt('mypt', 0.2);
  await straight.fit({ ...options, gradAccumulation: 3, maxSteps: 4 });
  const resumed = await GPT.load(directory, { optimizer: true });
  expect(resumed.step).toBe(4);
  const [expected, actual] = [await continuation(straight), await continuation(resumed)];
  expect(actual).toEqual(expected);
});

it('outside training a save is of the moment of the call, an optimizer state that is given too', async () => {
  const directory = path.join(temporaryDirectory(), 'run');
  const model = makeGpt();
  await model.fit({ ...options, maxSteps: 2 });
  const expected = tidy(() => numbersOf(model.stateDict()));
  const optimizerState = model.optimizerStateDict(model.optimizer!);
  const momentOf = (state: Map<string, unknown>): unknown =>
    (state.get('state') as Map<number, Map<string, Tensor>>).get(0)!.get('exp_avg')!.tolist();
  const moment = momentOf(optimizerState);
  const writing = model.saveCheckpointBundle(directory, { optimizerState, step: 2 });
  for (const parameter of model.parameters()) parameter.detach().zero_();
  for (const state of model.optimizer!.state.values()) (state.get('exp_avg') as Tensor).zero_();
  await writing;
  expect(numbersOf((await load(path.join(directory, 'model.pt'))) as Map<string, Tensor>)).toBe(expected);
  expect(momentOf((await load(path.join(directory, 'optimizer.pt'))) as Map<string, unknown>)).toEqual(moment);
});

describe('callbacks that return promises', () => {
  it('are awaited', async () => {
    const calls: string[] = [];
    const slowly =
      (name: string) =>
      async ({ step }: { step: number }): Promise<void> => {
        calls.push(`${name} ${step} begins`);
        for (let i = 0; i < 5; i++) await nextTurn();
        calls.push(`${name} ${step} ends`);
      };
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    const callbacks = { onStep: slowly('step'), onEval: slowly('eval'), onSave: slowly('save') };
    await makeGpt().fit({ ...options, maxSteps: 2, evalInterval: 1, evalSteps: 1, checkpointDir, ...callbacks });
    const expected = ['eval 0', 'step 1', 'eval 1', 'step 2', 'eval 2', 'save 2'];
    expect(calls).toEqual(expected.flatMap((call) => [`${call} begins`, `${call} ends`]));
  });

  it.each(['onStep', 'onEval', 'onSave'] as const)(
    'reject fit when %s rejects, and leave the model usable',
    async (name) => {
      const model = makeGpt();
      const checkpointDir = path.join(temporaryDirectory(), 'run');
      const failing = { [name]: () => Promise.reject(new Error('no place left')) };
      const run = model.fit({ ...options, maxSteps: 2, evalInterval: 1, evalSteps: 1, checkpointDir, ...failing });
      await expect(run).rejects.toThrow('no place left');
      await model.fit({ ...options, maxSteps: 1, checkpointDir });
      expect(existsSync(path.join(checkpointDir, 'model.pt'))).toBe(true);
    },
  );
});

describe('the directory of a run', () => {
  const cwd = process.cwd();
  afterEach(() => process.chdir(cwd));

  it('is refused to a second run of the process, by any of its names, and free when the first has ended', async () => {
    const root = temporaryDirectory();
    const checkpointDir = path.join(root, 'run');
    mkdirSync(checkpointDir);
    symlinkSync(checkpointDir, path.join(root, 'link'));
    const first = makeGpt();
    const second = makeGpt();
    const elsewhere = { ...options, checkpointDir: path.join(root, 'link') };
    const refused: unknown[] = [];
    await first.fit({
      ...options,
      checkpointDir,
      // From the first update on the directory is certainly the first run's.
      onStep: async ({ step }) => {
        if (step === 1) refused.push(await second.fit(elsewhere).catch((error: unknown) => error));
      },
    });
    expect(refused).toMatchObject([{ code: 'ERR_TORCHBIND_LOCKED' }]);
    await second.fit(elsewhere);
    expect((await GPT.load(checkpointDir)).step).toBe(8);
  });

  it('takes saves of its own model, and none of another', async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    const model = makeGpt();
    const other = makeGpt();
    const manager = new CheckpointManager('run', { root: path.dirname(checkpointDir) });
    const refused: unknown[] = [];
    await model.fit({
      ...options,
      checkpointDir,
      onStep: async ({ step }) => {
        if (step !== 3) return;
        await model.saveCheckpointBundle(checkpointDir);
        const attempts = [
          other.saveCheckpointBundle(checkpointDir, { step: 1, optimizerState: null }),
          other.save(checkpointDir),
          manager.saveState({ model: other, optimizer: other.makeOptimizer(), step: 1 }),
          manager.rollback(3),
        ];
        const settled = await Promise.allSettled<unknown>(attempts);
        refused.push(...settled.map((one): unknown => one.status === 'rejected' && one.reason));
      },
    });
    expect(refused.map((error) => (error as { code?: string }).code)).toEqual(Array(4).fill('ERR_TORCHBIND_LOCKED'));
    expect((await GPT.load(checkpointDir)).step).toBe(8);
    await other.save(checkpointDir);
  });

  it('is where it was when fit was called, wherever the program goes', async () => {
    const root = temporaryDirectory();
    for (const name of ['a', 'b']) mkdirSync(path.join(root, name));
    process.chdir(path.join(root, 'a'));
    const onStep = ({ step }: { step: number }): void => void (step === 3 && process.chdir(path.join(root, 'b')));
    await makeGpt().fit({ ...options, checkpointDir: 'run', saveEvery: 2, onStep });
    expect((await GPT.load(path.join(root, 'a/run'))).step).toBe(8);
    expect(existsSync(path.join(root, 'b/run'))).toBe(false);
    expect(readFileSync(path.join(root, 'a/run/metrics.jsonl'), 'utf8').trim().split('\n').length).toBeGreaterThan(7);
  });
});
