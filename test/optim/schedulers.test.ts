import { describe, expect, it } from 'vitest';
import { optim } from '../../lib';
import { pythonCode, pythonTimeout } from '../helpers/python';

const { constant, cosine, linear } = optim.schedulers;

describe('schedules', () => {
  it('are those of nanoGPT and of PyTorch', { timeout: pythonTimeout }, async () => {
    const steps = Array.from({ length: 30 }, (_, i) => i);
    const output = await pythonCode(`
import json, math, torch
def nano(it, warmup=5, decay=20, lr=1.0, low=0.1):
    if it < warmup: return lr * (it + 1) / (warmup + 1)
    if it > decay: return low
    ratio = (it - warmup) / (decay - warmup)
    return low + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (lr - low)
parameter = torch.nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([parameter], lr=1.0)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.25, total_iters=20)
rates = []
for _ in range(30):
    rates.append(optimizer.param_groups[0]["lr"])
    optimizer.step()
    scheduler.step()
print(json.dumps([[nano(i) for i in range(30)], rates]))`);
    const expected = JSON.parse(output) as number[][];
    const close = (a: number[], b: number[]): void => a.forEach((value, i) => expect(value).toBeCloseTo(b[i]!, 12));
    close(steps.map(cosine({ warmup: 5, steps: 20, min: 0.1 })), expected[0]!);
    close(steps.map(linear({ steps: 20, min: 0.25 })), expected[1]!);
    expect(steps.slice(0, 4).map(constant({ warmup: 3 }))).toEqual([0.25, 0.5, 0.75, 1]);
  });

  it('refuse what makes none', () => {
    expect(() => cosine({ warmup: 5, steps: 5 })).toThrow('steps must be an integer above warmup (5)');
    expect(() => linear({ steps: 5, min: 2 })).toThrow('min must be from 0 to 1');
    expect(() => constant({ warmup: -1 })).toThrow('warmup must be');
  });
});
