// Trains in a child process that is killed without warning, starts it again, and shows that it ends where a run without a kill ends.
//
//     node resume.mjs [--steps 30] [--root checkpoints]
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { CheckpointManager, compare, manualSeed } from 'torchbind';

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '30' },
    root: { type: 'string', default: 'checkpoints' },
    train: { type: 'string' },
  },
});
const { root } = values;
const steps = Number(values.steps);

if (values.train === undefined) {
  for (const name of ['killed', 'whole']) await rm(path.join(root, name), { recursive: true, force: true });
  await run('killed', true);
  await run('killed');
  await run('whole');
  const { totals } = await compare(path.join(root, 'killed'), path.join(root, 'whole'));
  console.log(`${totals.equalTensors} of ${totals.tensors} tensors are equal, bit for bit`);
} else {
  const text = await readFile(new URL('data/shrew.txt', import.meta.url), 'utf8');
  manualSeed(1); // the initial weights
  const manager = new CheckpointManager(values.train, { root });
  const config = { blockSize: 32, nLayer: 1, nHead: 2, nEmbd: 32, dropout: 0.1 };
  const { model, startStep, mode } = await manager.initializeForTraining({
    config,
    tokenization: 'char',
    text,
  });
  console.log(`${values.train}: ${mode} at step ${startStep}`);
  await model.fit({
    text,
    startStep,
    maxSteps: steps - startStep,
    batchSize: 4,
    evalInterval: 0,
    seed: 1,
    checkpointDir: manager.checkpointDir,
    saveEvery: 5,
    onSave: ({ step }) => process.send(step),
  });
  process.disconnect();
}

/** Runs the training in a child, which may be killed without warning after its first save. */
async function run(name, isKilled = false) {
  const child = fork(new URL(import.meta.url), ['--train', name, '--steps', String(steps), '--root', root]);
  if (isKilled) child.once('message', () => child.kill('SIGKILL'));
  const [code, signal] = await once(child, 'exit');
  if (signal !== null) console.log(`${name}: ended by ${signal}`);
  else if (code !== 0) process.exit(code);
}
