import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import {
  applyLora,
  CharTokenizer,
  GPT,
  manualSeed,
  optim,
  setNumThreads,
  type Tensor,
  tidy,
  TorchBindError,
} from '../../lib';
import type { FitOptions } from '../../lib';
import { native } from '../../lib/native/native';
import { LayerNorm } from '../../lib/nn/layer-norm';
import { Linear } from '../../lib/nn/linear';
import { heldTensors } from '../../lib/compute/posted-module';
import { Replica } from '../../lib/compute/replica';
import { whyNotReplicable } from '../../lib/compute/replicable';
import { getRngState } from '../../lib/tensor/random';
import { memoryInUse } from '../helpers/garbage';
import { bytesOf } from '../helpers/tensors';
import { temporaryDirectory } from '../helpers/tmp';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);

/** Those that were started and not ended by a test. */
const workers: Worker[] = [];

beforeAll(() => {
  setNumThreads(1); // Bits depend on the number of threads.
  process.on('worker', (worker) => workers.push(worker));
});

async function drain(pieces: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of pieces);
}

interface Shape {
  nEmbd?: number;
  layout?: string;
  config?: object;
}

function make({ nEmbd = 16, layout = 'mypt', config = {} }: Shape = {}): GPT {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  const sizes = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 2, nHead: 2, nEmbd, dropout: 0.2 };
  return new GPT({ ...sizes, ...config }, { tokenizer, layout });
}

/** All numbers that a run leaves behind, in bytes. */
function numbersOf(gpt: GPT): string[] {
  return tidy(() => {
    const tensors: Tensor[] = [...gpt.stateDict().values()];
    for (const parts of gpt.optimizer!.state.values())
      for (const value of parts.values()) if (typeof value === 'object') tensors.push(value as Tensor);
    return [...tensors, getRngState()].map((tensor) => bytesOf(tensor.contiguous()).toString('base64'));
  });
}

const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

type Change = (gpt: GPT) => void;

/** What a run gives on one of the threads. */
async function run(thread: 'main' | 'worker', shape: Shape, options: FitOptions, change?: Change): Promise<unknown[]> {
  const gpt = make(shape);
  change?.(gpt);
  expect(whyNotReplicable(gpt, heldTensors(gpt))).toBeUndefined();
  const events: unknown[] = [];
  const training = gpt.fitEvents({
    text,
    batchSize: 4,
    maxSteps: 4,
    evalInterval: 2,
    evalSteps: 2,
    seed: 7,
    ...options,
    thread,
  });
  for await (const event of training) events.push(event.type === 'step' ? { ...event, tokensPerSecond: 0 } : event);
  const numbers = numbersOf(gpt);
  gpt.dispose();
  return [events, numbers];
}

describe('fit on a compute thread computes, bit for bit, what it computes on this one', () => {
  const cases: Record<string, [Shape, FitOptions, Change?]> = {
    'with dropout': [{}, {}],
    'with accumulation and clipping': [{}, { gradAccumulation: 3, gradClip: 0.1 }],
    'with a schedule': [{}, { schedule: 'cosine', warmupSteps: 2, learningRate: 1e-2 }],
    'in bfloat16': [{}, { precision: 'bfloat16' }],
    'in float16, scaled': [{}, { precision: 'float16', gradClip: 1 }],
    'with activation checkpointing': [{}, { activationCheckpointing: true }],
    'with a loss in chunks': [{}, { chunkedLoss: true }],
    'of nanoGPT with its groups': [{ layout: 'nanogpt', config: { bias: false } }, {}],
    'of a tied model': [{ layout: 'hf-gpt2', config: { tieWeights: true } }, {}],
    'with RoPE': [{ layout: 'mypt-fused', config: { positionEncoding: 'rope' } }, {}],
    'with LoRA': [{ layout: 'hf-gpt2' }, {}, (gpt) => applyLora(gpt, { rank: 2, alpha: 4, dropout: 0.1 })],
    'with frozen parameters': [{}, {}, (gpt) => void (gpt.tokenEmbedding.weight.requiresGrad = false)],
    'with another probability in one layer': [{}, {}, (gpt) => void Object.assign(gpt.dropout, { p: 0.7 })],
  };
  it.each(Object.entries(cases))('%s', async (_, [shape, options, change]) => {
    expect(await run('worker', shape, options, change)).toEqual(await run('main', shape, options, change));
  });

  const optimizers = {
    SGD: (gpt: GPT) => new optim.SGD(gpt.parameters(), { lr: 0.1, momentum: 0.9 }),
    Adam: (gpt: GPT) => new optim.Adam(gpt.parameters(), { weightDecay: 0.01, amsgrad: true }),
    Adagrad: (gpt: GPT) => new optim.Adagrad(gpt.parameters()),
  };
  it.each(Object.entries(optimizers))('with %s, in two calls', async (_, makeOptimizer) => {
    const twice = async (thread: 'main' | 'worker'): Promise<unknown> => {
      const gpt = make();
      const optimizer = makeOptimizer(gpt);
      const options = { text, batchSize: 4, maxSteps: 2, evalInterval: 0, thread } as const;
      const first = await gpt.fit({ ...options, optimizer, seed: 3 });
      const second = await gpt.fit(options);
      const numbers = numbersOf(gpt);
      gpt.dispose();
      return [first.losses, second.losses, numbers];
    };
    expect(await twice('worker')).toEqual(await twice('main'));
  });

  it('also where the program changes the model, the optimizer or its learning rate between updates', async () => {
    const changing = (thread: 'main' | 'worker'): Promise<unknown> => {
      const gpt = make();
      const onStep = ({ step }: { step: number }): void => {
        if (step === 1) gpt.tokenEmbedding.weight.requiresGrad = false;
        if (step === 2) gpt.optimizer!.paramGroups[0]!.weightDecay = 0.5;
        if (step === 3) gpt.optimizer!.loadStateDict(gpt.optimizer!.stateDict());
        if (step === 4) gpt.blocks.at(0)!.mlp.dropout.eval();
        if (step === 5) gpt.loadStateDict(make().stateDict());
      };
      return gpt
        .fit({ text, batchSize: 4, maxSteps: 7, evalInterval: 0, seed: 7, onStep, thread })
        .then(({ losses }) => [losses, numbersOf(gpt)]);
    };
    expect(await changing('worker')).toEqual(await changing('main'));
  });
});

it.each([
  ['one batch', {}, ['apply']],
  ['two batches', { gradAccumulation: 2 }, ['accumulate', 'accumulate', 'apply']],
  ['a loss that is judged first', { guard: { spikeFactor: 10 } }, ['accumulate', 'apply']],
])('an update from %s takes no more messages than it needs', async (_, options, ofUpdate) => {
  const spy = vi.spyOn(Replica.prototype, 'call');
  const gpt = make();
  const checkpointDir = 'guard' in options ? temporaryDirectory() : undefined;
  await gpt.fit({ text, maxSteps: 2, evalInterval: 0, ...options, ...(checkpointDir && { checkpointDir }) });
  const calls = spy.mock.calls.map(([{ type }]) => type).filter((type) => type === 'accumulate' || type === 'apply');
  expect(calls).toEqual([...ofUpdate, ...ofUpdate]);
  spy.mockRestore();
});

describe('while an update is computed', () => {
  const big = { nEmbd: 256 };
  const options = { text, batchSize: 64, maxSteps: 3, evalInterval: 0, seed: 1 };

  it('the event loop turns', async () => {
    const turnsDuring = async (thread: 'main' | 'worker'): Promise<number> => {
      const gpt = make(big);
      let turns = 0;
      let isOver = false;
      const training = gpt.fit({ ...options, thread }).finally(() => (isOver = true));
      for (; !isOver; turns++) await nextTurn();
      await training;
      gpt.dispose();
      return turns;
    };
    expect(await turnsDuring('main')).toBeLessThan(60);
    expect(await turnsDuring('worker')).toBeGreaterThan(200);
  });

  it('what reads the model waits for the whole update', async () => {
    const gpt = make(big);
    const weights = new Map<number, string>();
    const read = (): string => bytesOf(gpt.stateDict().values().next().value as Tensor).toString('base64');
    weights.set(0, read());
    const seen: [number, string][] = [];
    let isOver = false;
    const onStep = ({ step }: { step: number }): void => void weights.set(step, tidy(read));
    const training = gpt.fit({ ...options, onStep, thread: 'worker' }).finally(() => (isOver = true));
    while (!isOver) {
      await nextTurn();
      if (Math.random() < 0.05) seen.push(tidy(() => [gpt.step ?? 0, read()]));
    }
    await training;
    for (const [step, bytes] of seen) expect(bytes === weights.get(step), `weights of step ${step}`).toBe(true);
    gpt.dispose();
  });

  it('a save writes the weights and the step of one update', async () => {
    const gpt = make(big);
    const weights = new Map<number, string>();
    const read = (model: GPT): string => bytesOf(model.lnF.weight!).toString('base64');
    const directories: string[] = [];
    const saves: Promise<void>[] = [];
    const onStep = ({ step }: { step: number }): void => {
      weights.set(step, read(gpt));
      const directory = temporaryDirectory();
      directories.push(directory);
      setImmediate(() => saves.push(gpt.saveCheckpointBundle(directory)));
    };
    await gpt.fit({ ...options, maxSteps: 4, onStep, thread: 'worker' });
    await Promise.all(saves);
    for (const directory of directories) {
      const saved = await GPT.load(directory);
      expect(read(saved)).toBe(weights.get(saved.step!));
      saved.dispose();
    }
    gpt.dispose();
  });
});

describe('a save while a compute thread trains', () => {
  it.each(['mypt', 'nanogpt', 'hf-gpt2'])('writes what one on this thread writes: %s', async (layout) => {
    const filesOf = async (thread: 'main' | 'worker'): Promise<unknown> => {
      const gpt = make({ layout });
      const directory = temporaryDirectory();
      const saved = path.join(directory, 'saved');
      const onStep = async ({ step }: { step: number }): Promise<void> => {
        if (step === 2) await gpt.saveCheckpointBundle(saved);
      };
      const options = {
        text,
        batchSize: 4,
        maxSteps: 4,
        evalInterval: 0,
        seed: 7,
        saveEvery: 3,
        onStep,
        metrics: false,
      };
      await gpt.fit({ ...options, checkpointDir: path.join(directory, 'run'), thread });
      gpt.dispose();
      const found = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) =>
        /\.(pt|json)$/.test(name),
      );
      const files = found.filter((name) => !name.endsWith('manifest.json')); // it has the time of the save
      return files.sort().map((name) => [name, sha256(path.join(directory, name))]);
    };
    const [main, worker] = [await filesOf('main'), await filesOf('worker')];
    expect(worker).toEqual(main);
  });
});

describe('what only this thread can compute stays on it', () => {
  const options = { text, batchSize: 2, maxSteps: 2, evalInterval: 0, seed: 1 };

  it('hooks', async () => {
    const gpt = make();
    let calls = 0;
    using _ = gpt.lnF.weight!.registerHook(() => void calls++);
    await gpt.fit(options);
    expect(calls).toBe(2);
    gpt.dispose();
  });

  it('subclasses and replaced functions', async () => {
    const calls: string[] = [];
    class Mine extends GPT {
      override forward(...args: Parameters<GPT['forward']>): ReturnType<GPT['forward']> {
        calls.push('subclass');
        return super.forward(...args);
      }
    }
    const { config, tokenizer } = make();
    const mine = new Mine(config, { tokenizer });
    await mine.fit({ ...options, maxSteps: 1 });
    const gpt = make();
    const norm = gpt.lnF;
    norm.forward = (input: Tensor) => {
      calls.push('replaced');
      return LayerNorm.prototype.forward.call(norm, input);
    };
    await gpt.fit({ ...options, maxSteps: 1 });
    expect(calls).toEqual(['subclass', 'replaced']);
    mine.dispose();
    gpt.dispose();
  });

  it('modules of torchbind, put together as no config does', async () => {
    const gpt = make();
    const block = gpt.blocks.at(0)!;
    const { mlp } = block;
    Reflect.set(block, 'mlp', new Linear(16, 16));
    const tickets = native().waitingTickets();
    const { losses } = await gpt.fit(options);
    expect(losses.every(Number.isFinite)).toBe(true);
    expect(native().waitingTickets()).toBe(tickets);
    mlp.dispose();
    gpt.dispose();
  });

  it('optimizers of the program', async () => {
    let steps = 0;
    class Counting extends optim.SGD {
      override step(): void {
        steps++;
        super.step();
      }
    }
    const gpt = make();
    await gpt.fit({ ...options, optimizer: new Counting(gpt.parameters(), { lr: 0.1 }) });
    expect(steps).toBe(2);
    gpt.dispose();
  });
});

describe('afterwards', () => {
  it('nothing is left on the compute thread, and memory may move again', async () => {
    const gpt = make();
    await gpt.fit({ text, batchSize: 2, maxSteps: 1, evalInterval: 0 });
    const before = await memoryInUse();
    await gpt.fit({ text, batchSize: 2, maxSteps: 2, evalInterval: 1, evalSteps: 1 });
    expect(await memoryInUse()).toEqual(before);
    const weight = gpt.lnF.weight!.detach();
    weight.resize_([64]); // refused for memory that another thread uses
    gpt.dispose();
  });

  it('a thread that has ended is an error, and another one is started', async () => {
    const gpt = make();
    for (let i = 0; i < 2; i++) {
      let steps = 0;
      const training = gpt.fit({ text, batchSize: 2, maxSteps: 1e6, evalInterval: 0, onStep: () => void steps++ });
      training.catch(() => undefined);
      const stream = gpt.stream('the', { maxNewTokens: 1e6, seed: 1 });
      await stream.next();
      while (steps < 2) await nextTurn();
      await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
      await expect(training).rejects.toMatchObject({ code: 'ERR_TORCHBIND_COMPUTE_THREAD' });
      await expect(drain(stream)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_COMPUTE_THREAD' });
    }
    expect((await gpt.fit({ text, batchSize: 2, maxSteps: 1, evalInterval: 0 })).losses).toHaveLength(1);
    gpt.dispose();
  });

  it('errors of the thread have the code, and name the caller', async () => {
    const gpt = make();
    gpt.config.attentionDropout = 2 as never; // not among what is looked at before
    const training = gpt.fit({ text, batchSize: 2, maxSteps: 1, evalInterval: 0 });
    await expect(training).rejects.toThrow(TorchBindError);
    await expect(training).rejects.toThrow(/dropout/i);
    gpt.dispose();
  });
});
