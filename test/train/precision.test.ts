/** Mixed precision and activation checkpointing change what training costs, and what it computes only as they say. */
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { type FitOptions, optim, tensor } from '../../lib';
import { Parameter } from '../../lib/nn';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { dispose, tidy } from '../../lib/tensor/scope';
import { CharTokenizer } from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);
const options: FitOptions = { text, batchSize: 4, maxSteps: 4, evalInterval: 0, seed: 7, learningRate: 1e-2 };

beforeAll(() => setNumThreads(1));

async function trained(more: Partial<FitOptions>): Promise<{ losses: number[]; weights: unknown }> {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  const config = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 32, dropout: 0.2 };
  const model = new GPT(config, { tokenizer });
  onTestFinished(() => {
    dispose(model.optimizer?.state);
    model.dispose();
  });
  const { losses } = await model.fit({ ...options, ...more });
  return { losses, weights: tidy(() => [...model.stateDict().values()].map((value) => value.tolist())) };
}

describe('activation checkpointing', () => {
  it('gives the same losses and weights bit for bit, with dropout', async () => {
    expect(await trained({ activationCheckpointing: true })).toEqual(await trained({}));
    const lower = { precision: 'bfloat16', gradAccumulation: 2 } as const;
    expect(await trained({ ...lower, activationCheckpointing: true })).toEqual(await trained(lower));
  });
});

describe('a loss in chunks', () => {
  it('gives the losses of the logits all at once, but for rounding', async () => {
    const [{ losses: chunked }, { losses: whole }] = [await trained({ chunkedLoss: true }), await trained({})];
    expect(chunked.length).toBe(whole.length);
    chunked.forEach((loss, i) => expect(loss).toBeCloseTo(whole[i]!, 5));
  });

  it('is computed all at once under autocast', async () => {
    const lower = { precision: 'bfloat16' } as const;
    expect(await trained({ ...lower, chunkedLoss: true })).toEqual(await trained(lower));
  });
});

describe('lower precision', () => {
  it.each(['bfloat16', 'float16'] as const)('%s trains, close to float32 and not equal to it', async (precision) => {
    const [{ losses: full }, { losses: lower }] = [await trained({}), await trained({ precision })];
    expect(lower).not.toEqual(full);
    // Eight bits of significand; four updates.
    lower.forEach((loss, i) => expect(Math.abs(loss - full[i]!)).toBeLessThan(0.05));
  });
});

describe('GradScaler', () => {
  it('leaves out the updates and adapts its scale as in PyTorch', { timeout: pythonTimeout }, async () => {
    const output = await pythonCode(`
import json, torch
p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
optimizer = torch.optim.SGD([p], lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
seen = []
for factor in [1.0, float("inf"), 1.0, 2.0, 3.0, float("nan"), 1.0]:
    optimizer.zero_grad()
    scaler.scale((p * p).sum() * factor).backward()
    scaler.step(optimizer)
    scaler.update()
    seen.append([p.tolist(), scaler.get_scale(), scaler._get_growth_tracker()])
print(json.dumps(seen))`);
    const p = new Parameter(tensor([1, 2], { dtype: 'float32' }));
    const optimizer = new optim.SGD([p], { lr: 0.1 });
    const scaler = new optim.GradScaler({ initScale: 8, growthInterval: 2 });
    const seen = [1, Infinity, 1, 2, 3, NaN, 1].map((factor) =>
      tidy(() => {
        optimizer.zeroGrad();
        scaler.scale(p.mul(p).sum().mul(factor)).backward();
        scaler.step(optimizer);
        scaler.update();
        const { scale, growthTracker } = scaler.getState();
        return [p.tolist(), scale, growthTracker];
      }),
    );
    optimizer.zeroGrad();
    p.dispose();
    expect(seen).toEqual(JSON.parse(output));
  });
});
