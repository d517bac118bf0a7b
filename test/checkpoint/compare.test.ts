/** Distances of checkpoints, against Python's on the same files. */
import path from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { compare, type Comparison, formatComparison } from '../../lib/checkpoint';
import { CheckpointManager, GPT } from '../../lib/gpt';
import { load, save } from '../../lib/formats/pt';
import { saveSafetensors } from '../../lib/formats/safetensors';
import { manualSeed } from '../../lib/tensor/random';
import { tensor, zeros } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { dispose, memory, tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonCode, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

const root = sharedTemporaryDirectory();
const at = (...names: string[]): string => path.join(root, ...names);

const script = `
import json, sys, torch
a, b = (torch.load(path, weights_only=True) for path in sys.argv[1:3])
found = {}
for name in a:
    x, y = a[name].double().flatten(), b[name].double().flatten()
    d = x - y
    found[name] = [d.norm().item(), d.abs().max().item(), (d.norm() / x.norm()).item(), torch.cosine_similarity(x, y, dim=0).item()]
print(json.dumps(found))`;

beforeAll(async () => {
  setNumThreads(1);
  manualSeed(1);
  const manager = new CheckpointManager('run', { root, keep: { last: 9 } });
  const text = 'the quick brown fox. '.repeat(40);
  const config = { blockSize: 8, nLayer: 2, nHead: 2, nEmbd: 16, dropout: 0 };
  const { model } = await manager.initializeForTraining({ config, tokenization: 'char', text });
  await model.fit({
    text,
    batchSize: 2,
    maxSteps: 6,
    evalInterval: 0,
    saveEvery: 3,
    keep: { last: 9 },
    checkpointDir: manager.checkpointDir,
    metrics: false,
  });
  dispose(model.optimizer?.state);
  model.dispose();
});

async function compareDicts(a: Record<string, Tensor>, b: Record<string, Tensor>): Promise<Comparison> {
  onTestFinished(() => dispose([a, b]));
  return compare(new Map(Object.entries(a)), new Map(Object.entries(b)));
}

describe('compare', () => {
  it('gives the distances that Python computes', { timeout: pythonTimeout }, async () => {
    const before = memory();
    const found = await new CheckpointManager('run', { root }).compare(3, 6);
    expect(memory()).toEqual(before);
    const steps = ['00000003', '00000006'].map((step) => at('run/steps', step, 'model.pt'));
    const python = JSON.parse(await pythonCode(script, steps)) as Record<string, number[]>;
    expect(found.tensors.map(({ name }) => name)).toEqual(Object.keys(python));
    for (const { name, l2, maxAbs, relative, cosine } of found.tensors) {
      // Sums in float64, in another order: a few units of 2^-53.
      const close = python[name]!.map((value) => expect.closeTo(value, 12) as number);
      expect([l2, maxAbs, relative, cosine], name).toEqual(close);
    }
    expect([found.onlyInA, found.onlyInB, found.shapesDiffer]).toEqual([[], [], []]);
    expect(found.totals.equal).toBe(false);
    // The masks are all that training does not move.
    const masks = found.tensors.filter(({ name }) => name.endsWith('.tril'));
    expect(found.totals.equalTensors).toBe(masks.length);
    expect(masks.every(({ equal, l2 }) => equal && l2 === 0)).toBe(true);
    const squares = found.tensors.reduce((sum, { l2 }) => sum + l2 ** 2, 0);
    expect(found.totals.l2).toBeCloseTo(Math.sqrt(squares), 10);
  });

  it('opens each form that weights are kept in', async () => {
    const model = await GPT.load(at('run'));
    const weights = model.stateDict();
    onTestFinished(() => {
      dispose(weights);
      model.dispose();
    });
    await save(new Map<string, unknown>([['model_state_dict', weights], ['step', 6], ['config', new Map()]]), at('single.pt')); // prettier-ignore
    await save(
      new Map<string, unknown>([
        ['model', weights],
        ['model_args', new Map()],
      ]),
      at('ckpt.pt'),
    );
    await saveSafetensors(weights as Map<string, Tensor>, at('w.safetensors'), { tied: 'copy' });
    for (const form of ['run/steps/00000006', 'run/model.pt', 'single.pt', 'ckpt.pt', 'w.safetensors']) {
      const { totals, onlyInA, onlyInB } = await compare(at('run'), at(form));
      expect([form, totals.equal, totals.l2, onlyInA, onlyInB]).toEqual([form, true, 0, [], []]);
    }
    expect((await compare(weights, at('run'))).totals.equal).toBe(true);
  });

  it('tells what only one has, and what has another shape or dtype', async () => {
    const found = await compareDicts(
      { same: tensor([1.5, -2]), gone: zeros([2]), shape: zeros([2, 3]), kind: tensor([1.5, 2]) },
      {
        kind: tensor([1.5, 2], { dtype: 'float64' }),
        same: tensor([1.5, -2]),
        shape: zeros([3, 2]),
        added: zeros([1]),
      },
    );
    expect(found.tensors.map(({ name, equal, l2 }) => [name, equal, l2])).toEqual([
      ['same', true, 0],
      ['kind', false, 0],
    ]);
    expect([found.onlyInA, found.onlyInB]).toEqual([['gone'], ['added']]);
    expect(found.shapesDiffer).toEqual([{ name: 'shape', a: [2, 3], b: [3, 2] }]);
    expect(found.totals).toMatchObject({ tensors: 2, equalTensors: 1, equal: false, elements: 4 });
  });

  it('holds on to the meaning of its numbers at the edges', async () => {
    const found = await compareDicts(
      { zero: zeros([3]), nan: tensor([NaN, 1]), sign: tensor([0]).to('float32'), empty: zeros([0]), mask: tensor([true, false]) }, // prettier-ignore
      { zero: tensor([0, 3, 4]).to('float32'), nan: tensor([NaN, 1]), sign: tensor([-0.0]), empty: zeros([0]), mask: tensor([true, true]) }, // prettier-ignore
    );
    const rows = found.tensors.map(({ name, equal, l2, maxAbs, relative, cosine }) => [name, equal, l2, maxAbs, relative, cosine]); // prettier-ignore
    expect(rows).toEqual([
      ['zero', false, 5, 4, null, null],
      ['nan', true, 0, 0, 0, NaN],
      ['sign', false, 0, 0, 0, null],
      ['empty', true, 0, 0, 0, null],
      ['mask', false, 1, 1, 1, expect.closeTo(Math.SQRT1_2, 12)],
    ]);
  });

  it('compares what lies in several dtypes, and complex numbers', async () => {
    const half = tensor([1, 2, 3]).to('float16');
    const complex = tidy(() => tensor([1, 2, 3, 4]).to('float32').reshape([2, 2]).to('complex64'));
    const found = await compareDicts(
      { half, complex },
      { half: tensor([1, 2, 5]).to('bfloat16'), complex: complex.mul(2) },
    );
    expect(found.tensors.map(({ name, l2 }) => [name, l2])).toEqual([
      ['half', 2],
      ['complex', Math.sqrt(30)],
    ]);
  });

  it('counts tied weights once in the totals', async () => {
    const [a, b] = [tensor([3, 4]).to('float32'), zeros([2])];
    onTestFinished(() => dispose([a, b]));
    const found = await compare(new Map([['wte', a], ['head', a]]), new Map([['wte', b], ['head', b]])); // prettier-ignore
    expect([found.tensors.length, found.totals.elements, found.totals.l2]).toEqual([2, 2, 5]);
  });

  it('adds up over the pieces that a large tensor is compared in', async () => {
    const far = 2 ** 23 + 5; // in the third piece
    const a = zeros([2 ** 23 + 10]);
    const b = tidy(() => a.clone().indexFill(0, tensor([0, 2 ** 22, far]), 2));
    const { tensors } = await compareDicts({ a }, { a: b });
    expect(tensors[0]).toMatchObject({ equal: false, l2: Math.sqrt(12), maxAbs: 2, relative: null });
  });

  it('refuses what is no checkpoint, by name', async () => {
    await expect(compare(at('nothing'), at('run'))).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_OPEN' });
    await expect(compare(temporaryDirectory(), at('run'))).rejects.toMatchObject({
      code: 'ERR_TORCHBIND_CHECKPOINT_OPEN',
    });
    await expect(compare(5 as never, at('run'))).rejects.toThrow(/compare: expected the path .* model\.stateDict\(\)/);
    await expect(new CheckpointManager('run', { root }).compare(3, 7)).rejects.toThrow(/no bundle of step 7/);
    await expect(compare(at('run'), at('run'), { signal: AbortSignal.abort() })).rejects.toThrow(/aborted/);
    await save(new Map([['step', 1]]), at('none.pt'));
    await expect(compare(at('none.pt'), at('run'))).rejects.toThrow(/none\.pt: it holds no state dict\. Its keys are step/); // prettier-ignore
    expect(await load(at('none.pt'))).toEqual(new Map([['step', 1]]));
  });
});

describe('formatComparison', () => {
  it('is a table with the totals, and what was not compared', async () => {
    const found = await compareDicts(
      { 'h.0.w': tensor([[3, 4]]).to('float32'), 'h.1.w': tensor([[1, 0]]).to('float32'), old: zeros([1]) },
      { 'h.0.w': zeros([1, 2]), 'h.1.w': tensor([[1, 0]]).to('float32'), 'new\u001b[2J': zeros([1]) },
    );
    expect(formatComparison(found)).toBe(
      [
        'tensor  shape          L2  largest  relative    cosine',
        'h.0.w   [1, 2]      5.000    4.000     1.000         -',
        'h.1.w   [1, 2]          0        0         0  1.000000  equal',
        'total   4 elements  5.000    4.000    0.9806  0.196116',
        '1 of 2 tensors equal',
        'only in the first: old',
        'only in the second: new\\u{1b}[2J',
      ].join('\n'),
    );
    expect(formatComparison(found, { tensors: 1 })).toMatch(/h\.0\.w .*\ntotal .*\n1 tensor that differ less/);
  });
});
