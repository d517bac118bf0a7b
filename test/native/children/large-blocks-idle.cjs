// Megabytes of memory with large storages, just after they were freed, and when they were not asked for any more.
const { setTimeout: sleep } = require('node:timers/promises');
const { dispose, empty, full, ones } = require('../../../dist/index.js');

const megabytes = () => process.memoryUsage.rss() / 2 ** 20;

async function main() {
  ones([1]);
  const before = megabytes();
  const tensors = Array.from({ length: 10 }, () => ones([30 * 2 ** 18]));
  const used = megabytes() - before;
  dispose(tensors);
  const kept = megabytes() - before;
  full([300_000], 7, { dtype: 'float32' }).dispose();
  const next = empty([300_000]); // whatever is in its memory
  const again = [next.min().item(), next.max().item()];
  next.dispose();
  // It is a question of seconds; a machine that is busy may take longer.
  for (let i = 0; i < 1200 && megabytes() - before > 100; i++) await sleep(100);
  console.log(JSON.stringify({ used, kept, again, left: megabytes() - before }));
}

void main();
