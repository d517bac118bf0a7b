// Exports a model for Hugging Face, and prints the Python that opens it there.
//
//     node export.mjs [--out release/example]
import { parseArgs } from 'node:util';
import { GPT, Gpt2Tokenizer, manualSeed } from 'torchbind';

const { values } = parseArgs({ options: { out: { type: 'string', default: 'release/example' } } });

// Any model will do: GPT.load('checkpoints/shrew') opens one of yours.
manualSeed(1);
const config = { vocabSize: 50257, blockSize: 32, nLayer: 2, nHead: 2, nEmbd: 32, dropout: 0 };
const gpt = new GPT(config, { layout: 'hf-gpt2', tokenizer: new Gpt2Tokenizer() });
const { size } = await gpt.export(values.out, { form: 'huggingface', overwrite: true });
console.log(`${values.out}: ${(size / 1e6).toFixed(1)} MB`);

const prompt = 'Once upon a time';
const { tokens } = await gpt.generate(prompt, { maxNewTokens: 8, temperature: 0, details: true });
console.log(`tokens: ${tokens.join(' ')}`);
console.log(`
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained('${values.out}')
tokenizer = AutoTokenizer.from_pretrained('${values.out}')
ids = tokenizer('${prompt}', return_tensors='pt').input_ids
print('tokens:', *model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1]:].tolist())`);
