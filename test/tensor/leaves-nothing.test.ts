/**
 * What library functions leave behind, counted at once and without the garbage collector: nothing but what they give
 * to the caller and what the caller's model and optimizer hold from then on.
 */
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  CharTokenizer,
  CheckpointManager,
  dispose,
  fromTypedArray,
  getRngState,
  GPT,
  load,
  loadSafetensors,
  manualSeed,
  memory,
  nn,
  noGrad,
  optim,
  RandomWindows,
  randn,
  save,
  saveSafetensors,
  setNumThreads,
  setRngState,
  tensor,
  Tensor,
  tidy,
  TokenStream,
} from '../../lib/index';
import { temporaryDirectory } from '../helpers/tmp';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(10);
const quiet = { batchSize: 2, evalInterval: 0, seed: 1 };
/** Per parameter AdamW holds step, exp_avg and exp_avg_sq. */
const ADAMW = 3;

let gpt: GPT;
let parameters: number;

function makeGpt(): GPT {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  return new GPT({ vocabSize: tokenizer.vocabSize, blockSize: 8, nLayer: 1, nHead: 2, nEmbd: 8 }, { tokenizer });
}

beforeAll(() => {
  setNumThreads(1); // Models this small gain nothing from more.
  gpt = makeGpt();
  parameters = gpt.parameters().length;
});

/** Tensors that a call leaves alive. */
async function leaves(call: () => unknown): Promise<number> {
  const before = memory().numTensors;
  await call();
  return memory().numTensors - before;
}

describe('tensors', () => {
  const half = (): Tensor => tensor([1, 2, 3], { dtype: 'bfloat16' });

  test.each<[name: string, call: () => unknown, left: number]>([
    [
      'tensor()',
      () =>
        tensor([
          [1, 2],
          [3, 4],
        ]),
      1,
    ],
    ['tensor() in half precision', half, 1],
    ['fromTypedArray()', () => fromTypedArray(new Float32Array(2), [2]), 1],
    ['randn() with a dtype', () => randn([2], { dtype: 'float16' }), 1],
    ['to() of itself', () => gpt.parameters()[0]!.to('float32'), 1],
    ['getRngState() and setRngState()', () => setRngState(getRngState()), 1],
  ])('%s', async (_, call, left) => {
    expect(await leaves(call)).toBe(left);
  });

  test.each<[name: string, read: (tensor: Tensor) => unknown]>([
    ['tolist()', (t) => t.tolist()],
    ['toTypedArray()', (t) => t.toTypedArray()],
    ['item()', (t) => tidy(() => t.sum()).item()],
    ['toString()', (t) => String(t)],
    ['shape and the like', (t) => [t.shape, t.dtype, t.device, t.numel(), t.isContiguous(), t.requiresGrad]],
    ['operators that fail', (t) => expect(() => t.matmul(t.view(1, 3).add(1.5))).toThrow()],
  ])('reading: %s', async (_, read) => {
    for (const t of [tensor([1, 2, 3]), half(), tensor([1.5, 2, 3]), tensor([true, false, true])]) {
      expect(await leaves(() => tidy(() => void read(t)))).toBe(0);
      if (!/item|fail/.test(_)) expect(await leaves(() => read(t))).toBe(0);
    }
  });
});

describe('modules and optimizers', () => {
  test('a linear layer: its two parameters', async () => {
    let layer: nn.Linear | undefined;
    expect(await leaves(() => (layer = new nn.Linear(2, 3)))).toBe(2);
    expect(await leaves(() => layer!.to('float64'))).toBe(0);
    expect(await leaves(() => tidy(() => void layer!.loadStateDict(layer!.stateDict())))).toBe(0);
    expect(await leaves(() => layer!.dispose())).toBe(-2);
  });

  test('a model: its parameters', async () => {
    let made: GPT | undefined;
    expect(await leaves(() => (made = makeGpt()))).toBe(parameters);
    made!.dispose();
  });

  test('a state dict: its entries', async () => {
    const size = new Set(gpt.stateDict().values()).size; // masks are one tensor under several keys
    expect(await leaves(() => gpt.stateDict())).toBe(size);
  });

  test.each([
    ['AdamW', (model: GPT) => new optim.AdamW(model.parameters()), ADAMW],
    ['SGD with momentum', (model: GPT) => new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 }), 1],
  ])('steps of %s: its state, once', async (_, make, held) => {
    const model = makeGpt();
    const optimizer = make(model);
    const step = (): void =>
      tidy(() => {
        const [ids, targets] = [tensor([[1, 2, 3]]), tensor([[2, 3, 4]])];
        model.forward(ids, targets).loss!.backward();
      });
    step();
    expect(await leaves(() => optimizer.step())).toBe(held * parameters);
    expect(await leaves(() => optimizer.step())).toBe(0);
    expect(await leaves(() => optimizer.zeroGrad())).toBe(0);
    step();
    expect(await leaves(() => optim.clipGradNorm_(model.parameters(), 1))).toBe(1);
    expect(await leaves(() => optimizer.stateDict())).toBe(0);
    const saved = optimizer.stateDict();
    expect(await leaves(() => optimizer.loadStateDict(saved))).toBe(held * parameters); // the old ones go with the collector
    dispose(saved);
    dispose(optimizer.stateDict());
    model.dispose();
  });
});

describe('files', () => {
  const state = (): Map<string, Tensor> =>
    new Map([
      ['a', randn(3)],
      ['b', randn(2, 2)],
    ]);

  test('save() and load()', async () => {
    const file = path.join(temporaryDirectory(), 'a.pt');
    const saved = state();
    expect(await leaves(() => save(saved, file))).toBe(0);
    for (const mmap of [false, true]) expect(await leaves(() => load(file, { mmap }))).toBe(2);
    await expect(load(`${file}x`)).rejects.toThrow();
  });

  test('saveSafetensors() and loadSafetensors()', async () => {
    const file = path.join(temporaryDirectory(), 'a.safetensors');
    const saved = state();
    expect(await leaves(() => saveSafetensors(saved, file))).toBe(0);
    expect(await leaves(() => loadSafetensors(file))).toBe(2);
  });

  test('bundles of a model', async () => {
    const directory = path.join(temporaryDirectory(), 'model');
    expect(await leaves(() => gpt.save(directory))).toBe(0);
    let loaded: GPT | undefined;
    expect(await leaves(async () => (loaded = await GPT.load(directory)))).toBe(parameters);
    loaded!.dispose();
  });

  test('a checkpoint manager', async () => {
    const root = temporaryDirectory();
    const manager = new CheckpointManager('m', { root });
    const model = makeGpt();
    const { optimizer } = await model.fit({ text, ...quiet, maxSteps: 1 });
    expect(await leaves(() => manager.saveState({ model, optimizer, step: 1 }))).toBe(0);
    expect(await leaves(() => manager.saveWeightsForSampler({ model }))).toBe(0);
    let loaded: GPT | undefined;
    const inference = async (): Promise<unknown> => (loaded = await CheckpointManager.loadForInference('m', { root }));
    expect(await leaves(inference)).toBe(parameters);
    loaded!.dispose();
    const before = memory().numTensors;
    const resumed = await manager.initializeForTraining();
    expect(memory().numTensors - before).toBe((1 + ADAMW) * parameters);
    for (const { model: own, optimizer: state } of [resumed, { model, optimizer }]) {
      dispose(state.stateDict());
      own.dispose();
    }
    expect(memory().numTensors).toBe(before - (1 + ADAMW) * parameters);
  });
});

describe('training and generation', () => {
  test('fit(): the state of its optimizer, with evaluations and clipping too', async () => {
    const model = makeGpt();
    const options = { text, ...quiet, maxSteps: 2, gradClip: 1, evalInterval: 1, evalSteps: 1 };
    expect(await leaves(() => model.fit(options))).toBe(ADAMW * parameters);
    expect(await leaves(() => model.fit(options))).toBe(0);
    dispose(model.optimizer!.stateDict());
    model.dispose();
  });

  test('fit() that fails', async () => {
    const model = makeGpt();
    noGrad(() => tidy(() => model.parameters()[0]!.fill_(NaN)));
    expect(await leaves(() => expect(model.fit({ text, ...quiet, maxSteps: 2 })).rejects.toThrow(/loss/))).toBe(0);
    model.dispose();
  });

  test('generate() and stream(), to the end or not', async () => {
    const options = { maxNewTokens: 12, temperature: 0.5, topK: 3 };
    expect(await leaves(() => gpt.generate('the', options))).toBe(0);
    const first = async (): Promise<void> => {
      for await (const piece of gpt.stream('the', options)) if (piece.length > 0) return;
    };
    expect(await leaves(first)).toBe(0);
  });

  test('windows of a text: x and y', async () => {
    const windows = new RandomWindows(new TokenStream(new Int32Array(100)).train, { batchSize: 2, blockSize: 4 });
    expect(await leaves(() => windows.next())).toBe(2);
  });
});
