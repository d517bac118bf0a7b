/** CheckpointManager over files that real Python wrote, in all forms that the Python programs had. */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { CheckpointManager, GPT, type TrainingStart } from '../../lib/gpt';
import { load } from '../../lib/formats/pt';
import { AdamW } from '../../lib/optim';
import { tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { CharTokenizer } from '../../lib/tokenizers';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { expectSameBits } from '../helpers/tensors';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

const samples = sharedTemporaryDirectory();
const script = path.join(__dirname, '../checkpoint/samples.py');
const text = 'the quick brown fox jumps over the lazy dog. été\n'.repeat(20);
const quiet = { text, batchSize: 2, evalInterval: 0 };
let python: { logits: number[][][]; next: number[]; wrapped: number[]; wrapped_dtypes: Record<string, string> };

beforeAll(async () => {
  setNumThreads(1); // Models this small gain nothing from more.
  python = await pythonJson(script, ['write', samples]);
}, pythonTimeout);

/** A root of its own with copies of some of Python's models. */
function rootWith(...names: string[]): string {
  const root = temporaryDirectory();
  for (const name of names) cpSync(path.join(samples, name), path.join(root, name), { recursive: true });
  return root;
}

function update({ model, optimizer }: Pick<TrainingStart, 'model' | 'optimizer'>): number {
  return tidy(() => {
    const x = tensor([[0, 1, 2, 3, 4, 5, 6, 7]]);
    const { loss } = model.forward(x, x.add(1));
    optimizer.zeroGrad();
    loss!.backward();
    optimizer.step();
    return Number(loss!.item());
  });
}

function logitsOf(model: GPT): number[] {
  model.eval();
  return tidy(() => model.forward(tensor([[0, 1, 2, 3, 4, 5, 6, 7]])).logits.tolist() as number[][][]).flat(2);
}

function expectClose(actual: number[], expected: number[], tolerance = 1e-5): void {
  expect(actual).toHaveLength(expected.length);
  actual.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(tolerance));
}

describe('loadForInference', () => {
  it.each(['python', 'extra', 'old', 'finished'])('opens %s with the logits of Python', async (name) => {
    const model = await CheckpointManager.loadForInference(name, { root: samples });
    expectClose(logitsOf(model), python.logits.flat(2));
    expect(model.tokenizer!.decode(model.tokenizer!.encode('été'))).toBe('été');
  });

  it('opens weights that lie in a dict with notes, in another dtype', async () => {
    const model = await CheckpointManager.loadForInference('wrapped', { root: samples });
    expectClose(logitsOf(model), python.logits.flat(2), 0.1);
  });

  it('writes weights in a dict with notes back as they came, in their dtype, to the bit', async () => {
    const file = path.join(samples, 'wrapped/model.pt');
    const target = path.join(temporaryDirectory(), 'model.pt');
    await (await GPT.load(file)).save(target);
    const [before, after] = (await Promise.all([load(file), load(target)])) as Map<string, unknown>[];
    expect([...after!.keys()]).toEqual([...before!.keys()]);
    expect([after!.get('checkpoint_dtype'), after!.get('model_dtype')]).toEqual(['bf16', 'fp32']);
    const [weights, written] = [before, after].map((value) => value!.get('state_dict') as Map<string, Tensor>);
    expect([...written!.keys()]).toEqual([...weights!.keys()]);
    for (const [key, weight] of weights!) expectSameBits(written!.get(key)!, weight, key);
  });

  it('writes weights in another dtype with the bits that Python casts them to', async () => {
    const target = path.join(temporaryDirectory(), 'model.pt');
    await (await GPT.load(path.join(samples, 'python/model.pt'))).save(target, { dtype: 'bfloat16' });
    const cast = (await load(target)) as Map<string, Tensor>;
    const python = (await load(path.join(samples, 'wrapped/model.pt'))) as Map<string, Map<string, Tensor>>;
    expect([...cast.keys()]).toEqual([...python.get('state_dict')!.keys()]);
    for (const [key, weight] of python.get('state_dict')!) expectSameBits(cast.get(key)!, weight, key);
  });

  it('opens the single file that it is told, beside a bundle', async () => {
    const root = rootWith('python');
    cpSync(path.join(samples, 'finished/final.pt'), path.join(root, 'python/elsewhere.pt'));
    const options = { root, legacyCheckpoint: 'elsewhere.pt' };
    const model = await CheckpointManager.loadForInference('python', options);
    expect(model.step).toBeNull();
  });

  it('says what it looked for if there is nothing', async () => {
    const open = CheckpointManager.loadForInference('nobody', { root: samples });
    await expect(open).rejects.toThrow(
      /no checkpoint of 'nobody'.*model\.pt with config\.json nor latest\.pt, final\.pt or ckpt\.pt/,
    );
    const legacy = CheckpointManager.loadForInference('python', { root: samples, legacyCheckpoint: 'no.pt' });
    await expect(legacy).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_OPEN' });
  });
});

describe('initializeForTraining', () => {
  it.each(['python', 'old'])('resumes %s as Python would: same step, same next losses', async (name) => {
    const manager = new CheckpointManager(name, { root: samples });
    const start = await manager.initializeForTraining({ config: { nLayer: 99 }, text, learningRate: 123 });
    expect([start.mode, start.startStep, start.model.config.nLayer]).toEqual(['resume', 3, 2]);
    expect(start.optimizer.paramGroups[0]!.lr).toBe(1e-2);
    expectClose([update(start), update(start)], python.next);
  });

  it('resumes weights in bfloat16 as Python does from that file: in float32, with the bits that the file has', async () => {
    const start = await new CheckpointManager('wrapped', { root: samples }).initializeForTraining();
    const dtypes = [...start.model.parameters()].map(({ dtype }) => dtype);
    expect(new Set(dtypes)).toEqual(new Set(['float32']));
    expectClose([update(start), update(start)], python.wrapped);
    // The bits that bfloat16 has no room for are gone: it is not the run that went on.
    expect(python.wrapped[0]).not.toBe(python.next[0]);
  });

  it('starts from another model: its weights and vocabulary, a fresh optimizer, step 0', async () => {
    const root = rootWith('python');
    const manager = new CheckpointManager('mine', { root });
    const start = await manager.initializeForTraining({
      tokenization: 'char',
      text,
      learningRate: 5e-4,
      initFromModel: 'python',
      config: { nLayer: 7 },
    });
    expect([start.mode, start.startStep, start.model.config.nLayer]).toEqual(['init', 0, 2]);
    expect([start.optimizer.state.size, start.optimizer.paramGroups[0]!.lr]).toEqual([0, 5e-4]);
    expectClose(logitsOf(start.model), python.logits.flat(2));
    await manager.saveState({ model: start.model });
    expect((await manager.initializeForTraining({ initFromModel: 'python' })).mode).toBe('resume');
  });

  it('starts from a single file of another model', async () => {
    const start = await new CheckpointManager('mine', { root: samples }).initializeForTraining({
      initFromModel: 'finished',
    });
    expectClose(logitsOf(start.model), python.logits.flat(2));
  });

  it.each([
    ['nobody', 'char', /it has no checkpoint/],
    ['mute', 'char', /saved without a tokenizer/],
    ['python', 'gpt2', /its tokenizer is 'char', but tokenization is string "gpt2"/],
  ])('does not start from %s with tokenization %s', async (initFromModel, tokenization, message) => {
    const start = new CheckpointManager('mine', { root: samples }).initializeForTraining({
      initFromModel,
      tokenization,
    });
    await expect(start).rejects.toThrow(message);
    await expect(start).rejects.toMatchObject({ code: 'ERR_TORCHBIND_INIT_FROM_MODEL' });
  });

  it('makes a fresh model of the text, with the vocabulary of its characters', async () => {
    const manager = new CheckpointManager('mine', { root: temporaryDirectory() });
    const config = { blockSize: 8, nLayer: 1, nHead: 1, nEmbd: 8 };
    const start = await manager.initializeForTraining({ config, tokenization: 'char', text, learningRate: 1e-2 });
    expect([start.mode, start.startStep, start.source]).toEqual(['fresh', 0, null]);
    expect(start.model.config.vocabSize).toBe(new Set(text).size);
    const gpt2 = await manager.initializeForTraining({ config });
    expect([gpt2.model.config.vocabSize, gpt2.model.tokenizer!.kind]).toEqual([50304, 'gpt2']);
    gpt2.model.dispose();
  });

  it('refuses a vocabulary too small for the tokenizer, and a character model without text', async () => {
    const manager = new CheckpointManager('mine', { root: temporaryDirectory() });
    await expect(manager.initializeForTraining({ config: { vocabSize: 100 } })).rejects.toThrow(/50257 tokens/);
    await expect(manager.initializeForTraining({ tokenization: 'char' })).rejects.toThrow(/from the text/);
    await expect(manager.initializeForTraining({ learningrate: 1 } as never)).rejects.toThrow(/'learningRate'/);
  });
});

describe('saving', () => {
  it(
    'gives back to Python what it resumes exactly: step, vocabulary, next losses',
    { timeout: pythonTimeout },
    async () => {
      const manager = new CheckpointManager('python', { root: rootWith('python') });
      const { model } = await manager.initializeForTraining();
      await model.fit({ ...quiet, maxSteps: 2, checkpointDir: manager.checkpointDir });
      const resumed = await manager.initializeForTraining();
      expect(resumed.startStep).toBe(5);
      const own = [update(resumed), update(resumed)];
      const answer = await pythonJson<{ step: number; chars: string[]; next: number[] }>(script, [
        'check',
        manager.checkpointDir,
      ]);
      expect(answer.step).toBe(5);
      expect(answer.chars).toEqual((model.tokenizer as CharTokenizer).chars);
      expectClose(answer.next, own);
    },
  );

  it('writes weights that came in bfloat16 in float32 and says so: from there on resuming is exact', async () => {
    const manager = new CheckpointManager('wrapped', { root: rootWith('wrapped') });
    const { model } = await manager.initializeForTraining();
    await model.fit({ ...quiet, maxSteps: 1, checkpointDir: manager.checkpointDir });
    const written = (await load(manager.path('model.pt'))) as Map<string, unknown>;
    expect([written.get('checkpoint_dtype'), written.get('model_dtype')]).toEqual(['fp32', 'fp32']);
    // The masks too, which came in bfloat16: Python's model has float32 ones when it was filled from such a file.
    const weights = written.get('state_dict') as Map<string, Tensor>;
    expect(Object.fromEntries([...weights].map(([key, { dtype }]) => [key, dtype]))).toEqual(python.wrapped_dtypes);
    expect(Object.keys(python.wrapped_dtypes).some((key) => key.endsWith('tril'))).toBe(true);
    const resumed = await manager.initializeForTraining();
    const own = [update(resumed), update(resumed)];
    const optimizer = model.optimizer as AdamW;
    expect([update({ model, optimizer }), update({ model, optimizer })]).toEqual(own);
  });

  it('writes the JSON files as they came, fields of others included', async () => {
    const manager = new CheckpointManager('extra', { root: rootWith('extra') });
    const before = (name: string): unknown => JSON.parse(readFileSync(path.join(samples, 'extra', name), 'utf8'));
    const { model } = await manager.initializeForTraining();
    await manager.saveState({ model });
    for (const name of ['config.json', 'tokenizer.json', 'training_state.json']) {
      const written = readFileSync(manager.path(name), 'utf8');
      expect(JSON.parse(written), name).toEqual(before(name));
      expect(written, name).toMatch(/^\{\n {2}"/);
    }
    expect(readFileSync(manager.path('tokenizer.json'), 'utf8')).toBe(
      readFileSync(path.join(samples, 'extra/tokenizer.json'), 'utf8'),
    );
    expect(model.device).toBe('cpu');
  });

  it('writes the new format after resuming a single file, and keeps that', async () => {
    const manager = new CheckpointManager('old', { root: rootWith('old') });
    const old = readFileSync(manager.path('latest.pt'));
    const { model } = await manager.initializeForTraining();
    await model.fit({ ...quiet, maxSteps: 1, checkpointDir: manager.checkpointDir });
    expect(readFileSync(manager.path('latest.pt')).equals(old)).toBe(true);
    const again = await manager.initializeForTraining();
    expect([again.source, again.startStep]).toEqual([manager.checkpointDir, 4]);
  });

  it('keeps weights for sampling apart from the training state', async () => {
    const manager = new CheckpointManager('python', { root: rootWith('python') });
    const { model } = await manager.initializeForTraining();
    const directory = await manager.saveWeightsForSampler({ model });
    expect(existsSync(path.join(directory, 'optimizer.pt'))).toBe(false);
    expect(existsSync(path.join(directory, 'training_state.json'))).toBe(false);
    expect(logitsOf(await GPT.load(directory))).toEqual(logitsOf(model));
    expect((await manager.initializeForTraining()).startStep).toBe(3);
  });

  it('needs the optimizer and the step to save a state', async () => {
    const model = new GPT({ vocabSize: 5, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 });
    const manager = new CheckpointManager('mine', { root: temporaryDirectory() });
    await expect(manager.saveState({ model })).rejects.toThrow(/give the optimizer and the step/);
    await manager.saveState({ model, optimizer: new AdamW(model.parameters()), step: 0 });
    expect((await manager.initializeForTraining()).startStep).toBe(0);
  });
});

describe('single files', () => {
  it('open as in Python: model, tokenizer, step, optimizer state and config', async () => {
    const { model, tokenizer, step, optimizerState, config } = await GPT.loadLegacy(
      path.join(samples, 'old/latest.pt'),
    );
    expect([step, tokenizer!.kind, config.nEmbd]).toEqual([3, 'char', 12]);
    const optimizer = new AdamW(model.parameters());
    model.loadOptimizerStateDict(optimizer, optimizerState!);
    expectClose([update({ model, optimizer }), update({ model, optimizer })], python.next);
    const finished = await GPT.loadLegacy(path.join(samples, 'finished/final.pt'));
    expect([finished.step, finished.optimizerState]).toEqual([null, null]);
  });

  it('convert to a bundle that Python resumes; the old file is kept', { timeout: pythonTimeout }, async () => {
    const manager = new CheckpointManager('old', { root: rootWith('old') });
    expect(await manager.convertLegacy()).toBe(manager.checkpointDir);
    expect(existsSync(manager.path('latest.pt'))).toBe(true);
    const answer = await pythonJson<{ step: number; next: number[] }>(script, ['check', manager.checkpointDir]);
    expect([answer.step, answer.next]).toEqual([3, python.next]);
    await expect(manager.convertLegacy()).rejects.toThrow(/already holds a bundle.*overwrite: true/);
    await manager.convertLegacy('latest.pt', { overwrite: true });
  });

  it('convert without a training state where they have none', async () => {
    const manager = new CheckpointManager('finished', { root: rootWith('finished') });
    await manager.convertLegacy('final.pt');
    expect(existsSync(manager.path('training_state.json'))).toBe(false);
  });

  it('are refused with what is missing, and named where a bundle was expected', async () => {
    const weights = path.join(samples, 'python/model.pt');
    await expect(GPT.loadLegacy(weights)).rejects.toThrow(/model_state_dict and config is missing/);
    const root = rootWith('python');
    cpSync(path.join(samples, 'old/latest.pt'), path.join(root, 'python/model.pt'));
    await expect(GPT.load(path.join(root, 'python'))).rejects.toThrow(/GPT\.loadLegacy/);
  });
});

describe('CheckpointManager', () => {
  it('lists what there is', async () => {
    const manager = new CheckpointManager('old', { root: rootWith('old') });
    expect((await manager.list()).map(({ kind, path: file }) => [kind, file])).toEqual([
      ['legacy', manager.path('latest.pt')],
    ]);
    const { model } = await manager.initializeForTraining();
    await manager.saveState({ model });
    await manager.saveWeightsForSampler({ model });
    const entries = await manager.list();
    expect(entries.map(({ kind, step }) => [kind, step])).toEqual([
      ['sampler', null],
      ['bundle', 3],
      ['step', 3],
      ['legacy', null],
    ]);
    expect(entries.every(({ size }) => size > 10_000)).toBe(true);
    expect(await new CheckpointManager('nobody', { root: samples }).list()).toEqual([]);
  });

  it.each(['', '.', '..', 'a/b', '../a', 'a\\b', 'a\0b', 5])('refuses the name %j', (name) => {
    expect(() => new CheckpointManager(name as string)).toThrow(/the name of a model must not be/);
    expect(() => new CheckpointManager('ok').path(name as string)).toThrow(/the name of a file must not be/);
  });

  it('refuses a training state that points out of its directory', async () => {
    const root = rootWith('python');
    const state = { step: 3, optimizer_file: '../python/optimizer.pt' };
    writeFileSync(path.join(root, 'python/training_state.json'), JSON.stringify(state));
    const start = new CheckpointManager('python', { root }).initializeForTraining();
    await expect(start).rejects.toThrow(/expected optimizer_file to be the name of a file in the same directory/);
  });
});

describe('GPT.load', () => {
  it('gives a model that cannot be saved over its own optimizer by accident', async () => {
    const directory = path.join(rootWith('python'), 'python');
    const model = await GPT.load(directory);
    const before = readFileSync(path.join(directory, 'optimizer.pt'));
    await expect(model.saveCheckpointBundle(directory)).rejects.toThrow(
      /no optimizer to replace it.*save\(directory\)/,
    );
    await model.save(directory);
    expect(readFileSync(path.join(directory, 'optimizer.pt'))).toEqual(before);
    await model.saveCheckpointBundle(directory, { optimizerState: null });
    expect(existsSync(path.join(directory, 'optimizer.pt'))).toBe(false);
  });

  it('opens a lone file of weights with its config beside it', async () => {
    const root = rootWith('python');
    for (const name of ['optimizer.pt', 'training_state.json', 'tokenizer.json'])
      rmSync(path.join(root, 'python', name));
    const model = await GPT.load(path.join(root, 'python/model.pt'));
    expect([model.tokenizer, model.step]).toEqual([null, null]);
    expectClose(logitsOf(model), python.logits.flat(2));
  });

  it('names the file that is missing or not right', async () => {
    const root = rootWith('python');
    const at = (name: string): string => path.join(root, 'python', name);
    writeFileSync(at('config.json'), '{"n_layer": ');
    await expect(GPT.load(path.join(root, 'python'))).rejects.toThrow(/config\.json: not valid JSON/);
    writeFileSync(at('config.json'), '{"n_layer": "two"}');
    await expect(GPT.load(path.join(root, 'python'))).rejects.toThrow(/config\.json: .*nLayer/);
    rmSync(at('config.json'));
    await expect(GPT.load(path.join(root, 'python'))).rejects.toThrow(
      /holds no model: neither model\.pt with config\.json/,
    );
    await expect(GPT.load(path.join(root, 'nobody'))).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_OPEN' });
  });
});
