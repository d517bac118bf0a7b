// Trains a GPT on a text file from nothing, and writes with it.
//
//     node from-scratch.mjs [text.txt] [--steps 60] [--out checkpoints/from-scratch]
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { CharTokenizer, GPT, manualSeed } from 'torchbind';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { steps: { type: 'string', default: '60' }, out: { type: 'string', default: 'checkpoints/from-scratch' } },
});
const text = await readFile(positionals[0] ?? new URL('data/shrew.txt', import.meta.url), 'utf8');

manualSeed(1); // the initial weights
const tokenizer = CharTokenizer.fromText(text);
const config = { vocabSize: tokenizer.vocabSize, blockSize: 64, nLayer: 2, nHead: 4, nEmbd: 64, dropout: 0 };
const gpt = new GPT(config, { tokenizer });
const { losses } = await gpt.fit({ text, maxSteps: Number(values.steps), batchSize: 16, learningRate: 3e-3, seed: 1 });
console.log(`loss ${losses[0].toFixed(2)} -> ${losses.at(-1).toFixed(2)}`);
await gpt.saveCheckpointBundle(values.out);
console.log(await gpt.generate('KATE:\n', { maxNewTokens: 80, seed: 1 }));
