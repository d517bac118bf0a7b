import { copyFileSync, cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  CharTokenizer,
  GPT,
  Gpt2Tokenizer,
  type HuggingFaceTokenizer,
  type ModuleTicket,
  receive,
  share,
} from '../../lib';
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

  it('keeps the chat template, the special tokens and the options of generation through every form', async () => {
    const at = (name: string): string => path.join(temporaryDirectory(), name);
    const chat = at('chat');
    cpSync(hf, chat, { recursive: true });
    const template = '{{ bos_token }}{% for message in messages %}{{ message.content }}\u00e9{% endfor %}';
    const tokens = { bos_token: '<|endoftext|>', eos_token: '<|endoftext|>' };
    writeFileSync(path.join(chat, 'tokenizer_config.json'), JSON.stringify({ ...tokens, chat_template: template }));
    writeFileSync(
      path.join(chat, 'generation_config.json'),
      JSON.stringify({ temperature: 0.5, do_sample: true, eos_token_id: 7 }),
    );
    const messages = [{ role: 'user', content: 'hello' }];
    const facts = (gpt: GPT): unknown => [
      gpt.tokenizer!.applyChatTemplate!(messages),
      (gpt.tokenizer as HuggingFaceTokenizer).specialTokens,
      gpt.tokenizer!.startId,
      [...gpt.tokenizer!.encode(python.prompt)],
      gpt.generationJson,
    ];
    const pass = async (from: string, write: (gpt: GPT, to: string) => Promise<unknown>): Promise<string> => {
      const to = at('next');
      const gpt = await GPT.load(from);
      await write(gpt, to);
      const again = await GPT.load(to);
      expect(facts(again)).toEqual(expected);
      gpt.dispose();
      again.dispose();
      return to;
    };
    const original = await GPT.load(chat);
    const expected = facts(original);
    expect(expected).toEqual([
      '<|endoftext|>hello\u00e9',
      tokens,
      original.tokenizer!.startId,
      python.ids,
      { temperature: 0.5, do_sample: true, eos_token_id: 7 },
    ]);
    const shared = receive(share(original) as ModuleTicket) as GPT;
    expect(facts(shared)).toEqual(expected);
    shared.dispose();
    original.dispose();

    const bundle = await pass(chat, (gpt, to) => gpt.saveCheckpointBundle(to, { step: 3 }));
    await pass(path.join(bundle, 'steps/00000003'), (gpt, to) => gpt.save(to, { distributed: true }));
    await pass(path.join(bundle, 'model.pt'), (gpt, to) => gpt.saveCheckpointBundle(to));
    await pass(bundle, (gpt, to) => gpt.export(to));
    const exported = await pass(bundle, (gpt, to) => gpt.export(to, { form: 'huggingface' }));
    await pass(exported, (gpt, to) => gpt.save(to));
    const trained = await pass(bundle, (gpt, to) =>
      gpt.fit({ text: python.prompt.repeat(30), maxSteps: 1, batchSize: 1, evalInterval: 0, checkpointDir: to }),
    );
    // What the model does not have any more is not left from the save before.
    const gpt = await GPT.load(trained, { optimizer: true });
    gpt.generationConfig = undefined;
    gpt.tokenizer = null;
    await gpt.saveCheckpointBundle(trained);
    const names = readdirSync(trained);
    for (const name of ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'])
      expect(names).not.toContain(name);
    gpt.dispose();
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
