// Trains on several ranks; rank 0 saves.
//
//     torchrun --no-python --nproc-per-node 2 node ranks.mjs [--steps 20] [--out checkpoints/ranks]
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { CharTokenizer, distributed, GPT, manualSeed } from 'torchbind';

const { values } = parseArgs({
  options: { steps: { type: 'string', default: '20' }, out: { type: 'string', default: 'checkpoints/ranks' } },
});
const text = await readFile(new URL('data/shrew.txt', import.meta.url), 'utf8');

await distributed.initProcessGroup();
manualSeed(1); // the same initial weights on all ranks
const tokenizer = CharTokenizer.fromText(text);
const config = { vocabSize: tokenizer.vocabSize, blockSize: 32, nLayer: 1, nHead: 2, nEmbd: 32, dropout: 0 };
const gpt = new GPT(config, { tokenizer });
const { losses } = await gpt.fit({
  text,
  maxSteps: Number(values.steps),
  batchSize: 4, // per rank
  evalInterval: 0,
  seed: 1,
  checkpointDir: values.out,
});
const sums = await distributed.allGatherObject(
  gpt.parameters().reduce((sum, p) => sum + p.detach().abs().sum().item(), 0),
);
if (distributed.rank() === 0) {
  console.log(`${distributed.worldSize()} ranks, loss ${losses[0].toFixed(2)} -> ${losses.at(-1).toFixed(2)}`);
  console.log(
    'all ranks have the same weights:',
    sums.every((sum) => sum === sums[0]),
  );
}
await distributed.destroyProcessGroup();
