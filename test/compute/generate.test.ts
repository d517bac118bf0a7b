import { setImmediate as nextTurn } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { CharTokenizer, GPT, manualSeed, noGrad, setNumThreads, type Tensor, tidy } from '../../lib';
import { LayerNorm } from '../../lib/nn/layer-norm';
import { heldTensors } from '../../lib/compute/posted-module';
import { whyNotReplicable } from '../../lib/compute/replicable';
import type { GenerateOptions, ThreadOption } from '../../lib/generation/generate';
import { getRngState } from '../../lib/tensor/random';
import { memoryInUse } from '../helpers/garbage';
import { bytesOf } from '../helpers/tensors';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);

beforeAll(() => setNumThreads(1));

function make(sizes: object = {}): GPT {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  const config = {
    vocabSize: tokenizer.vocabSize,
    blockSize: 16,
    nLayer: 2,
    nHead: 2,
    nEmbd: 16,
    dropout: 0.2,
    ...sizes,
  };
  return new GPT(config, { tokenizer });
}

const randomState = (): string => tidy(() => bytesOf(getRngState()).toString('base64'));

/** What a use of a model gives on a thread, and the state that it leaves the default generator in. */
async function on(
  thread: 'main' | 'worker',
  use: (gpt: GPT, options: GenerateOptions) => Promise<unknown>,
): Promise<unknown[]> {
  const gpt = make();
  if (thread === 'worker') expect(whyNotReplicable(gpt, heldTensors(gpt))).toBeUndefined();
  manualSeed(5);
  const result = await use(gpt, { thread });
  const state = randomState();
  gpt.dispose();
  return [result, state];
}

async function collect(pieces: AsyncIterable<string | number>, most = Infinity): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const piece of pieces) if (all.push(piece) === most) break;
  return all;
}

describe('generation on a compute thread gives, draw for draw, what it gives on this one', () => {
  const uses: Record<string, (gpt: GPT, options: GenerateOptions) => Promise<unknown>> = {
    'drawn from the default generator': (gpt, options) => gpt.generate('the', { ...options, maxNewTokens: 30 }),
    'seeded, beyond the context': (gpt, options) =>
      gpt.generate('the quick', { ...options, maxNewTokens: 30, seed: 3 }),
    greedy: (gpt, options) => gpt.generate('fox', { ...options, maxNewTokens: 10, greedy: true }),
    'with a stop, after which nothing is drawn': (gpt, options) =>
      gpt.generate('the', { ...options, maxNewTokens: 50, stop: ['e', ' '] }),
    'left early, after which nothing is drawn': (gpt, options) => collect(gpt.stream('the', options), 5),
    'as tokens, one after the other': async (gpt, options) => [
      await collect(gpt.generateTokens([1, 2], { ...options, maxNewTokens: 5 })),
      await collect(gpt.generateTokens([3], { ...options, maxNewTokens: 5 })),
    ],
    'several prompts': (gpt, options) => gpt.generate(['the', 'fox'], { ...options, maxNewTokens: 8, seed: 2 }),
    'with topK and topP': (gpt, options) => gpt.generate('the', { ...options, maxNewTokens: 20, topK: 5, topP: 0.9 }),
  };
  it.each(Object.entries(uses))('%s', async (_, use) => {
    expect(await on('worker', use)).toEqual(await on('main', use));
  });
});

describe('while a model computes', () => {
  const long = 't'.repeat(250);
  const uses: Record<string, (gpt: GPT, thread: ThreadOption) => Promise<unknown>> = {
    'generates a text': (gpt, thread) => gpt.generate(long, { maxNewTokens: 10, thread }),
    'evaluates a text': (gpt, thread) => gpt.evaluate(long.repeat(4), { thread, batchSize: 1 }),
    'embeds texts': (gpt, thread) => gpt.embed([long, long, long], { thread, batchSize: 1 }),
  };
  it.each(Object.entries(uses))('the event loop turns: it %s', async (_, use) => {
    const gpt = make({ nEmbd: 512, blockSize: 256 });
    const turnsDuring = async (thread: ThreadOption): Promise<number> => {
      let turns = 0;
      let isOver = false;
      const computing = use(gpt, thread).finally(() => (isOver = true));
      for (; !isOver; turns++) await nextTurn();
      await computing;
      return turns;
    };
    expect(await turnsDuring('main')).toBeLessThan(60);
    expect(await turnsDuring('worker')).toBeGreaterThan(200);
    gpt.dispose();
  });

  it('loadStateDict waits for the step that is being made', async () => {
    const gpt = make();
    const other = make();
    noGrad(() => other.lmHead.weight.neg_());
    const stream = gpt.stream('the', { maxNewTokens: 200, seed: 1 });
    await stream.next();
    for (let i = 0; i < 20; i++) {
      gpt.loadStateDict((i % 2 === 0 ? other : gpt).stateDict());
      await stream.next();
    }
    await stream.return();
    gpt.dispose();
    other.dispose();
  });
});

describe('a stream on a compute thread', () => {
  it('ends with the reason of its signal', async () => {
    const gpt = make();
    const controller = new AbortController();
    const stream = gpt.stream('the', { maxNewTokens: 1e6, seed: 1, signal: controller.signal });
    await stream.next();
    controller.abort(new Error('enough'));
    await expect(collect(stream)).rejects.toThrow('enough');
    gpt.dispose();
  });

  it('fails alone, with the code and the place of the call', async () => {
    const gpt = make();
    noGrad(() => gpt.tokenEmbedding.weight.select(0, 0).fill_(NaN));
    const good = gpt.generate('the', { maxNewTokens: 5, greedy: true });
    const failing = collect(gpt.generateTokens([0], { maxNewTokens: 5 }));
    const error = await failing.catch((caught: unknown) => caught);
    expect(error).toMatchObject({ name: 'TorchBindError', code: 'ERR_TORCHBIND_NONFINITE_LOGITS' });
    expect((error as Error).stack).toContain('in the worker thread:');
    expect(await good).toHaveLength(8);
    gpt.dispose();
  });

  it('leaves nothing, when it ends, is left, is never begun, or forgotten', async () => {
    const gpt = make();
    await gpt.generate('the', { maxNewTokens: 2 });
    const before = await memoryInUse();
    await gpt.generate('the', { maxNewTokens: 5 });
    await collect(gpt.stream('the', { maxNewTokens: 50 }), 2);
    gpt.stream('the');
    await (async () => void (await gpt.stream('the', { seed: 1 }).next()))();
    expect(await memoryInUse()).toEqual(before);
    gpt.dispose();
  });

  it('continues between the updates of a training run', async () => {
    const gpt = make();
    const training = gpt.fit({ text, batchSize: 4, maxSteps: 20, evalInterval: 0 });
    const [a, b, { stopped }] = await Promise.all([
      gpt.generate('the', { maxNewTokens: 20, seed: 1 }),
      gpt.generate('fox', { maxNewTokens: 20 }),
      training,
    ]);
    expect([a.length, b.length, stopped]).toEqual([23, 23, 'done']);
    expect(gpt.modules().every((module) => module.training)).toBe(true);
    gpt.dispose();
  });

  it('is computed here where the program has changed the model', async () => {
    const gpt = make();
    let calls = 0;
    const norm = gpt.lnF;
    norm.forward = (input: Tensor) => {
      calls++;
      return LayerNorm.prototype.forward.call(norm, input);
    };
    await gpt.generate('the', { maxNewTokens: 3 });
    expect(calls).toBe(3);
    gpt.dispose();
  });
});
