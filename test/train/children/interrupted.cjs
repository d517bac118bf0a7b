// Trains until a signal stops it, tells of every update and save, and exits as a program that was interrupted does.
const { writeSync } = require('node:fs');
const { constants } = require('node:os');
const { CheckpointManager, manualSeed, setNumThreads } = require('../../../dist/index.js');

const [root, maxSteps, holdAt] = process.argv.slice(2);
const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);
const say = (line) => writeSync(1, `${JSON.stringify(line)}\n`);

async function main() {
  setNumThreads(1);
  manualSeed(1); // for the weights of a model that was never saved
  const manager = new CheckpointManager('run', { root });
  const { model, startStep } = await manager.initializeForTraining({
    config: { blockSize: 8, nLayer: 1, nHead: 1, nEmbd: 8, dropout: 0.2, device: 'cpu' },
    tokenization: 'char',
    text,
    learningRate: 1e-2,
  });
  say({ type: 'start', step: startStep });
  const events = model.fitEvents({
    text,
    batchSize: 2,
    seed: 7,
    maxSteps: Number(maxSteps) - startStep,
    schedule: 'cosine',
    decaySteps: 10_000,
    evalInterval: 0,
    gradAccumulation: 2,
    checkpointDir: manager.checkpointDir,
    handleSignals: true,
  });
  let result;
  while (!(result = await events.next()).done) {
    say(result.value);
    const isHeld = result.value.type === 'step' && result.value.step === Number(holdAt);
    if (isHeld) await new Promise((resolve) => setTimeout(resolve, 100_000)); // something that takes long
  }
  const { stopped, step } = result.value;
  say({ type: 'end', stopped, step });
  process.exitCode = stopped in constants.signals ? 128 + constants.signals[stopped] : 0;
}

main().catch((error) => {
  say({ type: 'error', message: error.stack });
  process.exitCode = 1;
});
