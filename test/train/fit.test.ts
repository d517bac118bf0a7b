import { existsSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { TokenStream } from '../../lib/data';
import { GPT } from '../../lib/gpt/gpt';
import { layoutNames } from '../../lib/models';
import { Parameter } from '../../lib/nn/parameter';
import { AdamW, SGD } from '../../lib/optim';
import { ones } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { getRngState, manualSeed } from '../../lib/tensor/random';
import { CharTokenizer } from '../../lib/tokenizers';
import { memoryInUse } from '../helpers/garbage';
import { temporaryDirectory } from '../helpers/tmp';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);
const quiet = { batchSize: 4, evalInterval: 0 };

beforeAll(() => setNumThreads(1)); // Models this small gain nothing from more.

function makeGpt(dropout = 0): GPT {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  const config = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 16, dropout };
  return new GPT(config, { tokenizer });
}

function weightsOf(gpt: GPT): unknown {
  return [...gpt.stateDict()].map(([key, tensor]) => [key, tensor.tolist()]);
}

describe('fit', () => {
  it('learns: the loss on text it has not seen falls', async () => {
    const gpt = makeGpt();
    const { losses, trainLoss, valLoss, stopped, step } = await gpt.fit({
      text,
      batchSize: 8,
      maxSteps: 80,
      learningRate: 1e-2,
      evalInterval: 0,
      seed: 1,
    });
    expect([losses.length, step, stopped, trainLoss, valLoss]).toEqual([80, 80, 'done', null, null]);
    expect(losses.at(-1)).toBeLessThan(0.6 * losses[0]!);
  });

  it('gives the same losses and weights from the same seed, with dropout', async () => {
    const run = async (): Promise<unknown> => {
      const gpt = makeGpt(0.3);
      const { losses } = await gpt.fit({ text, ...quiet, maxSteps: 5, seed: 7 });
      return [losses, weightsOf(gpt)];
    };
    expect(await run()).toEqual(await run());
  });

  it('evaluates without changing what training computes', async () => {
    const run = async (evalInterval: number): Promise<number[]> => {
      const gpt = makeGpt(0.3);
      return (await gpt.fit({ text, batchSize: 4, maxSteps: 6, evalInterval, evalSteps: 2, seed: 7 })).losses;
    };
    expect(await run(2)).toEqual(await run(0));
  });

  it('reports evaluations before every interval and at the end', async () => {
    const gpt = makeGpt();
    const evaluations: number[] = [];
    const steps: number[] = [];
    const result = await gpt.fit({
      text,
      batchSize: 2,
      maxSteps: 5,
      evalInterval: 2,
      evalSteps: 2,
      startStep: 100,
      onEval: ({ step, trainLoss, valLoss }) => {
        evaluations.push(step);
        expect(trainLoss).toBeGreaterThan(0);
        expect(valLoss).toBeGreaterThan(0);
      },
      onStep: ({ step, tokensPerSecond }) => {
        steps.push(step);
        expect(tokensPerSecond).toBeGreaterThan(0);
      },
    });
    expect(evaluations).toEqual([100, 102, 104, 105]);
    expect(steps).toEqual([101, 102, 103, 104, 105]);
    expect(result.step).toBe(105);
    expect(result.valLoss).not.toBeNull();
  });

  it('has no validation loss where the validation part holds no window', async () => {
    const data = new TokenStream(new Int32Array(60), { validationFraction: 0.1 });
    const result = await makeGpt().fit({ data, batchSize: 2, maxSteps: 1, evalSteps: 1 });
    expect([typeof result.trainLoss, result.valLoss]).toEqual(['number', null]);
  });

  it('continues with the same optimizer when it is called again', async () => {
    const twice = makeGpt();
    const first = await twice.fit({ text, ...quiet, maxSteps: 3, learningRate: 1e-2, seed: 1 });
    const second = await twice.fit({ text, ...quiet, maxSteps: 2, seed: 2 });
    expect(second.optimizer).toBe(first.optimizer);
    expect([second.step, twice.step, second.optimizer.paramGroups[0]!.lr]).toEqual([5, 5, 1e-2]);
    expect([...second.optimizer.state.values()][0]!.get('step')).toHaveProperty('shape', []);
  });

  it('trains with the optimizer that it is given, at its learning rate unless told another', async () => {
    const gpt = makeGpt();
    const optimizer = new SGD(gpt.parameters(), { lr: 0.5 });
    const { optimizer: used } = await gpt.fit({ text, ...quiet, maxSteps: 1, optimizer });
    expect(used).toBe(optimizer);
    expect(optimizer.paramGroups[0]!.lr).toBe(0.5);
    await gpt.fit({ text, ...quiet, maxSteps: 1, learningRate: 0.25 });
    expect(optimizer.paramGroups[0]!.lr).toBe(0.25);
  });

  it('clips gradients: an update of plain descent is no longer than gradClip', async () => {
    const gpt = makeGpt();
    const before = gpt.parameters().map((parameter) => parameter.detach().clone());
    const optimizer = new SGD(gpt.parameters(), { lr: 1 });
    await gpt.fit({ text, ...quiet, maxSteps: 1, optimizer, gradClip: 0.01 });
    const squares = gpt
      .parameters()
      .map((parameter, i) => Number(parameter.detach().sub(before[i]!).pow(2).sum().item()));
    expect(Math.sqrt(squares.reduce((a, b) => a + b, 0))).toBeCloseTo(0.01, 4);
  });

  it('stops at the end of a step when aborted, and saves where told', async () => {
    const gpt = makeGpt();
    const directory = path.join(temporaryDirectory(), 'run');
    const controller = new AbortController();
    const result = await gpt.fit({
      text,
      ...quiet,
      maxSteps: 1000,
      signal: controller.signal,
      checkpointDir: directory,
      onStep: ({ step }) => step === 3 && controller.abort(),
    });
    expect([result.stopped, result.step, result.losses.length]).toEqual(['aborted', 3, 3]);
    const saved = await GPT.load(directory);
    expect(saved.step).toBe(3);
    expect(weightsOf(saved)).toEqual(weightsOf(gpt));
    expect(gpt.training).toBe(true);
  });

  it('does nothing when it was aborted before', async () => {
    const gpt = makeGpt();
    const before = weightsOf(gpt);
    const result = await gpt.fit({ text, ...quiet, maxSteps: 5, signal: AbortSignal.abort() });
    expect([result.stopped, result.step]).toEqual(['aborted', 0]);
    expect(weightsOf(gpt)).toEqual(before);
  });

  it('saves after every interval and at the end, each once', async () => {
    const directory = path.join(temporaryDirectory(), 'run');
    const saves: number[] = [];
    const onSave = ({ step }: { step: number }): void => void saves.push(step);
    const options = { text, ...quiet, checkpointDir: directory, saveEvery: 2, onSave };
    const gpt = makeGpt();
    await gpt.fit({ ...options, maxSteps: 5 });
    await gpt.fit({ ...options, maxSteps: 3 });
    expect(saves).toEqual([2, 4, 5, 6, 8]);
    expect(existsSync(path.join(directory, 'optimizer.pt'))).toBe(true);
  });

  it('refuses a loss that is no number, before it spoils the weights', async () => {
    const gpt = makeGpt();
    gpt.lnF.weight!.detach().fill_(Infinity);
    const before = JSON.stringify(weightsOf(gpt));
    await expect(gpt.fit({ text, ...quiet, maxSteps: 5, startStep: 12 })).rejects.toThrow(
      /loss is NaN after 12 updates/,
    );
    expect(JSON.stringify(weightsOf(gpt))).toBe(before);
  });

  it('keeps no tensors but the optimizer state', async () => {
    const gpt = makeGpt();
    const { optimizer } = await gpt.fit({ text, ...quiet, maxSteps: 2 });
    const before = await memoryInUse();
    await gpt.fit({ text, batchSize: 4, maxSteps: 4, evalInterval: 2, evalSteps: 2 });
    expect(await memoryInUse()).toEqual(before);
    expect(optimizer.state.size).toBe(gpt.parameters().length);
  });

  it('lets other work run between steps, generation with the same model too', async () => {
    const gpt = makeGpt();
    const training = gpt.fit({ text, ...quiet, maxSteps: 30 });
    const generated = await gpt.generate('the', { maxNewTokens: 5, seed: 1 });
    expect(generated).toHaveLength(8);
    expect((await training).stopped).toBe('done');
    expect(gpt.modules().every((module) => module.training)).toBe(true);
  });

  it('refuses to train one model twice at a time', async () => {
    const gpt = makeGpt();
    const training = gpt.fit({ text, ...quiet, maxSteps: 2 });
    await expect(gpt.fit({ text, ...quiet, maxSteps: 2 })).rejects.toThrow(/already being trained/);
    await training;
  });

  it('leaves the mode of the model and the default generator as they were, as far as it says', async () => {
    const gpt = makeGpt();
    gpt.eval();
    manualSeed(5);
    const state = getRngState().tolist();
    await gpt.fit({ text, ...quiet, maxSteps: 1, seed: 5 });
    expect(gpt.training).toBe(false);
    expect(getRngState().tolist()).toEqual(state);
  });

  it.each([
    [{ text, maxStep: 5 }, /Did you mean 'maxSteps'/],
    [{ text, lr: 1e-3 }, /Did you mean 'learningRate'/],
    [{ text, max_grad_norm: 1 }, /Did you mean 'gradClip'/],
    [{ text, onSave: () => undefined }, /'onSave' has no effect without checkpointDir/],
    [{ text, keep: { last: 1 } }, /'keep' has no effect without checkpointDir/],
    [{ text, evalInterval: 0, patience: 3 }, /'patience' has no effect with evalInterval: 0/],
    [{ text, minLearningRate: 1e-5 }, /'minLearningRate' has no effect with the constant schedule/],
    [{ text, schedule: () => 1, warmupSteps: 5 }, /'warmupSteps' has no effect besides a schedule that is a function/],
    [
      { text, weightDecay: 0.1, optimizer: new SGD([new Parameter(ones([1]))], { lr: 1 }) },
      /'weightDecay' is for the AdamW that fit makes/,
    ],
    [{}, /either 'text' or 'data'/],
    [{ text, data: new TokenStream(new Int32Array(100)) }, /either 'text' or 'data'/],
    [{ text: 'short' }, /at least 17 tokens/],
    [{ text: 'Ünknown'.repeat(50) }, /"Ü" \(U\+00DC\) at position 0/],
    [{ data: new TokenStream(new Int32Array(100).fill(99)) }, /token id 99/],
    [{ text, maxSteps: 1.5 }, /maxSteps must be an integer/],
    [{ text, batchSize: 0 }, /batchSize must be an integer of at least 1/],
    [{ text, learningRate: NaN }, /learningRate must be/],
    [{ text, gradClip: -1 }, /gradClip must be/],
    [{ text, saveEvery: 5 }, /saveEvery needs checkpointDir/],
  ])('refuses options that make no sense: %#', async (options, message) => {
    await expect(makeGpt().fit(options as never)).rejects.toThrow(message);
  });

  it('prints a line for each evaluation if there is no terminal, and nothing unless asked', async () => {
    const lines: string[] = [];
    const write = vi.spyOn(process.stderr, 'write').mockImplementation((line) => lines.push(String(line)) > 0);
    vi.stubEnv('CI', 'true');
    try {
      const options = { text, batchSize: 2, maxSteps: 2, evalInterval: 1, evalSteps: 1 };
      await makeGpt().fit(options);
      expect(lines).toEqual([]);
      await makeGpt().fit({ ...options, progressBar: true });
    } finally {
      write.mockRestore();
      vi.unstubAllEnvs();
    }
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^step 0\/2: train loss \d\.\d{4}, validation loss \d\.\d{4}\n$/);
    expect(lines[2]).toMatch(/^step 2\/2: .* tokens\/s\n$/);
  });
});

describe('the optimizer that fit makes', () => {
  const groupsOf = ({ paramGroups }: AdamW): unknown =>
    paramGroups.map(({ params, weightDecay, betas }) => [params.length, weightDecay, betas]);

  it.each(layoutNames)('has the groups and defaults of gpt.makeOptimizer(): %s', async (layout) => {
    manualSeed(1);
    const tokenizer = CharTokenizer.fromText(text);
    const config = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 1, nHead: 2, nEmbd: 8, dropout: 0 };
    const gpt = new GPT(config, { tokenizer, layout });
    const { optimizer } = await gpt.fit({ text, ...quiet, maxSteps: 1, seed: 1 });
    expect(groupsOf(optimizer as AdamW)).toEqual(groupsOf(gpt.makeOptimizer()));
  });

  it('has what the options say, and leaves frozen parameters out', async () => {
    const tokenizer = CharTokenizer.fromText(text);
    const config = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 16, dropout: 0 };
    const gpt = new GPT(config, { tokenizer, layout: 'nanogpt' });
    gpt.tokenEmbedding.requiresGrad_(false);
    const options = { weightDecay: 0.2, betas: [0.8, 0.9], learningRate: 1e-2 } as const;
    const { optimizer } = await gpt.fit({ text, ...quiet, maxSteps: 1, ...options });
    expect(groupsOf(optimizer as AdamW)).toEqual([
      [9, 0.2, [0.8, 0.9]],
      [5, 0, [0.8, 0.9]],
    ]);
  });

  it('spares biases and norms from an explicit weight decay of a family with one group', async () => {
    const { optimizer } = await makeGpt().fit({ text, ...quiet, maxSteps: 1, weightDecay: 0.2 });
    expect(optimizer.paramGroups.map(({ weightDecay }) => weightDecay)).toEqual([0.2, 0]);
  });
});

describe('AdamW under fit', () => {
  it('makes the updates of a loop written by hand', async () => {
    const gpt = makeGpt();
    const data = new TokenStream(new Int32Array(17).fill(3), { validationFraction: 0 }); // one window
    const { losses } = await gpt.fit({ data, batchSize: 2, maxSteps: 3, evalInterval: 0, learningRate: 1e-3 });
    const other = makeGpt();
    const optimizer = new AdamW(other.parameters(), { lr: 1e-3 });
    const x = ones([2, 16], { dtype: 'int64' }).mul(3);
    const expected = Array.from({ length: 3 }, () => {
      const loss = other.forward(x, x).loss!;
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss.item();
    });
    expect(losses).toEqual(expected);
    expect(weightsOf(gpt)).toEqual(weightsOf(other));
  });
});
