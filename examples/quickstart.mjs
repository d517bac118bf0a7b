// The main job in one program: open a GPT that Python trained, generate, fine-tune it, save it for Python, generate again.
//
//     npm run quickstart              all of it, with the set-up where that is still to do
//     node examples/quickstart.mjs    the same, once set up
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { GPT } from 'torchbind';

const here = path.dirname(fileURLToPath(import.meta.url));
const source = path.join(here, 'checkpoints/shakespeare-char');
const target = path.resolve(here, '../checkpoints/quickstart');
const STEPS = 250;
const SECONDS = 50; // on a slow machine it makes fewer steps
const relative = (file) => path.relative(process.cwd(), file) || '.';

heading(`Opening ${relative(source)}, which Python PyTorch trained on Richard II and Richard III`);
const gpt = await GPT.load(source);
const { nLayer, nEmbd, nHead, blockSize } = gpt.config;
console.log(
  `${gpt.numParameters().toLocaleString('en')} parameters: ${nLayer} layers, ${nEmbd} channels, ${nHead} heads,`,
);
console.log(`a context of ${blockSize} characters.`);

heading('It writes histories');
await write('KING RICHARD II:\n');

heading(`Fine-tuning it on The Taming of the Shrew: ${STEPS} steps, less than a minute`);
const began = performance.now();
const { losses } = await gpt.fit({
  text: readFileSync(path.join(here, 'data/shrew.txt'), 'utf8'),
  maxSteps: STEPS,
  batchSize: 16,
  learningRate: 1e-3,
  seed: 1337,
  evalInterval: 50,
  evalSteps: 10,
  signal: AbortSignal.timeout(1000 * SECONDS),
  progressBar: process.stderr.isTTY,
  onEval: ({ step, trainLoss, valLoss }) =>
    console.log(`step ${String(step).padStart(3)}   loss ${trainLoss.toFixed(3)}   validation ${valLoss.toFixed(3)}`),
});
console.log(`${losses.length} steps in ${((performance.now() - began) / 1000).toFixed(0)} s`);

await gpt.saveCheckpointBundle(target);

heading('It writes a comedy');
await write('PETRUCHIO:\n');

heading('Done');
console.log(`The fine-tuned bundle is in ${relative(target)}: model.pt, optimizer.pt and three JSON files.
Python opens it as it is, where PyTorch is installed:

    python3 examples/pytorch/generate.py ${relative(target)} --prompt "KATHARINA:"
    python3 examples/pytorch/train.py --resume --input examples/data/shrew.txt --out ${relative(target)} --steps 100

To try next: the code in README.md, this program (examples/quickstart.mjs) with a text of your own, and npm run bench.`);

/** Streams some text to the terminal as it is generated. */
async function write(prompt) {
  process.stdout.write(prompt);
  for await (const piece of gpt.stream(prompt, { maxNewTokens: 300, temperature: 0.8, topK: 20, seed: 7 })) {
    process.stdout.write(piece);
  }
  process.stdout.write('\n');
}

function heading(text) {
  console.log(`\n== ${text}\n`);
}
