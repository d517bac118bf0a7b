// Fine-tunes a Llama in Hugging Face's form with LoRA, and writes the whole model back for transformers.
//
//     node llama.mjs [MODEL_DIRECTORY] [--text data/shrew.txt] [--steps 40] [--out checkpoints/llama]
//
// Without a directory it makes a tiny Llama with characters as tokens.
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { applyLora, CharTokenizer, foldLora, GPT, manualSeed } from 'torchbind';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    text: { type: 'string', default: 'data/shrew.txt' },
    steps: { type: 'string', default: '40' },
    out: { type: 'string', default: 'checkpoints/llama' },
  },
});
const text = await readFile(values.text, 'utf8');
const tokenizer = CharTokenizer.fromText(text);
const source = positionals[0] ?? (await tiny('checkpoints/tiny-llama'));

const gpt = await GPT.load(source);
gpt.tokenizer ??= tokenizer;
console.log(`${source}: ${gpt.layout.name}, ${gpt.config.nHead} heads, ${gpt.config.nKvHead} of keys and values`);

applyLora(gpt, { rank: 8, alpha: 16, targets: ['attn.q', 'attn.k', 'attn.v', 'attn.proj'] });
const before = await gpt.perplexity(text.slice(0, 4000));
await gpt.fit({ text, batchSize: 8, maxSteps: Number(values.steps), learningRate: 1e-2, evalInterval: 0 });
console.log(`perplexity ${before.toFixed(2)} -> ${(await gpt.perplexity(text.slice(0, 4000))).toFixed(2)}`);

foldLora(gpt); // the adapters become part of the weights
await gpt.save(values.out, { optimizer: null });
console.log(`${values.out} opens in transformers: AutoModelForCausalLM.from_pretrained('${values.out}')`);

async function tiny(directory) {
  manualSeed(1);
  const sizes = { vocabSize: tokenizer.vocabSize, blockSize: 64, nLayer: 2, nHead: 4, nKvHead: 2, nEmbd: 64 };
  await new GPT(sizes, { layout: 'hf-llama' }).save(directory);
  return directory;
}
