// Continues with the run in a directory, in a process of its own, saves it, and prints its losses and next random numbers.
const { CheckpointManager, rand, setNumThreads } = require('../../../dist/index.js');

async function main(root, options) {
  setNumThreads(1);
  const manager = new CheckpointManager('run', { root });
  const { model } = await manager.initializeForTraining();
  const { losses } = await model.fit({ ...options, checkpointDir: manager.checkpointDir });
  console.log(JSON.stringify({ losses, random: rand([4]).tolist() }));
}

main(process.argv[2], JSON.parse(process.argv[3]));
