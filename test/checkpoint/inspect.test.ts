/** inspect() of directories: bundles of Python and of torchbind, single files, Hugging Face. */
import { appendFileSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { inspect } from '../../lib/checkpoint';
import { CheckpointManager } from '../../lib/gpt';
import { saveSafetensors } from '../../lib/formats/safetensors';
import { dispose } from '../../lib/tensor/scope';
import { zeros } from '../../lib/tensor/creation';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

const samples = sharedTemporaryDirectory();

beforeAll(async () => {
  await pythonJson(path.join(__dirname, 'samples.py'), ['write', samples]);
}, pythonTimeout);

it('describes a bundle of Python: weights, optimizer, config and step together', async () => {
  const report = await inspect(path.join(samples, 'python'));
  expect(report.problems).toEqual([]);
  expect(report.container.kind).toBe('bundle');
  expect(report.family).toMatchObject({ name: 'mypt' });
  expect(report.step).toBe(3);
  expect(report.config).toMatchObject({ n_layer: 2, n_embd: 12 });
  expect(report.integrity.manifest).toBe('none');
  expect(report.optimizer!.states).toBeGreaterThan(10);
  expect(new Set(report.tensors.map(({ file }) => file))).toEqual(new Set(['model.pt', 'optimizer.pt']));
  expect(report.files.map(({ name }) => name)).toContain('training_state.json');
});

it('describes weights that lie in a dict, and single files through their manager', async () => {
  const wrapped = await inspect(path.join(samples, 'wrapped'));
  expect(wrapped.family).toMatchObject({ name: 'mypt' });
  expect(Object.keys(wrapped.totals.byDtype)).toContain('bfloat16');
  const old = await new CheckpointManager('old', { root: samples }).inspect();
  expect(old).toMatchObject({ step: 3, family: { name: 'mypt' }, container: { kind: 'zip' } });
  expect(old.optimizer!.groups).toHaveLength(1);
  await expect(new CheckpointManager('none', { root: samples }).inspect()).rejects.toMatchObject({
    code: 'ERR_TORCHBIND_CHECKPOINT_OPEN',
  });
});

it('compares the files of a bundle with its manifest', async () => {
  const root = temporaryDirectory();
  cpSync(path.join(samples, 'python'), path.join(root, 'm'), { recursive: true });
  const manager = new CheckpointManager('m', { root });
  const { model, optimizer } = await manager.initializeForTraining();
  await manager.saveState({ model, optimizer, step: 4 });
  dispose(optimizer.stateDict());
  model.dispose();
  expect((await manager.inspect()).integrity.manifest).toBe('sizes');
  expect(await manager.inspect({ verify: true })).toMatchObject({
    integrity: { manifest: 'match', verified: true },
    problems: [],
    step: 4,
  });
  expect((await manager.inspect({ step: 4 })).step).toBe(4);
  appendFileSync(path.join(manager.checkpointDir, 'config.json'), ' ');
  const report = await manager.inspect();
  expect(report.integrity.manifest).toBe('differs');
  expect(report.problems[0]).toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_CHECKSUM' });
});

it('describes a directory of Hugging Face, and says if there is no checkpoint', async () => {
  const directory = temporaryDirectory();
  const tensors = new Map([['transformer.wte.weight', zeros([4, 2])]]);
  await saveSafetensors(tensors, path.join(directory, 'model.safetensors'));
  dispose(tensors);
  writeFileSync(path.join(directory, 'config.json'), '{"model_type": "gpt2", "n_layer": 1}');
  writeFileSync(path.join(directory, 'trainer_state.json'), '{"global_step": 7}');
  const report = await inspect(directory);
  expect(report).toMatchObject({ step: 7, config: { n_layer: 1 }, container: { kind: 'huggingface' } });
  expect(report.family!.name).toBeNull();
  mkdirSync(path.join(directory, 'empty'));
  await expect(inspect(path.join(directory, 'empty'))).rejects.toThrow('It holds nothing');
});
