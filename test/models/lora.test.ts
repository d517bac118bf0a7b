/** LoRA adapters: those of build_llm_karpathy's files, those of PEFT's directories, and those made here. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { load } from '../../lib/formats/pt';
import { GPT, type LoadModelOptions } from '../../lib/gpt/gpt';
import { applyLora, foldLora, mergeLora, unmergeLora } from '../../lib/models';
import { AdamW } from '../../lib/optim';
import { noGrad } from '../../lib/tensor/autograd';
import { dispose, tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonJson, pythonTimeout, runPython } from '../helpers/python';
import { expectClose, expectSameBits, maxDifference } from '../helpers/tensors';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

/** Float32: the sides sum in other orders (fused projections and adapters, SDPA). */
const TOLERANCE = 1e-5;

/** Updates that Python made before it saved. */
const BEFORE = 2;

const noDropout = { dropout: 0, attentionDropout: 0, embeddingDropout: 0 };

/** With what the files leave open. */
const CHECKPOINTS: Record<string, LoadModelOptions> = {
  'from scratch': {},
  'from scratch, before': { lora: { alpha: 6 } },
  gpt2: { lora: { alpha: 6 }, config: { nHead: 2, ...noDropout } },
};
const ADAPTERS = ['peft', 'peft rslora with head'];

const script = path.join(__dirname, 'lora.py');
const directory = sharedTemporaryDirectory();
const at = (...parts: string[]): string => path.join(directory, ...parts);
const base = at('base');

let batches: Tensor[];
let cases: Map<string, Map<string, unknown>>;

beforeAll(async () => {
  await runPython(script, ['make', directory]);
  const reference = (await load(at('reference.pt'))) as Map<string, unknown>;
  batches = (reference.get('batches') as Tensor).unbind(0);
  cases = reference.get('cases') as Map<string, Map<string, unknown>>;
}, pythonTimeout);

function update(model: GPT, optimizer: AdamW, batch: Tensor): number {
  return tidy(() => {
    const [idx, targets] = batch.unbind(0) as [Tensor, Tensor];
    const { loss } = model.forward(idx, targets);
    optimizer.zeroGrad();
    loss!.backward();
    optimizer.step();
    return Number(loss!.item());
  });
}

const lossOf = (model: GPT, batch: Tensor): number =>
  noGrad(() => {
    const [idx, targets] = batch.unbind(0) as [Tensor, Tensor];
    return Number(model.forward(idx, targets).loss!.item());
  });

const logitsOf = (model: GPT): Tensor => noGrad(() => model.forward(batches[BEFORE]!.select(0, 0)).logits);

const openAdapter = (name: string): Promise<GPT> => GPT.load(at(name), { base });

async function open(name: string): Promise<{ model: GPT; optimizer: AdamW }> {
  if (ADAPTERS.includes(name)) {
    const model = await openAdapter(name);
    return { model, optimizer: model.makeOptimizer({ lr: 1e-3, weightDecay: 0.01 }) };
  }
  const model = await GPT.load(at(name, 'model.pt'), { ...CHECKPOINTS[name], optimizer: true });
  return { model, optimizer: model.optimizer as AdamW };
}

function expectLosses(actual: readonly number[], expected: readonly number[], what: string): void {
  expect(actual.length).toBe(expected.length);
  actual.forEach((loss, i) => expect(Math.abs(loss - expected[i]!), `loss ${i} of ${what}`).toBeLessThan(TOLERANCE));
}

test.each([...Object.keys(CHECKPOINTS), ...ADAPTERS])(
  '%s: logits and losses of training are those of Python',
  async (name) => {
    const { model, optimizer } = await open(name);
    const reference = cases.get(name)!;
    expectClose(logitsOf(model), reference.get('logits') as Tensor, TOLERANCE, 'logits');
    const losses = batches.slice(BEFORE).map((batch) => update(model, optimizer, batch));
    expectLosses(losses, reference.get('losses') as number[], name);
  },
);

test(
  'what Node writes back says what it said, and continues in Python as here',
  async () => {
    const expected = new Map<string, number[]>();
    for (const name of [...Object.keys(CHECKPOINTS), ...ADAPTERS]) {
      const { model, optimizer } = await open(name);
      const peft = ADAPTERS.includes(name);
      const target = (where: string): string => at(name, peft ? where : `${where}.pt`);
      await model.save(target('unchanged'));
      batches.slice(BEFORE, BEFORE + 2).forEach((batch) => update(model, optimizer, batch));
      await model.save(target('trained'));
      const rest = peft ? batches : batches.slice(BEFORE + 2);
      expected.set(
        name,
        rest.map((batch) => (peft ? lossOf(model, batch) : update(model, optimizer, batch))),
      );
      model.dispose();
    }
    expected.set('fresh', await writeFresh());
    expected.set('folded', await writeFolded());
    const verdicts = await pythonJson<Record<string, { losses: number[]; differences: string[] }>>(script, [
      'judge',
      directory,
    ]);
    for (const [name, { losses, differences }] of Object.entries(verdicts)) {
      expect(differences, name).toEqual([]);
      expectLosses(losses, expected.get(name)!, name);
    }
    expect(Object.keys(verdicts).sort()).toEqual([...expected.keys()].sort());
  },
  pythonTimeout,
);

/** Adapters made here, of one block's MLP and all attention, for PEFT. */
async function writeFresh(): Promise<number[]> {
  const model = await GPT.load(base);
  const before = logitsOf(model);
  applyLora(model, { rank: 2, alpha: 4, targets: ['attn.qkv', 'attn.proj', 'blocks.1.mlp.down'] });
  expectSameBits(logitsOf(model), before, 'logits of fresh adapters');
  const optimizer = model.makeOptimizer({ lr: 1e-2 });
  batches.forEach((batch) => update(model, optimizer, batch));
  expect(maxDifference(logitsOf(model), before)).toBeGreaterThan(1e-3);
  await model.saveAdapter(at('fresh'));
  const again = await GPT.load(at('fresh')); // its base is the path that it names
  expectSameBits(logitsOf(again), logitsOf(model), 'logits of the adapter opened again');
  const losses = batches.map((batch) => lossOf(model, batch));
  dispose([...model.parameters(), ...again.parameters()]);
  return losses;
}

async function writeFolded(): Promise<number[]> {
  const model = await openAdapter('peft rslora with head');
  const before = logitsOf(model);
  foldLora(model);
  expect(model.lora).toBeNull();
  expectClose(logitsOf(model), before, TOLERANCE, 'logits with adapters in the weights');
  await model.save(at('folded'), { layout: 'hf-gpt2' });
  const losses = [lossOf(model, batches[0]!)];
  model.dispose();
  return losses;
}

describe('adapters', () => {
  test('train alone, but for embeddings and norms in build-llm', async () => {
    const trained = (model: GPT): string[] =>
      model.namedParameters().flatMap(([name, { requiresGrad }]) => (requiresGrad ? [name] : []));
    expect(trained(await openAdapter('peft')).every((name) => /lora[AB]$/.test(name))).toBe(true);
    const { model } = await open('from scratch');
    expect(trained(model)).toContain('tokenEmbedding.weight');
    expect(trained(model)).not.toContain('blocks.0.attn.qkv.weight');
  });

  test('merge for inference, and come apart again bit for bit', async () => {
    const { model } = await open('from scratch');
    const before = logitsOf(model);
    model.eval();
    mergeLora(model);
    expectClose(logitsOf(model), before, TOLERANCE, 'merged');
    unmergeLora(model);
    expectSameBits(logitsOf(model), before, 'unmerged');
    mergeLora(model);
    model.train();
    expectSameBits(logitsOf(model), before, 'training again');
  });

  test("of a model of one's own go into its bundle and come back", async () => {
    const model = new GPT({ vocabSize: 19, blockSize: 8, nEmbd: 8, nHead: 2, nLayer: 1, dropout: 0 });
    applyLora(model, { rank: 2, alpha: 3, rsLora: true, targets: ['attn.qkv', 'lmHead'] });
    const optimizer = model.makeOptimizer({ lr: 1e-2 });
    batches.forEach((batch) => update(model, optimizer, batch));
    model.setTraining(optimizer, batches.length);
    const target = temporaryDirectory();
    await model.saveCheckpointBundle(target, { keep: null });
    const again = await GPT.load(target, { optimizer: true });
    expectClose(logitsOf(again), logitsOf(model), 1e-6, 'logits');
    const next = (gpt: GPT): number[] => batches.map((batch) => update(gpt, gpt.optimizer as AdamW, batch));
    expectLosses(next(again), next(model), 'training on');
  });

  test('say what is wrong with them', async () => {
    await expect(GPT.load(at('from scratch, before', 'model.pt'))).rejects.toThrow(
      /adapters of rank 3 .* does not say alpha. Say it: { lora: { alpha: 6 } }/,
    );
    await expect(GPT.load(at('peft'), { base: at('peft', 'nowhere') })).rejects.toThrow(/cannot open/);
    await expect(GPT.load(at('peft'), { base: at('from scratch, before', 'model.pt') })).rejects.toThrow(
      /expected a plain model of Hugging Face as the base of an adapter/,
    );
    const model = await GPT.load(base);
    expect(() => applyLora(model, { rank: 0, alpha: 1 })).toThrow(/rank must be an integer of at least 1/);
    expect(() => applyLora(model, { rank: 2, alpha: 1, targets: ['attn.qvk'] })).toThrow(/Did you mean 'attn.qkv'/);
    await expect(model.saveAdapter(at('none'))).rejects.toThrow(/one without. applyLora/);
    const adapted = await openAdapter('peft');
    await expect(adapted.save(at('other'), { layout: 'nanogpt' })).rejects.toThrow(/foldLora/);
  });

  test.each([
    ['use_dora', true, /expected use_dora to be not set, got boolean true/],
    ['bias', 'all', /expected bias to be 'none'.*got string "all"/],
    ['rank_pattern', { c_attn: 4 }, /rank_pattern/],
    ['init_lora_weights', 'pissa', /init_lora_weights/],
    ['peft_type', 'IA3', /peft_type/],
    ['r', 4, /size mismatch/],
  ])('of PEFT with %s %j are refused by name', async (field, value, message) => {
    const target = temporaryDirectory();
    cpSync(at('peft'), target, { recursive: true });
    const file = path.join(target, 'adapter_config.json');
    const json = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(file, JSON.stringify({ ...json, [field]: value }));
    await expect(GPT.load(target, { base })).rejects.toThrow(message);
  });
});
