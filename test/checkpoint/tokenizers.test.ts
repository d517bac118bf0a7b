import { copyFileSync, cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { CharTokenizer, GPT, Gpt2Tokenizer } from '../../lib';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

const directory = sharedTemporaryDirectory();
const hf = path.join(directory, 'hf');
const ckpt = path.join(directory, 'nanogpt/out/ckpt.pt');
let python: { prompt: string; ids: number[]; out: number[]; text: string };

beforeAll(async () => {
  python = await pythonJson(path.join(__dirname, 'with_tokenizers.py'), [directory]);
}, pythonTimeout);

/** A model's greatest-logit text, and nothing of it left. */
async function generate(where: string, prompt: string, maxNewTokens: number): Promise<string> {
  const model = await GPT.load(where);
  try {
    return await model.generate(prompt, { maxNewTokens, greedy: true });
  } finally {
    model.dispose();
  }
}

describe('a directory of Hugging Face', () => {
  it('generates with its tokenizer what transformers generates', async () => {
    expect(await generate(hf, python.prompt, 12)).toBe(python.text);
    expect(python.out.slice(0, python.ids.length)).toEqual(python.ids);
  });

  it('has its tokenizer from vocab.json and merges.txt too', async () => {
    const old = temporaryDirectory();
    for (const name of ['config.json', 'model.safetensors']) copyFileSync(path.join(hf, name), path.join(old, name));
    const { model } = JSON.parse(readFileSync(path.join(hf, 'tokenizer.json'), 'utf8')) as {
      model: { vocab: object; merges: string[][] };
    };
    writeFileSync(path.join(old, 'vocab.json'), JSON.stringify(model.vocab));
    writeFileSync(path.join(old, 'merges.txt'), model.merges.map((pair) => pair.join(' ')).join('\n'));
    expect(await generate(old, python.prompt, 12)).toBe(python.text);
  });

  it('keeps its tokenizer on the way into a bundle and back', async () => {
    const bundle = temporaryDirectory();
    const model = await GPT.load(hf);
    await model.saveCheckpointBundle(bundle);
    await model.save(path.join(bundle, 'hf'));
    model.dispose();
    const again = await GPT.load(bundle);
    expect([...again.tokenizer!.encode(python.prompt)]).toEqual(python.ids);
    again.dispose();
    expect(readFileSync(path.join(bundle, 'hf/tokenizer.json'))).toEqual(readFileSync(path.join(hf, 'tokenizer.json')));
  });

  it('is refused with a tokenizer of more tokens than the model, unless another or none is given', async () => {
    const wrong = temporaryDirectory();
    cpSync(hf, wrong, { recursive: true });
    writeFileSync(path.join(wrong, 'tokenizer.json'), JSON.stringify({ token_kind: 'gpt2', chars: null }));
    await expect(GPT.load(wrong)).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_TORCHBIND_VOCABULARY',
        message: expect.stringMatching(/50257 tokens, but the model's vocabulary is 320/) as string,
      }),
    );
    writeFileSync(path.join(wrong, 'tokenizer.json'), '{');
    await expect(GPT.load(wrong)).rejects.toThrow(/not valid JSON/);
    for (const tokenizer of [null, new CharTokenizer(['a'])]) {
      const model = await GPT.load(wrong, { tokenizer });
      expect(model.tokenizer).toBe(tokenizer);
      model.dispose();
    }
    await expect(GPT.load(wrong, { tokenizer: new Gpt2Tokenizer() })).rejects.toThrow(/50257 tokens/);
  });
});

describe("nanoGPT's ckpt.pt", () => {
  it("comes with the meta.pkl of its dataset, in that file's order, and takes it along", async () => {
    const model = await GPT.load(ckpt);
    expect((model.tokenizer as CharTokenizer).chars).toEqual([...'zeta b\n']);
    const out = temporaryDirectory();
    await model.save(path.join(out, 'ckpt.pt'), { optimizer: null });
    model.dispose();
    expect(existsSync(path.join(out, 'meta.pkl'))).toBe(true);
    expect(await generate(path.join(out, 'ckpt.pt'), 'beta', 8)).toBe(await generate(ckpt, 'beta', 8));
  });

  it('has none if there is no meta.pkl and its size is not of GPT-2', async () => {
    const out = temporaryDirectory();
    copyFileSync(ckpt, path.join(out, 'ckpt.pt'));
    const model = await GPT.load(out);
    expect(model.tokenizer).toBeNull();
    model.dispose();
  });
});
