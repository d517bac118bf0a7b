// Trains LoRA adapters on a frozen model, saves them alone, and merges them into the weights.
//
//     node lora.mjs [text.txt] [--steps 30] [--out checkpoints/lora]
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { applyLora, foldLora, GPT } from 'torchbind';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { steps: { type: 'string', default: '30' }, out: { type: 'string', default: 'checkpoints/lora' } },
});
const text = await readFile(positionals[0] ?? new URL('data/shrew.txt', import.meta.url), 'utf8');
const gpt = await GPT.load(new URL('checkpoints/shakespeare-char', import.meta.url));

applyLora(gpt, { rank: 4, alpha: 8 });
const trained = gpt.parameters().filter(({ requiresGrad }) => requiresGrad);
const count = trained.reduce((sum, parameter) => sum + parameter.numel(), 0);
console.log(`${count} of ${gpt.numParameters()} parameters are trained`);
await gpt.fit({
  text,
  startStep: 0,
  maxSteps: Number(values.steps),
  batchSize: 8,
  learningRate: 1e-2,
  evalInterval: 0,
  seed: 1,
});

const prompt = 'KATE:\n';
const adapted = await gpt.generate(prompt, { maxNewTokens: 40, greedy: true });
await gpt.saveCheckpointBundle(path.join(values.out, 'adapted'));
foldLora(gpt); // no adapters any more: the same model at the speed of the plain one
await gpt.save(path.join(values.out, 'merged')); // without the optimizer, which is that of the adapters
const merged = await GPT.load(path.join(values.out, 'merged'));
console.log(adapted);
console.log('merged writes the same:', (await merged.generate(prompt, { maxNewTokens: 40, greedy: true })) === adapted);
