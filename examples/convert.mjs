// Converts a checkpoint of nanoGPT (ckpt.pt) to a directory that Hugging Face transformers opens.
//
//     node convert.mjs ckpt.pt [--out checkpoints/hugging-face]
import { parseArgs } from 'node:util';
import { GPT, manualSeed } from 'torchbind';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { out: { type: 'string', default: 'checkpoints/hugging-face' } },
});
const source = positionals[0] ?? (await example('checkpoints/ckpt.pt'));

const gpt = await GPT.load(source);
console.log(`${source}: ${gpt.layout.name}, ${gpt.numParameters()} parameters`);
await gpt.save(values.out, { layout: 'hf-gpt2' });

const ids = [1, 2, 3];
const next = async (model) =>
  Array.fromAsync?.(model.generateTokens(ids, { maxNewTokens: 8, greedy: true })) ?? collect(model);
const collect = async (model) => {
  const tokens = [];
  for await (const id of model.generateTokens(ids, { maxNewTokens: 8, greedy: true })) tokens.push(id);
  return tokens;
};
const [before, after] = [await next(gpt), await next(await GPT.load(values.out))];
console.log(`${values.out} gives the same tokens:`, String(before) === String(after));

/** A small checkpoint in nanoGPT's form, for a run without one. */
async function example(file) {
  manualSeed(1);
  const config = { vocabSize: 96, blockSize: 32, nLayer: 2, nHead: 2, nEmbd: 32, dropout: 0, bias: true };
  await new GPT(config, { layout: 'nanogpt' }).save(file);
  return file;
}
