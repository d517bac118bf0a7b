const { ones, memory } = require('../../../dist/index.js');
async function main() {
  const base = ones(8);
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  await turn();
  const before = memory().numTensors;
  for (let i = 0; i < 5000; i++) base.add(i);
  const during = memory().numTensors;
  // The open page is sealed when the event loop turns.
  await turn();
  globalThis.gc();
  await turn();
  globalThis.gc();
  console.log(JSON.stringify({ before, during, after: memory().numTensors }));
  base.dispose();
}
void main();
