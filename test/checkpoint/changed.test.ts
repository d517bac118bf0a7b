/** A bundle of ours whose files another program has rewritten: what each mixture is taken for. Contents decide, never file times. */
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type FileState, judge, type Verdict } from '../../lib/checkpoint/verdict';
import { CheckpointManager, GPT } from '../../lib/gpt';
import { manualSeed } from '../../lib/tensor/random';
import { CharTokenizer } from '../../lib/tokenizers';
import { temporaryDirectory, sharedTemporaryDirectory } from '../helpers/tmp';

const [weights, optimizer, state, config, tokenizer, random] = [
  'model.pt',
  'optimizer.pt',
  'training_state.json',
  'config.json',
  'tokenizer.json',
  'random_state.pt',
];

describe('the verdict', () => {
  const ours = {
    [weights!]: 'same',
    [config!]: 'same',
    [tokenizer!]: 'same',
    [state!]: 'same',
    [optimizer!]: 'same',
    [random!]: 'same',
  } as const;
  const rows: [string, Record<string, FileState>, boolean, Verdict][] = [
    ['all equal', {}, true, 'whole'],
    [
      'weights, optimizer and step new',
      { [weights!]: 'other', [optimizer!]: 'other', [state!]: 'other' },
      true,
      'newer',
    ],
    ['all new', Object.fromEntries(Object.keys(ours).map((name) => [name, 'other'])), true, 'newer'],
    ['weights new alone', { [weights!]: 'other' }, true, 'weights-only'],
    ['weights and optimizer new', { [weights!]: 'other', [optimizer!]: 'other' }, true, 'weights-only'],
    ['weights and step new', { [weights!]: 'other', [state!]: 'other' }, true, 'weights-only'],
    ['weights new that do not fit', { [weights!]: 'other', [optimizer!]: 'other', [state!]: 'other' }, false, 'broken'],
    ['the config edited', { [config!]: 'other' }, true, 'edited'],
    ['the step edited', { [state!]: 'other' }, true, 'edited'],
    ['the optimizer new alone', { [optimizer!]: 'other' }, true, 'broken'],
    ...Object.keys(ours).map((name): [string, Record<string, FileState>, boolean, Verdict] => [
      `${name} broken`,
      { [name]: 'broken' },
      true,
      'broken',
    ]),
    ['new weights with a broken optimizer', { [weights!]: 'other', [optimizer!]: 'broken' }, true, 'broken'],
  ];
  it.each(rows)('on %s', (_, changes, fits, verdict) => {
    expect(judge({ ...ours, ...changes }, fits)).toBe(verdict);
  });

  it('on a bundle without a training state is that of its weights', () => {
    expect(judge({ [weights!]: 'other', [config!]: 'same' }, true)).toBe('newer');
    expect(judge({ [weights!]: 'same', [config!]: 'same' }, true)).toBe('whole');
  });
});

const samples = sharedTemporaryDirectory();
const text = 'abc'.repeat(40);

/** Trains and saves steps 1 to 3 of one run to `ours`, and another program's bundle of step 9 to `theirs`. */
beforeAll(async () => {
  for (const [name, steps, seed] of [
    ['ours', 3, 1],
    ['theirs', 9, 2],
  ] as const) {
    manualSeed(seed);
    const tokenizer = new CharTokenizer(['a', 'b', 'c']);
    const model = new GPT({ vocabSize: 3, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 }, { tokenizer });
    const checkpointDir = path.join(samples, name);
    const saveEvery = name === 'ours' ? 1 : 9;
    await model.fit({ text, maxSteps: steps, saveEvery, evalInterval: 0, batchSize: 2, checkpointDir });
    model.dispose();
  }
  // Python's program writes no random states, and of the training state the step and the optimizer's file.
  const theirs = path.join(samples, 'theirs');
  writeFileSync(path.join(theirs, state!), JSON.stringify({ step: 9, optimizer_file: optimizer }, null, 2));
});

interface Opened {
  /** Step of the model; null if the files do not belong together, and a text if opening was refused. */
  inference: number | null | string;
  training: number | string;
}

/** What is opened in a directory, for inference and to go on training. */
async function opened(directory: string): Promise<Opened & { isTheirs: boolean }> {
  const listen = (): void => undefined;
  process.on('warning', listen);
  onTestFinished(() => void process.off('warning', listen));
  const model = await GPT.load(directory);
  const theirs = await GPT.load(path.join(samples, 'theirs/steps/00000009'));
  const isTheirs = JSON.stringify(model.parameters()[0]!.tolist()) === JSON.stringify(theirs.parameters()[0]!.tolist());
  const training = await GPT.load(directory, { optimizer: true }).then(
    (trained) => trained.step!,
    (error: { code: string }) => error.code,
  );
  const found = { inference: model.step, training, isTheirs };
  for (const each of [model, theirs]) each.dispose();
  return found;
}

/** Copies a directory, as `cp -r` or `cp -a` do, or as an archive that puts all files to one time. */
function copied(from: string, how: 'new times' | 'same times' | 'one time'): string {
  const to = path.join(temporaryDirectory(), 'run');
  cpSync(from, to, { recursive: true, preserveTimestamps: how === 'same times' });
  if (how === 'one time') for (const name of readdirSync(to)) utimesSync(path.join(to, name), 1e9, 1e9);
  return to;
}

function rewrite(directory: string, names: readonly string[], crash = false): void {
  for (const [i, name] of names.entries()) {
    // In place, as torch.save does: a second name of the file is written too.
    const bytes = readFileSync(path.join(samples, 'theirs', name));
    const isCut = crash && i === names.length - 1;
    writeFileSync(path.join(directory, name), isCut ? bytes.subarray(0, bytes.length >> 1) : bytes);
  }
}

const subsets = Array.from({ length: 8 }, (_, bits) =>
  [weights!, optimizer!, state!].filter((_, i) => bits & (1 << i)),
);

describe('another program that rewrote', () => {
  it.each(subsets.map((names) => [names.join(', ') || 'nothing', names] as const))('%s', async (_, names) => {
    for (const how of ['new times', 'same times', 'one time'] as const) {
      const directory = copied(path.join(samples, 'ours'), 'same times');
      rewrite(directory, names);
      const found = await opened(copied(directory, how));
      const isNew = names.includes(weights!);
      expect(found.isTheirs).toBe(isNew);
      // New weights with an old part are weights alone; old weights with a new part are not trained, the kept bundle is.
      if (names.length === 3) expect(found).toMatchObject({ inference: 9, training: 9 });
      else if (isNew)
        expect(found).toMatchObject({
          inference: names.includes(state!) ? 9 : null,
          training: 'ERR_TORCHBIND_MIXED_STATE',
        });
      else expect(found.training).toBe(3);
    }
  });

  it.each(subsets.slice(1).map((names) => [names.join(', '), names] as const))(
    '%s and was killed in the last',
    async (_, names) => {
      const directory = copied(path.join(samples, 'ours'), 'new times');
      rewrite(directory, names, true);
      expect(await opened(directory)).toMatchObject({ inference: 3, training: 3, isTheirs: false });
      // What it left is kept before the next save.
      const manager = new CheckpointManager('run', { root: path.dirname(directory) });
      const { model, optimizer: resumed } = await manager.initializeForTraining();
      await manager.saveState({ model, optimizer: resumed, step: 4 });
      model.dispose();
      const kept = path.join(directory, 'replaced/00000001');
      for (const [i, name] of names.entries()) {
        const bytes = readFileSync(path.join(samples, 'theirs', name));
        const left = i === names.length - 1 ? bytes.subarray(0, bytes.length >> 1) : bytes;
        expect(readFileSync(path.join(kept, name)).equals(left)).toBe(true);
      }
      expect(await opened(directory)).toMatchObject({ inference: 4, training: 4 });
    },
  );

  it('all that it knows is resumed from, and its save is kept as a step when ours replaces it', async () => {
    const directory = copied(path.join(samples, 'ours'), 'new times');
    rewrite(directory, [weights!, optimizer!, state!]);
    const manager = new CheckpointManager('run', { root: path.dirname(directory) });
    const start = await manager.initializeForTraining();
    expect(start.startStep).toBe(9);
    await start.model.fit({ text, maxSteps: 2, evalInterval: 0, batchSize: 2, checkpointDir: directory });
    start.model.dispose();
    expect(readdirSync(path.join(directory, 'steps'))).toEqual(['00000009', '00000011']);
    expect(existsSync(path.join(directory, 'replaced'))).toBe(false);
    expect(await opened(path.join(directory, 'steps/00000009'))).toMatchObject({
      inference: 9,
      training: 9,
      isTheirs: true,
    });
  });

  it('the weights alone trains them with the old state if it is told to', async () => {
    const directory = copied(path.join(samples, 'ours'), 'new times');
    rewrite(directory, [weights!]);
    const manager = new CheckpointManager('run', { root: path.dirname(directory) });
    await expect(manager.initializeForTraining()).rejects.toThrow(/allowMixed: true/);
    expect((await manager.initializeForTraining({ allowMixed: true })).startStep).toBe(3);
    const mixed = await GPT.load(directory, { optimizer: true, allowMixed: true });
    expect([mixed.step, mixed.optimizer !== undefined]).toEqual([3, true]);
  });
});

describe('an edited JSON file', () => {
  it('is used for inference with a warning that names it, and training takes the kept bundle', async () => {
    const directory = copied(path.join(samples, 'ours'), 'new times');
    const file = path.join(directory, config!);
    writeFileSync(file, readFileSync(file, 'utf8').replace(/"dropout": [\d.]+/, '"dropout": 0.5'));
    const warnings: string[] = [];
    const listen = (warning: Error): void => void warnings.push(warning.message);
    process.on('warning', listen);
    const [model, trained] = [await GPT.load(directory), await GPT.load(directory, { optimizer: true })];
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', listen);
    expect([model.config.dropout, trained.config.dropout]).toEqual([0.5, 0.2]);
    expect(warnings[0]).toMatch(/config\.json is not the file that was saved.*opened as it is/s);
    expect(warnings[1]).toMatch(/config\.json.*Opened .*steps.00000003 instead/s);
  });
});

describe('the flat files', () => {
  it('share no inode with a step', async () => {
    const directory = path.join(samples, 'ours');
    for (const step of readdirSync(path.join(directory, 'steps')))
      for (const name of readdirSync(path.join(directory, 'steps', step)))
        expect(statSync(path.join(directory, 'steps', step, name)).nlink).toBe(1);
    expect((await opened(directory)).training).toBe(3);
  });

  it('of an older version, which linked them, are separated before training', async () => {
    const directory = copied(path.join(samples, 'ours'), 'new times');
    const step = path.join(directory, 'steps/00000003');
    for (const name of readdirSync(step)) {
      rmSync(path.join(directory, name));
      linkSync(path.join(step, name), path.join(directory, name));
    }
    expect((await opened(directory)).training).toBe(3);
    await new CheckpointManager('run', { root: path.dirname(directory) }).initializeForTraining();
    for (const name of readdirSync(step)) expect(statSync(path.join(step, name)).nlink).toBe(1);
    rewrite(directory, [weights!, optimizer!], true);
    expect((await opened(directory)).training).toBe(3);
  });
});

describe('a save that a crash cut short, after which another program', () => {
  /** A directory with steps 1 to 3, and a save of step 9 of ours that counts and is not in place. */
  function interrupted(): string {
    const directory = copied(path.join(samples, 'ours'), 'new times');
    cpSync(path.join(samples, 'theirs/steps/00000009'), path.join(directory, '.saved'), { recursive: true });
    return directory;
  }

  it('saved: its files are opened, and ours is a step', async () => {
    const directory = interrupted();
    // The other program's files of step 9, with another step and other weights than `.saved`.
    const other = new GPT(
      { vocabSize: 3, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 },
      { tokenizer: new CharTokenizer(['a', 'b', 'c']) },
    );
    const bundle = path.join(temporaryDirectory(), 'other');
    await other.fit({
      text,
      maxSteps: 12,
      evalInterval: 0,
      checkpointDir: bundle,
    });
    for (const name of [weights!, optimizer!, state!])
      writeFileSync(path.join(directory, name), readFileSync(path.join(bundle, name)));
    expect((await GPT.load(directory)).step).toBe(12);
    const manager = new CheckpointManager('run', { root: path.dirname(directory) });
    expect((await manager.initializeForTraining()).startStep).toBe(12);
    expect(readdirSync(path.join(directory, 'steps'))).toContain('00000009');
    expect(readdirSync(directory)).not.toContain('.saved');
    expect((await GPT.load(directory, { optimizer: true })).step).toBe(12);
  });

  it('was killed while it saved: ours is put in place, and what it left is kept', async () => {
    const directory = interrupted();
    truncateSync(path.join(directory, weights!), 100);
    expect((await GPT.load(directory)).step).toBe(9);
    const manager = new CheckpointManager('run', { root: path.dirname(directory) });
    expect((await manager.initializeForTraining()).startStep).toBe(9);
    expect(statSync(path.join(directory, 'replaced/00000001', weights!)).size).toBe(100);
  });

  it('a config.json that is not of a bundle is kept', async () => {
    const directory = path.join(temporaryDirectory(), 'run');
    mkdirSync(directory);
    writeFileSync(path.join(directory, config!), '{"model_type": "gpt2"}');
    const model = new GPT({ vocabSize: 3, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 });
    await model.save(directory);
    expect(readFileSync(path.join(directory, 'replaced/00000001', config!), 'utf8')).toBe('{"model_type": "gpt2"}');
  });
});
