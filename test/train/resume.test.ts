/** A run that was stopped continues as if it had never stopped: same losses, weights, moments, random numbers. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { CheckpointManager, GPT } from '../../lib/gpt';
import { layoutNames } from '../../lib/models';
import type { FitOptions } from '../../lib';
import { loadedAddon } from '../../lib/native/native';
import { rand } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { dispose, tidy } from '../../lib/tensor/scope';
import { Tensor } from '../../lib/tensor/tensor';
import { CharTokenizer } from '../../lib/tokenizers';
import { temporaryDirectory } from '../helpers/tmp';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);

beforeAll(() => setNumThreads(1));

/** What newer bundles of `mypt-fused` have. */
const modern = { positionEncoding: 'rope', normType: 'rmsnorm', activation: 'swiglu', tieWeights: true } as const;

function makeGpt(layout: string): GPT {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  const config = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 16, dropout: 0.3 };
  const facts = layout === 'mypt-fused modern' ? modern : {};
  return new GPT({ ...config, ...facts, device: 'cpu' }, { tokenizer, layout: layout.split(' ')[0]! });
}

/** Everything that a run leaves behind, the next random numbers of the default generator included. */
function traceOf(model: GPT, random = tidy(() => rand([4]).tolist())): unknown {
  const plain = (value: unknown): unknown => {
    if (value instanceof Tensor) return value.tolist();
    if (value instanceof Map) return [...(value as Map<unknown, unknown>)].map(([key, item]) => [key, plain(item)]);
    return value instanceof Array ? value.map((item) => plain(item)) : value;
  };
  return tidy(() => {
    const optimizer = model.optimizerStateDict(model.optimizer!);
    return JSON.stringify([model.step, plain(model.stateDict()), plain(optimizer), random]);
  });
}

function disposeAfterwards(model: GPT): void {
  onTestFinished(() => {
    dispose(model.optimizer?.state);
    model.dispose();
  });
}

const options: FitOptions = {
  text,
  batchSize: 4,
  seed: 7,
  evalInterval: 3,
  evalSteps: 2,
  learningRate: 1e-2,
  schedule: 'cosine',
  warmupSteps: 3,
  decaySteps: 20,
  minLearningRate: 1e-3,
  gradAccumulation: 2,
  gradClip: 1,
  weightDecay: 0.1,
};

/** A schedule that is a function takes no other options of the schedule. */
const ownSchedule = { warmupSteps: undefined, decaySteps: undefined, minLearningRate: undefined };

async function straight(layout: string, steps: number, more: FitOptions): Promise<[number[], unknown]> {
  const model = makeGpt(layout);
  disposeAfterwards(model);
  const { losses } = await model.fit({ ...options, ...more, maxSteps: steps });
  return [losses, traceOf(model)];
}

/** The same in pieces, each by a model that was read from the bundle of the piece before. */
async function inPieces(layout: string, pieces: readonly number[], more: FitOptions): Promise<[number[], unknown]> {
  const root = temporaryDirectory();
  const checkpointDir = path.join(root, 'run');
  const losses: number[] = [];
  const first = makeGpt(layout);
  disposeAfterwards(first);
  losses.push(...(await first.fit({ ...options, ...more, checkpointDir, maxSteps: pieces[0]! })).losses);
  let last = first;
  for (const maxSteps of pieces.slice(1)) {
    manualSeed(12345); // What other programs draw in between must not matter.
    const { model } = await new CheckpointManager('run', { root }).initializeForTraining();
    disposeAfterwards(model);
    const { learningRate: _, ...rest } = { ...options, ...more };
    losses.push(...(await model.fit({ ...rest, checkpointDir, maxSteps })).losses);
    last = model;
  }
  return [losses, traceOf(last)];
}

describe('a run in pieces', () => {
  it.each([
    ['mypt', {}],
    ...[...layoutNames, 'mypt-fused modern'].filter((name) => name !== 'mypt').map((name) => [name, {}] as const),
    ['mypt', { dataOrder: 'epochs', batchSize: 7 }],
    ['mypt', { evalInterval: 0, gradAccumulation: 1 }],
    ['mypt', { schedule: (step: number) => 1 / (1 + step), ...ownSchedule }],
    ['mypt', { saveInBackground: false, gradClip: undefined }],
  ] as const)('equals one that was not stopped, bit for bit: %s %j', async (layout, more) => {
    expect(await inPieces(layout, [4, 1, 6], more as FitOptions)).toEqual(
      await straight(layout, 11, more as FitOptions),
    );
  });

  it.each([...layoutNames, 'mypt-fused modern'])(
    'equals it where its second half is another process: %s',
    async (layout) => {
      const root = temporaryDirectory();
      const first = makeGpt(layout);
      disposeAfterwards(first);
      const { losses } = await first.fit({ ...options, checkpointDir: path.join(root, 'run'), maxSteps: 5 });
      const { learningRate: _, ...rest } = options;
      const child = path.join(__dirname, 'children/resumed.cjs');
      const printed = execFileSync(process.execPath, [child, root, JSON.stringify({ ...rest, maxSteps: 6 })], {
        encoding: 'utf8',
      });
      const second = JSON.parse(printed) as { losses: number[]; random: number[] };
      const { model } = await new CheckpointManager('run', { root }).initializeForTraining();
      disposeAfterwards(model);
      const resumed = [[...losses, ...second.losses], traceOf(model, second.random)];
      expect(resumed).toEqual(await straight(layout, 11, {}));
    },
  );

  it('equals it where the model stayed in memory and generated in between', async () => {
    const model = makeGpt('mypt');
    disposeAfterwards(model);
    const { losses } = await model.fit({ ...options, maxSteps: 5 });
    await model.generate('the', { maxNewTokens: 3 });
    const { learningRate: _, ...rest } = options;
    losses.push(...(await model.fit({ ...rest, maxSteps: 6 })).losses);
    expect([losses, traceOf(model)]).toEqual(await straight('mypt', 11, {}));
  });

  it('equals it where it was stopped between the batches of one update', async () => {
    const root = temporaryDirectory();
    const checkpointDir = path.join(root, 'run');
    const controller = new AbortController();
    const first = makeGpt('mypt');
    disposeAfterwards(first);
    const onStep = ({ step }: { step: number }): void => {
      // After the update of step 4 two turns pass: one between updates, one between the batches of the next.
      if (step === 4) setImmediate(() => setImmediate(() => controller.abort()));
    };
    const more = { gradAccumulation: 8, evalInterval: 0 };
    const stopped = await first.fit({ ...options, ...more, checkpointDir, signal: controller.signal, onStep });
    expect([stopped.stopped, stopped.step]).toEqual(['aborted', 4]);
    const { model } = await new CheckpointManager('run', { root }).initializeForTraining();
    disposeAfterwards(model);
    const { learningRate: _, ...rest } = options;
    const { losses } = await model.fit({ ...rest, ...more, maxSteps: 3 });
    const resumed = [[...stopped.losses, ...losses], traceOf(model)];
    expect(resumed).toEqual(await straight('mypt', 7, more));
  });
});

describe('what a resumed run says', () => {
  it('is nothing missing where all was saved, and what where the bundle is of another program', async () => {
    const root = temporaryDirectory();
    const checkpointDir = path.join(root, 'run');
    const model = makeGpt('mypt');
    disposeAfterwards(model);
    await model.fit({ ...options, checkpointDir, maxSteps: 2 });
    const missing = async (more: Partial<FitOptions>): Promise<string[]> => {
      const { model: resumed } = await new CheckpointManager('run', { root }).initializeForTraining();
      disposeAfterwards(resumed);
      const found: string[] = [];
      for await (const event of resumed.fitEvents({ ...options, ...more, maxSteps: 1 })) {
        if (event.type === 'resume') found.push(...event.missing);
      }
      return found;
    };
    expect(await missing({})).toEqual([]);
    expect(await missing({ text: text.slice(5) })).toEqual([expect.stringContaining('position in the data')]);
    await model.saveCheckpointBundle(checkpointDir, { step: 1 });
    expect(await missing({})).toEqual(['random numbers', 'position in the data']);
  });

  it('is that the CPU kernels are others than those of the run before', async () => {
    const root = temporaryDirectory();
    const model = makeGpt('mypt');
    disposeAfterwards(model);
    await model.fit({ ...options, checkpointDir: path.join(root, 'run'), maxSteps: 2 });
    const { kernels } = loadedAddon();
    const found: string[] = [];
    const { fastMkl } = kernels;
    kernels.fastMkl = !fastMkl; // A process cannot change its kernels: this one only says so.
    try {
      const { model: resumed } = await new CheckpointManager('run', { root }).initializeForTraining();
      disposeAfterwards(resumed);
      for await (const event of resumed.fitEvents({ ...options, maxSteps: 1 }))
        if (event.type === 'resume') found.push(...event.missing);
    } finally {
      kernels.fastMkl = fastMkl;
    }
    const [then, now] = fastMkl ? ['auto', 'stock'] : ['stock', 'auto'];
    expect(found).toEqual([
      `CPU kernels of the run before: they were '${then}' (TORCHBIND_CPU_KERNELS), now they are '${now}'`,
    ]);
  });

  it('follows the rule for the learning rate', async () => {
    const rates = async (more: Partial<FitOptions>): Promise<number[]> => {
      const model = makeGpt('mypt');
      disposeAfterwards(model);
      const quiet = { text, batchSize: 2, evalInterval: 0, seed: 1 };
      const schedule = { schedule: 'linear', warmupSteps: 2, decaySteps: 10 } as const;
      await model.fit({ ...quiet, ...schedule, learningRate: 1, maxSteps: 4 });
      const found: number[] = [];
      const onStep = ({ learningRate }: { learningRate: number }): void => void found.push(learningRate);
      await model.fit({ ...quiet, ...schedule, maxSteps: 2, onStep, ...more });
      return found.map((rate) => Number(rate.toFixed(4)));
    };
    expect(await rates({})).toEqual([0.75, 0.625]);
    expect(await rates({ learningRate: 0.1 })).toEqual([0.075, 0.0625]);
    expect(await rates({ learningRate: 0.1, resumeLearningRate: 'keep' })).toEqual([0.75, 0.625]);
    expect(await rates({ resumeLearningRate: 'restart' })).toEqual([0.3333, 0.6667]);
    expect(await rates({ learningRate: 0.3, resumeLearningRate: 'restart' })).toEqual([0.1, 0.2]);
    expect(await rates({ resumeLearningRate: 0.5 })).toEqual([0.375, 0.3125]);
  });
});
