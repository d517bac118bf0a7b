/** Bundles that are kept under steps/: which, for how long, and what they are good for. */
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type KeepOptions } from '../../lib/checkpoint';
import { lockDirectory } from '../../lib/checkpoint/commit';
import { CheckpointManager, GPT } from '../../lib/gpt';
import { chooseSteps, keepRules } from '../../lib/checkpoint/retention';
import type { StepBundle } from '../../lib/checkpoint/manifest';
import { FileLock } from '../../lib/lock';
import { AdamW } from '../../lib/optim';
import { CharTokenizer } from '../../lib/tokenizers';
import { dispose } from '../../lib/tensor/scope';
import { temporaryDirectory } from '../helpers/tmp';

function makeGpt(): { model: GPT; optimizer: AdamW } {
  const tokenizer = new CharTokenizer(['a', 'b', 'c']);
  const config = { vocabSize: 3, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4, device: 'cpu' };
  const model = new GPT(config, { tokenizer });
  onTestFinished(() => model.dispose());
  return { model, optimizer: new AdamW(model.parameters()) };
}

/** A directory to which the steps were saved one after the other, each with the loss of the same place. */
async function savedSteps(steps: readonly number[], keep: KeepOptions = {}, losses: number[] = []): Promise<string> {
  const directory = path.join(temporaryDirectory(), 'run');
  const { model, optimizer } = makeGpt();
  for (const [i, step] of steps.entries()) {
    const metrics = losses[i] === undefined ? undefined : { val_loss: losses[i] };
    await model.saveCheckpointBundle(directory, { step, optimizer, keep, metrics });
  }
  return directory;
}

function kept(directory: string): number[] {
  return readdirSync(path.join(directory, 'steps')).map(Number);
}

async function opened(directory: string): Promise<{ step: number | null; warnings: string[] }> {
  const warnings: string[] = [];
  const listen = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', listen);
  const model = await GPT.load(directory);
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', listen);
  model.dispose();
  return { step: model.step, warnings };
}

function damage(file: string): void {
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(file, bytes);
}

describe('steps/', () => {
  it('keeps this bundle and the one before, whole, and shares no file with the flat ones', async () => {
    const directory = await savedSteps([1, 2, 3]);
    expect(kept(directory)).toEqual([2, 3]);
    for (const name of readdirSync(path.join(directory, 'steps/00000003'))) {
      const [flat, step] = [path.join(directory, name), path.join(directory, 'steps/00000003', name)];
      expect(readFileSync(flat).equals(readFileSync(step))).toBe(true);
      expect(statSync(flat).ino).not.toBe(statSync(step).ino);
    }
    expect((await opened(path.join(directory, 'steps/00000002'))).step).toBe(2);
  });

  it('goes by the order of saves, not by the step', async () => {
    const directory = await savedSteps([1000, 5, 6]);
    expect(kept(directory)).toEqual([5, 6]);
    expect((await opened(directory)).step).toBe(6);
  });

  it('takes a step that is saved again', async () => {
    const directory = await savedSteps([1, 2, 2]);
    expect(kept(directory)).toEqual([1, 2]);
  });

  it('keeps every K, the best, and the last', async () => {
    const directory = await savedSteps([1, 2, 3, 4, 5, 6], { last: 1, every: 4, best: 1 }, [9, 1, 9, 9, 9, 9]);
    expect(kept(directory)).toEqual([2, 4, 6]);
  });

  it('keeps the optimizer for the last M only; the others open without it', async () => {
    const directory = await savedSteps([1, 2, 3], { last: 3, optimizerLast: 1 });
    const has = kept(directory).map((step) => existsSync(path.join(directory, `steps/0000000${step}/optimizer.pt`)));
    expect(has).toEqual([false, false, true]);
    const model = await CheckpointManager.loadForInference('run', { root: path.dirname(directory), step: 1 });
    expect(model.step).toBe(1);
    model.dispose();
  });

  it('refuses rules that make no sense', () => {
    expect(() => keepRules({ last: 0 })).toThrow('last must be an integer of at least 1');
    expect(() => keepRules({ lst: 1 } as KeepOptions)).toThrow("Did you mean 'last'?");
    expect(() => keepRules({ mode: 'low' as 'min' })).toThrow("'min' or 'max'");
  });

  it.each([1, 2, 4, 8, 1024])('keeps the newest whatever the rules, of %i', (last) => {
    const bundles = Array.from({ length: 20 }, (_, i) => bundleOf(20 - i));
    const { remove } = chooseSteps(bundles, keepRules({ last, best: 2, mode: 'max' }));
    expect(remove).not.toContain(bundles[0]);
    expect(remove).toHaveLength(Math.max(0, 20 - last - (last >= 2 ? 0 : 1)));
  });
});

function bundleOf(step: number): StepBundle {
  const manifest = {
    format_version: 1,
    step,
    sequence: step,
    saved_at: null,
    metrics: { val_loss: step },
    dropped: [],
  };
  return { step, directory: `steps/${step}`, hasOptimizer: true, manifest: { ...manifest, files: {} } };
}

describe('a damaged bundle', () => {
  it.each(['model.pt', 'config.json', 'optimizer.pt', 'training_state.json', 'tokenizer.json', 'manifest.json'])(
    'is passed over for the kept one when %s was damaged or cut, with a warning that names it',
    async (name) => {
      const directory = await savedSteps([1, 2]);
      // JSON has no checksum: what can be parsed counts as an edit, see changed.test.ts.
      if (name.endsWith('.pt')) damage(path.join(directory, name));
      else truncateSync(path.join(directory, name), statSync(path.join(directory, name)).size >> 1);
      const changed = await opened(directory);
      expect(changed.step).toBe(2);
      expect(changed.warnings.join()).toMatch(new RegExp(`${name}.*Opened .*steps/00000002 instead`, 's'));
      damage(path.join(directory, 'steps/00000002/model.pt'));
      expect((await opened(directory)).step).toBe(1);
      truncateSync(path.join(directory, name), 3);
      expect((await opened(directory)).step).toBe(1);
    },
  );

  it('is passed over for training too, and the next save makes all good again', async () => {
    const directory = await savedSteps([1, 2]);
    damage(path.join(directory, 'model.pt'));
    const manager = new CheckpointManager('run', { root: path.dirname(directory) });
    const { model, optimizer, startStep } = await manager.initializeForTraining();
    expect(startStep).toBe(2);
    await manager.saveState({ model, optimizer, step: 3 });
    expect(await opened(directory)).toEqual({ step: 3, warnings: [] });
    dispose(optimizer.state);
    model.dispose();
  });

  it('is refused where no other is whole, in the words of the newest', async () => {
    const directory = await savedSteps([1, 2]);
    for (const place of ['.', 'steps/00000001', 'steps/00000002']) damage(path.join(directory, place, 'model.pt'));
    await expect(GPT.load(directory)).rejects.toThrow(`${path.join(directory, 'model.pt')} is not the file`);
  });

  it('under .saved is not put in place', async () => {
    const [directory, other] = [await savedSteps([1]), await savedSteps([2])];
    const { renameSync } = await import('node:fs');
    renameSync(path.join(other, 'steps/00000002'), path.join(directory, '.saved'));
    damage(path.join(directory, '.saved/model.pt'));
    expect((await opened(directory)).step).toBe(1);
    const manager = new CheckpointManager('run', { root: path.dirname(directory) });
    const { model, startStep } = await manager.initializeForTraining();
    expect(startStep).toBe(1);
    expect(readdirSync(directory)).not.toContain('.saved');
    model.dispose();
  });
});

describe('CheckpointManager', () => {
  it('rolls back to a step, which is the newest from then on', async () => {
    const directory = await savedSteps([1, 2, 3], { last: 3 });
    const manager = new CheckpointManager('run', { root: path.dirname(directory) });
    await manager.rollback(2);
    expect([kept(directory), (await opened(directory)).step]).toEqual([[1, 2], 2]);
    await expect(manager.rollback(7)).rejects.toThrow('no bundle of step 7. Its steps are 1, 2.');
    const { model, optimizer } = makeGpt();
    await manager.saveState({ model, optimizer, step: 3 });
    expect((await opened(directory)).step).toBe(3);
  });

  it('opens a step, and says which there are', async () => {
    const directory = await savedSteps([10, 20], {}, [1, 2]);
    const root = path.dirname(directory);
    const model = await CheckpointManager.loadForInference('run', { root, step: 10 });
    expect(model.step).toBe(10);
    model.dispose();
    await expect(CheckpointManager.loadForInference('run', { root, step: 30 })).rejects.toThrow(
      'Its steps are 10, 20.',
    );
    const manager = new CheckpointManager('run', { root });
    expect((await manager.best())?.step).toBe(10);
    expect((await manager.latest())?.step).toBe(20);
    const entries = (await manager.list()).map(({ kind, step, metrics }) => [kind, step, metrics]);
    expect(entries).toEqual([
      ['bundle', 20, { val_loss: 2 }],
      ['step', 20, { val_loss: 2 }],
      ['step', 10, { val_loss: 1 }],
    ]);
  });
});

describe('a second writer', () => {
  it('is refused, and what is there stays', async () => {
    const directory = await savedSteps([1]);
    const lock = FileLock.acquire(path.join(directory, '.lock')) as FileLock;
    const { model, optimizer } = makeGpt();
    const save = model.saveCheckpointBundle(directory, { step: 2, optimizer });
    await expect(save).rejects.toMatchObject({ code: 'ERR_TORCHBIND_LOCKED' });
    await expect(save).rejects.toThrow(`process ${process.pid} on `);
    expect((await opened(directory)).step).toBe(1);
    lock.release();
    await model.saveCheckpointBundle(directory, { step: 2, optimizer });
    expect((await opened(directory)).step).toBe(2);
  });

  it('is refused in the same process while the owner holds the lock, under any name of the directory', async () => {
    const directory = await savedSteps([1]);
    const link = path.join(temporaryDirectory(), 'link');
    symlinkSync(directory, link);
    const [first, second] = [makeGpt(), makeGpt()];
    const unlock = await lockDirectory(directory, first.model);
    for (const place of [directory, link]) {
      const save = second.model.saveCheckpointBundle(place, { step: 2, optimizer: second.optimizer });
      await expect(save).rejects.toMatchObject({ code: 'ERR_TORCHBIND_LOCKED' });
      await expect(save).rejects.toThrow('another run in this process');
      await expect(lockDirectory(place, second.model)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_LOCKED' });
    }
    await first.model.saveCheckpointBundle(link, { step: 3, optimizer: first.optimizer });
    expect((await opened(directory)).step).toBe(3);
    unlock();
    await second.model.saveCheckpointBundle(directory, { step: 2, optimizer: second.optimizer });
    expect((await opened(directory)).step).toBe(2);
  });

  it('is refused while a run trains into the directory in the same process', async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    const options = { text: 'abc'.repeat(9), maxSteps: 2, saveEvery: 1, evalInterval: 0, batchSize: 1, checkpointDir };
    const [first, second] = [makeGpt(), makeGpt()];
    const run = first.model.fitEvents(options);
    await run.next();
    await expect(second.model.fit(options)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_LOCKED' });
    await run.return(undefined as never);
    expect((await second.model.fit(options)).step).toBe(2);
    expect((await opened(checkpointDir)).step).toBe(2);
  });
});
