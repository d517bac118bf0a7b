// Receives a GPT, says what it generates, and trains it in the memory of the thread that shared it.
const { parentPort, workerData } = require('node:worker_threads');
const { receive } = require('../../../dist');

async function main() {
  const gpt = receive(workerData);
  parentPort.postMessage(await gpt.generate('the', { maxNewTokens: 5, seed: 1 }));
  const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(5);
  await gpt.fit({ text, maxSteps: 2, batchSize: 2, evalInterval: 0, learningRate: 0.1 });
}

main();
