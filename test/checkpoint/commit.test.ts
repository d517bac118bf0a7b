/** What a bundle on disk promises: the old one or the new one, complete, and damage is noticed. */
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { CheckpointManager, GPT } from '../../lib/gpt';
import { isBundle } from '../../lib/checkpoint/programs/bundle';
import { commitBundle } from '../../lib/checkpoint/commit';
import { inspect } from '../../lib/checkpoint/inspect';
import { lockFile } from '../../lib/checkpoint/writer-lock';
import { AdamW } from '../../lib/optim';
import { CharTokenizer } from '../../lib/tokenizers';
import { temporaryDirectory } from '../helpers/tmp';

const bundleFiles = [
  'config.json',
  'manifest.json',
  'model.pt',
  'optimizer.pt',
  'tokenizer.json',
  'training_state.json',
];

/** What a directory holds next to the file that writers lock. */
function filesIn(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name !== lockFile)
    .sort();
}

function makeGpt(): GPT {
  const tokenizer = new CharTokenizer(['a', 'b', 'c']);
  const config = { vocabSize: 3, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4, device: 'cpu' };
  return new GPT(config, { tokenizer });
}

/** Saved alone, so that there is nothing to fall back to. */
async function savedGpt(directory: string, step: number): Promise<GPT> {
  const model = makeGpt();
  await model.saveCheckpointBundle(directory, { step, optimizer: new AdamW(model.parameters()), keep: null });
  return model;
}

function weightsOf(model: GPT): unknown {
  return [...model.stateDict()].map(([key, value]) => [key, value.tolist()]);
}

describe('a saved bundle', () => {
  it('holds the five files and a manifest of them, and nothing else', async () => {
    const directory = path.join(temporaryDirectory(), 'deep/run');
    const model = await savedGpt(directory, 12);
    expect(filesIn(directory)).toEqual(bundleFiles);
    const manifest = JSON.parse(readFileSync(path.join(directory, 'manifest.json'), 'utf8')) as {
      format_version: number;
      step: number;
      files: Record<string, { size: number; sha256: string }>;
    };
    expect([manifest.format_version, manifest.step]).toEqual([1, 12]);
    expect(Object.keys(manifest.files).sort()).toEqual(bundleFiles.filter((name) => name !== 'manifest.json'));
    expect(manifest.files['model.pt']!.size).toBe(statSync(path.join(directory, 'model.pt')).size);
    const loaded = await GPT.load(directory);
    expect([loaded.step, weightsOf(loaded)]).toEqual([12, weightsOf(model)]);
  });

  it('takes with it the files of the one before', async () => {
    const directory = temporaryDirectory();
    await savedGpt(directory, 1);
    const model = makeGpt();
    await model.saveCheckpointBundle(directory, { optimizerState: null, keep: null });
    expect(filesIn(directory)).toEqual(['config.json', 'manifest.json', 'model.pt', 'tokenizer.json']);
    expect((await GPT.load(directory)).step).toBeNull();
  });

  it('keeps its training state when only the weights are saved over it', async () => {
    const directory = temporaryDirectory();
    await savedGpt(directory, 7);
    const model = makeGpt();
    await model.save(directory);
    expect(filesIn(directory)).toEqual(bundleFiles);
    const loaded = await GPT.load(directory);
    expect([loaded.step, weightsOf(loaded)]).toEqual([7, weightsOf(model)]);
  });

  it.each(bundleFiles.filter((name) => name !== 'manifest.json'))(
    'is refused when a byte of %s changed, or JSON cannot be parsed',
    async (name) => {
      const directory = temporaryDirectory();
      await savedGpt(directory, 1);
      const file = path.join(directory, name);
      const bytes = readFileSync(file);
      // In JSON a changed byte may be an edit, see changed.test.ts; a brace that is missing is damage.
      bytes[name.endsWith('.json') ? 0 : bytes.length >> 1]! ^= 1;
      writeFileSync(file, bytes);
      const load = GPT.load(directory);
      await expect(load).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_CHECKSUM' });
      await expect(load).rejects.toThrow(file);
    },
  );

  it('is refused when a file was cut short or is gone', async () => {
    const directory = temporaryDirectory();
    await savedGpt(directory, 1);
    truncateSync(path.join(directory, 'model.pt'), 100);
    await expect(GPT.load(directory)).rejects.toThrow(/model\.pt is not the file that was saved: it has 100 bytes/);
    await savedGpt(directory, 2);
    renameSync(path.join(directory, 'optimizer.pt'), path.join(directory, 'elsewhere'));
    await expect(GPT.load(directory)).rejects.toThrow(/optimizer\.pt .*it is missing/);
  });

  it('counts without its manifest when another program wrote all its files anew', async () => {
    const [directory, other] = [temporaryDirectory(), temporaryDirectory()];
    await savedGpt(directory, 1);
    const model = await savedGpt(other, 2);
    const later = Date.now() / 1000 + 5;
    for (const name of bundleFiles.filter((file) => file !== 'manifest.json')) {
      cpSync(path.join(other, name), path.join(directory, name));
      utimesSync(path.join(directory, name), later, later);
    }
    const loaded = await GPT.load(directory);
    expect([loaded.step, weightsOf(loaded)]).toEqual([2, weightsOf(model)]);
    await savedGpt(directory, 3);
    expect((await GPT.load(directory)).step).toBe(3);
  });

  it('is refused when its manifest is not one', async () => {
    const directory = temporaryDirectory();
    await savedGpt(directory, 1);
    writeFileSync(path.join(directory, 'manifest.json'), '{"format_version": 9, "files": {}}');
    await expect(GPT.load(directory)).rejects.toThrow(/format_version is number 9/);
    writeFileSync(path.join(directory, 'manifest.json'), '{"format_version": 1, "files": {"../x": {}}}');
    await expect(GPT.load(directory)).rejects.toThrow(/size and sha256/);
  });
});

describe('a save', () => {
  it('that fails leaves the old bundle, and nothing of its own', async () => {
    const directory = temporaryDirectory();
    const model = await savedGpt(directory, 1);
    const failing = commitBundle(
      directory,
      {},
      {
        step: 2,
        keep: {},
        write: (staging) => {
          writeFileSync(path.join(staging, 'model.pt'), 'half');
          return Promise.reject(new Error('disk full'));
        },
      },
    );
    await expect(failing).rejects.toThrow('disk full');
    expect(filesIn(directory)).toEqual(bundleFiles);
    expect(weightsOf(await GPT.load(directory))).toEqual(weightsOf(model));
  });

  it('that cannot write says where', async () => {
    const file = path.join(temporaryDirectory(), 'file');
    writeFileSync(file, '');
    await expect(savedGpt(path.join(file, 'run'), 1)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_SAVE' });
  });

  it('that was cut short before it counted is removed by the next', async () => {
    const directory = temporaryDirectory();
    await savedGpt(directory, 1);
    mkdirSync(path.join(directory, '.saving-0123456789ab'));
    mkdirSync(path.join(directory, '.trash-0123456789ab'));
    expect((await GPT.load(directory)).step).toBe(1);
    await savedGpt(directory, 2);
    expect(filesIn(directory)).toEqual(bundleFiles);
  });

  it.each([0, 1, 3, 5, 6])(
    'that was cut short after %i of its files were put in place is read whole, and finished',
    async (count) => {
      const root = temporaryDirectory();
      const manager = new CheckpointManager('run', { root });
      const directory = manager.checkpointDir;
      await savedGpt(directory, 1);
      const saved = path.join(directory, '.saved');
      const model = await savedGpt(saved, 2);
      for (const name of [
        'model.pt',
        'config.json',
        'tokenizer.json',
        'optimizer.pt',
        'training_state.json',
        'manifest.json',
      ].slice(0, count)) {
        cpSync(path.join(saved, name), path.join(directory, name));
      }
      const loaded = await GPT.load(directory);
      expect([loaded.step, weightsOf(loaded)]).toEqual([2, weightsOf(model)]);
      const { startStep } = await manager.initializeForTraining();
      expect(startStep).toBe(2);
      expect(filesIn(directory)).toEqual(bundleFiles);
      expect(weightsOf(await GPT.load(directory))).toEqual(weightsOf(model));
    },
  );

  it('never hides the bundle from who asks whether there is one', async () => {
    const directory = temporaryDirectory();
    const write = async (staging: string): Promise<void> => {
      for (const name of ['model.pt', 'config.json']) await writeFile(path.join(staging, name), '{}');
    };
    await commitBundle(directory, {}, { write, step: 0, keep: null });
    let saving = true;
    const saves = (async () => {
      for (let step = 1; step <= 50; step++) await commitBundle(directory, {}, { write, step, keep: null });
      saving = false;
    })();
    while (saving) expect(await isBundle(directory)).toBe(true);
    await saves;
  });

  it('waits for the one before, and readers see whole bundles meanwhile', async () => {
    const directory = temporaryDirectory();
    const model = await savedGpt(directory, 0);
    let saving = true;
    const steps = Array.from({ length: 8 }, (_, i) => i + 1);
    const optimizer = new AdamW(model.parameters());
    const saves = Promise.all(
      steps.map((step) => model.saveCheckpointBundle(directory, { step, optimizer, keep: null })),
    ).then(() => (saving = false));
    let last = 0;
    while (saving) {
      const { step } = await GPT.load(directory);
      expect(step).toBeGreaterThanOrEqual(last);
      last = step!;
      expect((await inspect(directory)).problems).toEqual([]);
    }
    await saves;
    expect((await GPT.load(directory)).step).toBe(8);
    expect(filesIn(directory)).toEqual(bundleFiles);
  });
});
