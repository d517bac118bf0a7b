// Trains and saves until it is killed, and tells of every update and of every save that is done. The first line says
// where it begins, which warnings opening the checkpoint gave, and what is there: it looks for itself, because whoever
// reads the line may see its own next save.
const { existsSync, readdirSync, writeSync } = require('node:fs');
const { CheckpointManager, manualSeed, setNumThreads } = require('../../../dist/index.js');

const root = process.argv[2];
const maxSteps = Number(process.argv[3]);
const allowMixed = process.argv[4] === 'mixed';
const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);
const say = (line) => writeSync(1, `${JSON.stringify(line)}\n`);

async function main() {
  setNumThreads(1);
  manualSeed(1); // for the weights of a model that was never saved
  const warnings = [];
  process.on('warning', (warning) => warnings.push(warning.message));
  const manager = new CheckpointManager('run', { root });
  const { model, startStep } = await manager.initializeForTraining({
    config: { blockSize: 8, nLayer: 1, nHead: 1, nEmbd: 8, dropout: 0.2, device: 'cpu' },
    tokenization: 'char',
    text,
    learningRate: 1e-2,
    allowMixed,
  });
  await new Promise((resolve) => setImmediate(resolve));
  const { checkpointDir } = manager;
  const files = existsSync(checkpointDir) ? readdirSync(checkpointDir) : [];
  say({ type: 'start', step: startStep, warnings, files });
  const events = model.fitEvents({
    text,
    batchSize: 2,
    seed: 7,
    maxSteps: maxSteps - startStep,
    schedule: 'cosine',
    decaySteps: maxSteps,
    warmupSteps: 10,
    evalInterval: 0,
    gradAccumulation: 2,
    checkpointDir,
    saveEvery: 2,
    keep: { last: 3, every: 50, optimizerLast: 2 },
    metrics: false,
  });
  for await (const event of events) {
    if (event.type === 'step') say({ type: 'step', step: event.step, loss: event.loss });
    if (event.type === 'save') say({ type: 'save', step: event.step });
  }
  say({ type: 'end' });
}

main().catch((error) => {
  say({ type: 'error', message: error.stack, code: error.code });
  process.exitCode = 1;
});
