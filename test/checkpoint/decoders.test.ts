/** Decoders of Hugging Face beside GPT-2, compared with transformers. */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { applyLora, foldLora, GPT, inspect, noGrad, optim, tensor, tidy, type TorchBindError } from '../../lib';
import { pythonJson, pythonTimeout, repositoryRoot } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

interface Reference {
  idx: number[][];
  logits: number[][][];
  tokens: number[];
  losses: number[];
  gradients: Record<string, number>;
}

const directory = sharedTemporaryDirectory();
const script = path.join(repositoryRoot, 'test/checkpoint/decoders.py');
const names = (readFileSync(script, 'utf8').match(/^ {4}"[\w-]+": \(/gm) ?? []).map((line) => line.split('"')[1]!);
let references: Record<string, Reference>;

beforeAll(async () => {
  references = await pythonJson(script, ['make', directory]);
});

const at = (name: string): string => path.join(directory, name);

/** The largest difference of two arrays, nested alike. */
function difference(a: readonly number[], b: readonly number[]): number {
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
}

test('all cases are there', () => expect(Object.keys(references)).toEqual(names));

describe.each(names)('%s', (name) => {
  test('gives the logits, the gradients, the losses of training and the tokens of transformers', async () => {
    const { idx, logits, tokens, losses, gradients } = references[name]!;
    const gpt = await GPT.load(at(name));
    const ids = tensor(idx, { dtype: 'int64' });
    const found = tidy(() => noGrad(() => gpt.forward(ids).logits.flatten().tolist() as number[]));
    expect(difference(found, logits.flat(2))).toBeLessThan(1e-5); // float32: other orders of sums

    const prompt = idx[0]!.slice(0, 8);
    expect(await all(gpt.generateTokens(prompt, { maxNewTokens: 20, greedy: true }))).toEqual(tokens);
    const together = [prompt, prompt.slice(0, 5)].map((each) =>
      all(gpt.generateTokens(each, { maxNewTokens: 20, greedy: true })),
    );
    expect((await Promise.all(together))[0]).toEqual(tokens);

    const keys = new Map(gpt.stateEntries('').map(({ key, whole }) => [whole, key]));
    const optimizer = new optim.AdamW(gpt.parameters(), { lr: 1e-3, weightDecay: 0 });
    gpt.train();
    const [inputs, targets] = [ids.narrow(1, 0, 23).contiguous(), ids.narrow(1, 1, 23).contiguous()];
    const own = losses.map((_, update) =>
      tidy(() => {
        const loss = gpt.forward(inputs, targets).loss!;
        optimizer.zeroGrad();
        loss.backward();
        if (update === 0) {
          for (const [, parameter] of gpt.namedParameters()) {
            const key = keys.get(parameter);
            const norm = Number(parameter.grad!.norm().item());
            const expected = key === undefined ? undefined : gradients[key];
            if (expected !== undefined) expect(Math.abs(norm - expected)).toBeLessThan(1e-4 * Math.max(1, expected));
          }
        }
        optimizer.step();
        return Number(loss.item());
      }),
    );
    expect(difference(own, losses)).toBeLessThan(1e-4);
    await gpt.save(at(`trained/${name}`));
    gpt.dispose();
  });

  test('is written back byte for byte', async () => {
    const gpt = await GPT.load(at(name));
    await gpt.save(at(`back/${name}`));
    for (const file of ['config.json', 'model.safetensors']) {
      expect(readFileSync(path.join(at(`back/${name}`), file)).equals(readFileSync(path.join(at(name), file)))).toBe(
        true,
      );
    }
    expect(readdirSync(at(`back/${name}`)).sort()).toEqual(readdirSync(at(name)).sort());
    gpt.dispose();
  });

  test('is inspected, adapted, folded, quantized, kept in a bundle and opened again', async () => {
    const prompt = references[name]!.idx[0]!.slice(0, 8);
    const { family } = await inspect(at(name));
    expect(family?.name).toMatch(/^hf-/);
    const gpt = await GPT.load(at(name));
    const logits = (model: GPT): number[] =>
      tidy(() =>
        noGrad(
          () =>
            model
              .forward(tensor([prompt], { dtype: 'int64' }))
              .logits.flatten()
              .tolist() as number[],
        ),
      );
    const before = logits(gpt);

    await gpt.saveCheckpointBundle(at(`bundles/${name}`), { step: 3 });
    const bundle = await GPT.load(at(`bundles/${name}`));
    expect(logits(bundle)).toEqual(before);
    bundle.activationCheckpointing = true;
    const text = tensor([references[name]!.idx[0]!], { dtype: 'int64' });
    bundle.forward(text, text).loss!.backward();
    expect(bundle.parameters().every(({ grad }) => grad !== null)).toBe(true);

    applyLora(bundle, {
      rank: 2,
      alpha: 4,
      targets: ['proj', 'up', 'down'].map((part) => (part === 'proj' ? `attn.${part}` : `mlp.${part}`)),
    });
    for (const [key, parameter] of bundle.namedParameters())
      if (key.endsWith('loraB')) noGrad(() => parameter.fill_(0.01));
    const adapted = logits(bundle);
    expect(difference(adapted, before)).toBeGreaterThan(1e-4);
    foldLora(bundle);
    expect(difference(logits(bundle), adapted)).toBeLessThan(1e-5);
    bundle.dispose();

    gpt.quantize({ bits: 8 });
    const rounded = logits(gpt);
    await gpt.saveCheckpointBundle(at(`quantized/${name}`), { step: 3 });
    gpt.dispose();
    const again = await GPT.load(at(`quantized/${name}`));
    expect(logits(again)).toEqual(rounded);
    again.dispose();
  });
});

test(
  'transformers loads what was trained here, and generates the same tokens',
  async () => {
    const own: Record<string, number[]> = {};
    for (const name of names) {
      const gpt = await GPT.load(at(`trained/${name}`));
      own[name] = await all(
        gpt.generateTokens(references[name]!.idx[0]!.slice(0, 8), { maxNewTokens: 20, greedy: true }),
      );
      gpt.dispose();
    }
    const prompts = Object.fromEntries(names.map((name) => [name, references[name]!.idx[0]!.slice(0, 8)]));
    writeFileSync(at('prompts.json'), JSON.stringify(prompts));
    expect(await pythonJson(script, ['generate', directory])).toEqual(own);
  },
  pythonTimeout,
);

test('what is not known or not computed is refused by name', async () => {
  const refused = async (name: string, change: object): Promise<string> => {
    const target = mkdtempSync(at('refused-'));
    const config = JSON.parse(readFileSync(path.join(at(name), 'config.json'), 'utf8')) as object;
    writeFileSync(path.join(target, 'config.json'), JSON.stringify({ ...config, ...change }));
    writeFileSync(path.join(target, 'model.safetensors'), readFileSync(path.join(at(name), 'model.safetensors')));
    const error = await GPT.load(target).then(
      () => undefined,
      (thrown: TorchBindError) => thrown,
    );
    expect(error?.code).toBe('ERR_TORCHBIND_CONFIG');
    return error!.message;
  };
  expect(await refused('llama', { attention_sink_size: 4 })).toMatch(
    /attention_sink_size of a 'llama' model is not known/,
  );
  expect(await refused('llama', { hidden_act: 'mish' })).toMatch(/hidden_act to be one of .*silu/);
  expect(await refused('llama', { model_type: 'qwen9' })).toMatch(/got 'qwen9' \(LlamaForCausalLM\)/);
  expect(await refused('llama', { model_type: 'phi3' })).toMatch(/whose weights have the keys of 'hf-phi3'/);
  expect(await refused('llama', { rope_parameters: { rope_type: 'xdrope' } })).toMatch(/rope_type to be one of/);
  expect(await refused('opt', { do_layer_norm_before: false })).toMatch(
    /do_layer_norm_before to be true, got boolean false/,
  );
  expect(await refused('olmo', { clip_qkv: 8 })).toMatch(/clip_qkv to be null, got number 8/);
});

test('a model from elsewhere converts where it is exact, and is refused with the reason where not', async () => {
  const llama = await GPT.load(at('llama'));
  await expect(llama.save(at('as-nanogpt'), { layout: 'nanogpt' })).rejects.toMatchObject({
    code: 'ERR_TORCHBIND_CONVERT',
    message: expect.stringMatching(/positionEncoding is .*rope.* here and .*learned.* there/) as string,
  });
  const made = new GPT(
    { vocabSize: 61, blockSize: 64, nLayer: 2, nHead: 4, nKvHead: 2, nEmbd: 32, qkNorm: 'head' },
    { layout: 'hf-llama' },
  );
  await made.save(at('made'));
  const config = JSON.parse(readFileSync(path.join(at('made'), 'config.json'), 'utf8')) as { model_type: string };
  expect(config.model_type).toBe('qwen3');
  const opened = await GPT.load(at('made'));
  const ids = tensor([[1, 2, 3]], { dtype: 'int64' });
  expect(opened.forward(ids).logits.equal(made.eval().forward(ids).logits)).toBe(true);
});

async function all(tokens: AsyncIterable<number>): Promise<number[]> {
  const found: number[] = [];
  for await (const token of tokens) found.push(token);
  return found;
}
