// Fine-tunes a bundle that Python PyTorch saved, and writes one that Python opens.
//
//     node fine-tune.mjs [bundle] [text.txt] [--steps 20] [--out checkpoints/fine-tuned]
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { GPT } from 'torchbind';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { steps: { type: 'string', default: '20' }, out: { type: 'string', default: 'checkpoints/fine-tuned' } },
});
const bundle = positionals[0] ?? new URL('checkpoints/shakespeare-char', import.meta.url);
const text = await readFile(positionals[1] ?? new URL('data/shrew.txt', import.meta.url), 'utf8');

// With the optimizer that Python saved next to the weights: its moments belong to them.
const gpt = await GPT.load(bundle, { optimizer: true });
const held = text.slice(0, 1000);
console.log('perplexity before:', (await gpt.perplexity(held)).toFixed(2));
await gpt.fit({ text, maxSteps: Number(values.steps), batchSize: 8, learningRate: 1e-3, evalInterval: 0, seed: 1 });
console.log('perplexity after: ', (await gpt.perplexity(held)).toFixed(2));
await gpt.saveCheckpointBundle(values.out);
console.log(`saved step ${gpt.step} in ${values.out}`);
