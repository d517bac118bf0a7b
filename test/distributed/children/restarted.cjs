// One rank of a run that continues after every restart: prints its process id, and at the end what all weights decide.
const { writeSync } = require('node:fs');
const torch = require('../../../dist/index.js');

const [root, maxSteps] = process.argv.slice(2);
const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);
const say = (value) => writeSync(1, `${JSON.stringify(value)}\n`);

async function main() {
  torch.setNumThreads(1);
  await torch.distributed.initProcessGroup({ timeout: 60_000 });
  torch.manualSeed(1);
  const manager = new torch.CheckpointManager('run', { root });
  const { model, startStep } = await manager.initializeForTraining({
    config: { blockSize: 8, nLayer: 1, nHead: 1, nEmbd: 8, dropout: 0.2, device: 'cpu' },
    tokenization: 'char',
    text,
    learningRate: 1e-2,
  });
  const rank = torch.distributed.rank();
  say({ type: 'start', rank, pid: process.pid, step: startStep });
  await model.fit({
    text,
    batchSize: 2,
    seed: 7,
    maxSteps: Math.max(0, Number(maxSteps) - startStep),
    evalInterval: 0,
    saveEvery: 5,
    checkpointDir: manager.checkpointDir,
    handleSignals: true,
    onStep: ({ step }) => step % 5 === 1 && say({ type: 'step', rank, pid: process.pid, step }),
    onSave: ({ step }) => say({ type: 'save', rank, pid: process.pid, step }),
  });
  const weights = model.parameters().map((each) => each.square().sum().item());
  say({ type: 'end', rank, step: model.step, weights });
}

main();
