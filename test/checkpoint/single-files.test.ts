/** Checkpoints of a single file: those that programs left before, found by name, converted, and written on request. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { checkpointFileName, findCheckpoints, parseCheckpointFileName, resolveCheckpoint } from '../../lib/checkpoint';
import { CheckpointManager, convertAllLegacy, convertLegacy, GPT } from '../../lib/gpt';
import { load } from '../../lib/formats/pt';
import { AdamW } from '../../lib/optim';
import { tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { dispose, tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { CharTokenizer } from '../../lib/tokenizers';
import { memoryInUse } from '../helpers/garbage';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

const samples = sharedTemporaryDirectory();
const script = path.join(__dirname, 'single_files.py');
const numbered = path.join(samples, 'numbered');
const models = path.join(samples, 'models');
let python: { next: number[]; tokens: number[] };

beforeAll(async () => {
  setNumThreads(1);
  python = await pythonJson(script, ['write', samples]);
}, pythonTimeout);

/** Two updates; their losses. */
function updates(model: GPT): number[] {
  const optimizer = model.optimizer!;
  return [0, 1].map(() =>
    tidy(() => {
      const x = tensor([[0, 1, 2, 3, 4, 5, 6, 7]]);
      const loss = model.forward(x, x.add(1)).loss!;
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return Number(loss.item());
    }),
  );
}

/** Float32 sums in another order. */
function close(values: number[]): number[] {
  return values.map((value) => expect.closeTo(value, 5) as number);
}

function disposeAfterwards(model: GPT): GPT {
  onTestFinished(() => {
    dispose(model.optimizer?.state);
    model.dispose();
  });
  return model;
}

describe('names of checkpoints', () => {
  it('are those of Python, and are read back', () => {
    const saved = new Date(2025, 10, 10, 23, 15, 0);
    const name = checkpointFileName({ model: 'bigram', source: 'data/carolyn_hax.md', step: 500, saved });
    expect(name).toBe('checkpoint_bigram_carolyn_hax_step000500_11102025_231500.pt');
    expect(parseCheckpointFileName(`some/where/${name}`)).toEqual({
      model: 'bigram',
      source: 'carolyn_hax',
      step: 500,
      saved,
    });
    expect(checkpointFileName({ model: 'gpt2-medium', source: 'x', step: 12345678, saved })).toMatch(
      /^checkpoint_gpt2medium_x_step12345678_/,
    );
    const short = 'checkpoint_bigram_carolyn_hax_step0500_11102025_231500.pt';
    expect(parseCheckpointFileName(short)).toMatchObject({ step: 500, source: 'carolyn_hax' });
    expect(parseCheckpointFileName('checkpoint_a_b_step1_step2_01012026_000000_compressed.pt')).toMatchObject({
      source: 'b_step1',
      step: 2,
    });
  });

  it.each([
    'model.pt',
    'checkpoint_bigram_step000001_11102025_231500.pt',
    'checkpoint_bigram_x_step_11102025_231500.pt',
    'checkpoint_bigram_x_step1_13102025_231500.pt',
    'checkpoint_bigram_x_step1_02302025_231500.pt',
    'checkpoint_bigram_x_step1_11102025_231500.pt.tmp',
  ])('are told from others: %s', (name) => {
    expect(parseCheckpointFileName(name)).toBeUndefined();
  });

  it.each([
    [{ model: '', source: 'x', step: 1 }, /model must be a name/],
    [{ model: 'a/b', source: 'x', step: 1 }, /model must be a name/],
    [{ model: 'a', source: '', step: 1 }, /source must be/],
    [{ model: 'a', source: 'x', step: -1 }, /step must be/],
  ])('are refused where they would be none: %j', (name, message) => {
    expect(() => checkpointFileName(name)).toThrow(message);
  });
});

describe('findCheckpoints', () => {
  const names = async (filter: Parameters<typeof findCheckpoints>[1]): Promise<string[]> =>
    (await findCheckpoints(numbered, filter)).map(({ model, source, step }) => `${model} ${source} ${step}`);

  it('lists by model, source and step, the one saved last first', async () => {
    expect(await names({})).toEqual([
      'bigram carolyn_hax 3',
      'bigram carolyn_hax 2',
      'bigram carolyn_hax 1',
      'gpt2medium carolyn_hax 500',
      'gpt2 tales_step1 3',
    ]);
    expect(await names({ model: 'gpt2' })).toEqual(['gpt2 tales_step1 3']);
    expect(await names({ model: 'gpt2-*' })).toEqual(['gpt2medium carolyn_hax 500', 'gpt2 tales_step1 3']);
    expect(await names({ source: 'carolyn*', model: 'bigram' })).toHaveLength(3);
    expect(await names({ step: 3 })).toEqual(['bigram carolyn_hax 3', 'gpt2 tales_step1 3']);
    expect(await names({ model: 'bigram', step: 'newest' })).toEqual(['bigram carolyn_hax 3']);
    expect(await names({ source: 'nothing' })).toEqual([]);
    const [first] = await findCheckpoints(numbered);
    expect(first!.size).toBe(readFileSync(first!.path).length);
    expect(first!.saved).toEqual(new Date(2025, 10, 10, 23, 15, 3));
  });

  it('finds the newest of a pattern, as a shell would spell it', async () => {
    const of = (pattern: string): Promise<string> => resolveCheckpoint(path.join(numbered, pattern));
    expect(await of('checkpoint_bigram_*_step*.pt')).toMatch(/step000003_11102025_231503\.pt$/);
    expect(await of('checkpoint_*_carolyn_hax_step000500_*.pt')).toMatch(/gpt2medium/);
    expect(await of('checkpoint_bigram_x.pt')).toBe(path.join(numbered, 'checkpoint_bigram_x.pt'));
    await expect(of('checkpoint_gpt2xl_*.pt')).rejects.toThrow(/has a name like checkpoint_gpt2xl_\*\.pt/);
  });

  it('says if there is no directory, and refuses a filter that is none', async () => {
    await expect(findCheckpoints(path.join(samples, 'none'))).rejects.toThrow(/cannot open/);
    await expect(findCheckpoints(numbered, { step: 'last' as never })).rejects.toThrow(/or 'newest'/);
    await expect(findCheckpoints(numbered, { modell: 'x' } as never)).rejects.toThrow(/Did you mean 'model'/);
  });
});

describe('a checkpoint by number', () => {
  it('of Python continues here: same step, same next losses', async () => {
    const [newest] = await findCheckpoints(numbered, { model: 'bigram', step: 'newest' });
    const model = disposeAfterwards(await GPT.load(newest!.path, { optimizer: true }));
    expect([model.step, model.layout.name, model.tokenizer]).toEqual([3, 'build-llm', null]);
    expect(updates(model)).toEqual(close(python.next));
  });

  it('of here continues in Python, in its name and with its contents', { timeout: pythonTimeout }, async () => {
    const directory = path.join(temporaryDirectory(), 'new');
    manualSeed(5);
    const tokenizer = CharTokenizer.fromText('the quick brown fox jumps over the lazy dog');
    const config = { vocabSize: tokenizer.vocabSize, blockSize: 8, nLayer: 2, nHead: 2, nEmbd: 8, dropout: 0 };
    const model = disposeAfterwards(new GPT({ ...config, batchSize: 4 }, { layout: 'build-llm', tokenizer }));
    const optimizer = new AdamW(model.parameters(), { lr: 1e-2 });
    model.setTraining(optimizer, 7);
    updates(model);
    const file = await model.saveCheckpointFile(directory, {
      source: 'data/fox.txt',
      hyperparameters: { training_steps: 2000 },
      saved: new Date(2026, 0, 2, 3, 4, 5),
    });
    expect(path.basename(file)).toBe('checkpoint_bigram_fox_step000007_01022026_030405.pt');
    const found = await pythonJson<Record<string, unknown>>(script, ['check', file]);
    expect(found.keys).toEqual([
      'step',
      'model_state_dict',
      'optimizer_state_dict',
      'hyperparameters',
      'vocab_size',
      'block_size',
      'batch_size',
      'tokenizer',
    ]);
    expect(found.hyperparameters).toMatchObject({
      model_type: 'from_scratch',
      n_embd: 8,
      n_head: 2,
      n_layer: 2,
      block_size: 8,
      batch_size: 4,
      dropout: 0,
      learning_rate: 1e-2,
      training_steps: 2000,
      training_data_source: 'data/fox.txt',
      tokenization_method: 'character',
      use_lora: false,
    });
    expect(found.kinds).toMatchObject({ dropout: 'float', learning_rate: 'float', n_embd: 'int', use_lora: 'bool' });
    const again = disposeAfterwards(await GPT.load(file, { optimizer: true }));
    expect((again.tokenizer as CharTokenizer).chars).toEqual(tokenizer.chars);
    expect([again.step, found.step]).toEqual([7, 7]);
    const next = updates(again);
    expect(found.next).toEqual(close(next));
    expect(updates(model)).toEqual(next);
  });

  it('keeps what it held when it is saved at a later step', async () => {
    const [file] = await findCheckpoints(numbered, { model: 'bigram', step: 2 });
    const model = disposeAfterwards(await GPT.load(file!.path, { optimizer: true }));
    const written = await model.saveCheckpointFile(temporaryDirectory(), { source: 'carolyn_hax', step: 9 });
    const [before, after] = (await Promise.all([load(file!.path), load(written)])) as Map<string, unknown>[];
    expect(after!.get('step')).toBe(9);
    expect([...after!.keys()]).toEqual([...before!.keys()]);
    expect(after!.get('hyperparameters')).toEqual(before!.get('hyperparameters'));
    dispose([before, after]);
  });

  it('GPT-2 that fit trained has one group for its optimizer there, with the moments of each parameter', async () => {
    const text = 'abcd'.repeat(30);
    const config = { vocabSize: 4, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4, dropout: 0 };
    const gpt2 = new GPT(config, { layout: 'hf-gpt2', tokenizer: CharTokenizer.fromText(text) });
    await gpt2.fit({ text, maxSteps: 2, batchSize: 2, evalInterval: 0, seed: 1 });
    expect(gpt2.optimizer!.paramGroups).toHaveLength(2);
    const options = { source: 's', model: 'gpt2' };
    const file = await gpt2.saveCheckpointFile(temporaryDirectory(), options);
    const saved = (await load(file)) as Map<string, Map<string, Map<string, unknown[]>[]>>;
    const groups = saved.get('optimizer_state_dict')!.get('param_groups')!;
    expect(groups.map((group) => group.get('params')!.length)).toEqual([gpt2.parameters().length]);
    const again = await GPT.load(file, { optimizer: true, config: { nHead: 1 } });
    const own = new Map(again.namedParameters());
    for (const [name, parameter] of gpt2.namedParameters()) {
      const [moments, came] = [gpt2, again].map(({ optimizer }, i) =>
        optimizer!.state.get(i === 0 ? parameter : own.get(name)!)!,
      );
      for (const part of ['exp_avg', 'exp_avg_sq'])
        expect((came!.get(part) as Tensor).tolist()).toEqual((moments!.get(part) as Tensor).tolist());
    }
    gpt2.optimizer!.paramGroups[0]!.lr = 0.5;
    await expect(gpt2.saveCheckpointFile(temporaryDirectory(), options)).rejects.toThrow(
      /groups of this optimizer differ/,
    );
    dispose([gpt2.optimizer!.state, again.optimizer!.state]);
    gpt2.dispose();
    again.dispose();
  });

  it('has the keys of a GPT-2 as its program holds one, and converts other models where that is exact', async () => {
    const directory = temporaryDirectory();
    const config = { vocabSize: 11, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4, dropout: 0 };
    const gpt2 = disposeAfterwards(new GPT(config, { layout: 'hf-gpt2' }));
    const file = await gpt2.saveCheckpointFile(directory, { source: 's', step: 1, model: 'gpt2-xl' });
    expect(path.basename(file)).toMatch(/^checkpoint_gpt2xl_s_step000001_/);
    const dict = (await load(file)) as Map<string, Map<string, unknown>>;
    expect([...dict.get('model_state_dict')!.keys()].every((key) => /^model\.(transformer|lm_head)\./.test(key))).toBe(
      true,
    );
    dispose(dict);
    const mypt = disposeAfterwards(new GPT(config));
    const other = await mypt.saveCheckpointFile(directory, { source: 's', step: 2 });
    const opened = disposeAfterwards(await GPT.load(other));
    expect([opened.layout.name, opened.config.attentionScale]).toEqual(['build-llm', 'embd']);
    const nano = disposeAfterwards(new GPT(config, { layout: 'nanogpt' }));
    await expect(nano.saveCheckpointFile(directory, { source: 's', step: 2 })).rejects.toMatchObject({
      code: 'ERR_TORCHBIND_CONVERT',
    });
    await expect(mypt.saveCheckpointFile(directory, { source: 's' })).rejects.toThrow(/give the source.*and the step/);
  });

  it('of tokenization_method gpt2 has the tokenizer of GPT-2, and generates as Python does', async () => {
    const [small, large] = await findCheckpoints(path.join(samples, 'bpe'));
    const model = disposeAfterwards(await GPT.load(large!.path));
    expect(model.tokenizer!.kind).toBe('gpt2');
    expect([...model.tokenizer!.encode('Hello world')]).toEqual(python.tokens.slice(0, 2));
    const text = await model.generate('Hello world', { maxNewTokens: 4, topK: 1 });
    expect(text).toBe(model.tokenizer!.decode(python.tokens));
    // 50,257 tokens are more than 19 rows: it cannot be the one that this was trained with.
    expect(disposeAfterwards(await GPT.load(small!.path)).tokenizer).toBeNull();
  });

  it('generates with the tokenizer that lies beside it', async () => {
    const directory = temporaryDirectory();
    cpSync(numbered, directory, { recursive: true });
    const chars = [...'abcdefghijklmnopqrs'];
    writeFileSync(path.join(directory, 'tokenizer.json'), JSON.stringify({ token_kind: 'char', chars }));
    const model = disposeAfterwards(await GPT.load(await resolveCheckpoint(path.join(directory, '*_step000003_11*'))));
    expect(await model.generate('abc', { maxNewTokens: 4, seed: 1 })).toMatch(/^abc[a-s]{4}$/);
  });
});

describe('convertLegacy', () => {
  function copyOf(...names: string[]): string {
    const root = temporaryDirectory();
    for (const name of names) cpSync(path.join(models, name), path.join(root, name), { recursive: true });
    return root;
  }

  it('says what it would do, and does that', async () => {
    const root = copyOf('old');
    const file = path.join(root, 'old/latest.pt');
    const before = await memoryInUse();
    const plan = await convertLegacy(file, { dryRun: true });
    expect(readdirSync(path.join(root, 'old'))).toEqual(['latest.pt']);
    expect(plan).toEqual({
      file,
      directory: path.join(root, 'old'),
      action: 'convert',
      written: false,
      reason: null,
      holds: {
        form: 'single-file',
        layout: 'mypt',
        step: 3,
        parameters: expect.any(Number) as number,
        tokenizer: 'char',
        optimizer: true,
      },
      files: ['model.pt', 'config.json', 'tokenizer.json', 'training_state.json', 'optimizer.pt'],
    });
    const old = readFileSync(file);
    expect(await convertLegacy(file)).toEqual({ ...plan, written: true });
    expect(await memoryInUse()).toEqual(before);
    expect(readFileSync(file).equals(old)).toBe(true);
    for (const name of plan.files) expect(existsSync(path.join(root, 'old', name)), name).toBe(true);
    await expect(convertLegacy(file, { dryRun: true })).rejects.toMatchObject({ code: 'ERR_TORCHBIND_EXISTS' });
  });

  it('finds what is wrong without converting', async () => {
    const root = temporaryDirectory();
    const file = path.join(root, 'latest.pt');
    writeFileSync(file, readFileSync(path.join(models, 'old/latest.pt')).subarray(0, 5000));
    await expect(convertLegacy(file, { dryRun: true })).rejects.toMatchObject({ name: 'CheckpointError' });
    expect(readdirSync(root)).toEqual(['latest.pt']);
  });

  it('gives a checkpoint by number a directory of its own', async () => {
    const root = temporaryDirectory();
    cpSync(numbered, root, { recursive: true });
    const file = await resolveCheckpoint(path.join(root, 'checkpoint_bigram_*'));
    const done = await convertLegacy(file);
    expect(done).toMatchObject({ directory: path.join(root, 'bigram_carolyn_hax'), holds: { layout: 'build-llm' } });
    const start = await new CheckpointManager('bigram_carolyn_hax', { root }).initializeForTraining();
    disposeAfterwards(start.model);
    expect([start.mode, start.startStep]).toEqual(['resume', 3]);
    expect(updates(start.model)).toEqual(close(python.next));
  });

  it('converts all models of a directory, and one that is spoilt keeps none from it', async () => {
    const root = copyOf('old', 'finished', 'python', 'mute');
    cpSync(path.join(root, 'old/latest.pt'), path.join(root, 'python/latest.pt'));
    mkdirSync(path.join(root, 'spoilt'));
    writeFileSync(path.join(root, 'spoilt/latest.pt'), 'nothing');
    mkdirSync(path.join(root, 'empty'));
    const listing = (): string[] => readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
    const before = listing();
    const plan = await convertAllLegacy(root, { dryRun: true });
    expect(listing()).toEqual(before);
    expect(plan.map(({ directory, action }) => [path.basename(directory), action])).toEqual([
      ['finished', 'convert'],
      ['mute', 'convert'],
      ['old', 'convert'],
      ['python', 'skip'],
      ['spoilt', 'fail'],
    ]);
    expect(plan[0]).toMatchObject({
      holds: { step: null, optimizer: false },
      files: ['model.pt', 'config.json', 'tokenizer.json'],
    });
    expect(plan[3]!.reason).toMatch(/a bundle already exists/);
    expect(plan[4]!.reason).toMatch(/latest\.pt/);
    const done = await convertAllLegacy(root);
    expect(done).toEqual(plan.map((one) => ({ ...one, written: one.action === 'convert' })));
    for (const name of ['finished', 'mute', 'old']) {
      disposeAfterwards(await CheckpointManager.loadForInference(name, { root }));
      expect(existsSync(path.join(root, name, 'model.pt'))).toBe(true);
    }
    const again = await convertAllLegacy(root);
    expect(again.map(({ action }) => action)).toEqual(['skip', 'skip', 'skip', 'skip', 'fail']);
    expect((await convertAllLegacy(root, { checkpoint: 'final.pt', overwrite: true })).map(({ file }) => file)).toEqual(
      ['finished', 'mute'].map((name) => path.join(root, name, 'final.pt')),
    );
    await expect(convertAllLegacy(path.join(root, 'none'))).rejects.toThrow(/cannot open/);
  });
});
