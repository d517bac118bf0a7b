/** Decoders of Hugging Face besides GPT-2, compared with transformers. */
import { mkdtempSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { applyLora, GPT, loadSafetensors, noGrad, optim, type Tensor, tensor, tidy, type TorchBindError } from '../../lib'; // prettier-ignore
import { pythonJson, pythonTimeout, repositoryRoot } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

interface Reference {
  idx: number[][];
  logits: number[][][];
  tokens: number[];
  losses: number[];
  /** Logits with the adapter of PEFT, of the first case of each model_type. */
  adapted?: number[][][];
  /** Logits in bfloat16, of one case. */
  half?: number[][][];
}

const directory = sharedTemporaryDirectory();
const script = path.join(repositoryRoot, 'test/checkpoint/decoders.py');
/** Names of the cases of decoders.py with their model_type. */
const cases = [...readFileSync(script, 'utf8').matchAll(/^ {4}"([\w-]+)": \(\s*"(\w+)"/gm)].map(
  ([, name, type]) => [name!, type!] as const,
);
const names = cases.map(([name]) => name);
/** One case for each model_type: whatever depends on names and shapes alone. */
const firsts = cases
  .filter(([, type], i) => cases.findIndex(([, other]) => other === type) === i)
  .map(([name]) => name);
let references: Record<string, Reference>;

beforeAll(async () => {
  references = await pythonJson(script, ['make', directory]);
}, pythonTimeout);

const at = (name: string): string => path.join(directory, name);

/** The largest difference of two arrays, nested alike. */
function difference(a: readonly number[], b: readonly number[]): number {
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
}

/** Logits of Node's own adapters, by case. */
const ownAdapted: Record<string, number[]> = {};

function logitsOf(gpt: GPT, idx: number[][]): number[] {
  const ids = tensor(idx, { dtype: 'int64' });
  return tidy(() => noGrad(() => gpt.forward(ids).logits.flatten().tolist() as number[]));
}

/** The likeliest tokens after a prompt, each from a forward pass of the whole text. */
function withoutCache(gpt: GPT, prompt: readonly number[], count: number): number[] {
  const text = [...prompt];
  while (text.length < prompt.length + count) {
    const last = logitsOf(gpt, [text]).slice(-gpt.config.vocabSize);
    text.push(last.indexOf(Math.max(...last)));
  }
  return text.slice(prompt.length);
}

/** A tensor by the name of its parameter, which in GPT-NeoX's files is another. */
function ofName(state: ReadonlyMap<string, Tensor>, name: string): Tensor {
  return (state.get(name) ?? state.get(name.replace('lm_head', 'embed_out')))!;
}

/** Compares each element of each gradient with transformers', by the keys of its files. */
function expectGradients(gpt: GPT, training: ReadonlyMap<string, Tensor>): void {
  noGrad(() =>
    tidy(() => {
      const weights = gpt.parameters().map((parameter) => [parameter, parameter.clone()] as const);
      for (const [parameter] of weights) parameter.copy_(parameter.grad!);
      const found = gpt.stateDict() as ReadonlyMap<string, Tensor>;
      let count = 0;
      for (const [name, expected] of training) {
        if (!name.startsWith('gradient ')) continue;
        const largest = Number(expected.abs().max().item());
        const different = Number(ofName(found, name.slice(9)).sub(expected).abs().max().item());
        expect(different, name).toBeLessThan(1e-4 * Math.max(largest, 1e-3)); // of biases of keys only rounding is left
        count++;
      }
      expect(count).toBeGreaterThan(10);
      for (const [parameter, weight] of weights) parameter.copy_(weight);
    }),
  );
}

/** Compares each weight after training. NaN stands for weights that rounding decides. */
function expectWeights(gpt: GPT, training: ReadonlyMap<string, Tensor>): void {
  noGrad(() =>
    tidy(() => {
      const found = gpt.stateDict() as ReadonlyMap<string, Tensor>;
      for (const [key, expected] of training) {
        if (key.startsWith('gradient ')) continue;
        const own = ofName(found, key);
        expect(own.isfinite().all().item(), key).toBe(true);
        const isCompared = expected.isfinite();
        if (!key.endsWith('bias')) expect(Number(isCompared.sum().item()), key).toBeGreaterThan(0);
        const differences = own.sub(expected).abs().nanToNum();
        expect(Number(differences.max().item()), key).toBeLessThan(1e-4);
      }
    }),
  );
}

/** Puts adapters that change something next to all Linears but the head. */
function adapt(gpt: GPT): void {
  const linears = gpt.namedModules().filter(([key, module]) => 'inFeatures' in module && key !== 'lmHead');
  applyLora(gpt, { rank: 2, alpha: 4, targets: linears.map(([key]) => key) });
  for (const [key, parameter] of gpt.namedParameters()) if (key.endsWith('loraB')) noGrad(() => parameter.fill_(0.01));
}

test('all cases are there', () => expect(Object.keys(references)).toEqual(names));

describe.each(names)('%s', (name) => {
  test('gives the logits, the gradients, the losses of training and the tokens of transformers', async () => {
    const { idx, logits, tokens, losses } = references[name]!;
    const gpt = await GPT.load(at(name));
    const ids = tensor(idx, { dtype: 'int64' });
    expect(difference(logitsOf(gpt, idx), logits.flat(2))).toBeLessThan(1e-5); // float32: other orders of sums

    const prompt = idx[0]!.slice(0, 8);
    expect(await all(gpt.generateTokens(prompt, { maxNewTokens: 20, greedy: true }))).toEqual(tokens);
    if (firsts.includes(name)) expect(withoutCache(gpt, prompt, 20)).toEqual(tokens);
    const together = [prompt, prompt.slice(0, 5)].map((each) =>
      all(gpt.generateTokens(each, { maxNewTokens: 20, greedy: true })),
    );
    expect((await Promise.all(together))[0]).toEqual(tokens);

    const training = await loadSafetensors(at(`training-${name}.safetensors`));
    const optimizer = new optim.AdamW(gpt.parameters(), { lr: 1e-3, weightDecay: 0 });
    gpt.train();
    const [inputs, targets] = [ids.narrow(1, 0, 23).contiguous(), ids.narrow(1, 1, 23).contiguous()];
    const own = losses.slice(0, 10).map((_, update) =>
      tidy(() => {
        const loss = gpt.forward(inputs, targets).loss!;
        optimizer.zeroGrad();
        loss.backward();
        if (update === 0) expectGradients(gpt, training);
        optimizer.step();
        return Number(loss.item());
      }),
    );
    expect(difference(own, losses)).toBeLessThan(1e-4);
    expectWeights(gpt, training);
    await gpt.save(at(`trained/${name}`));
    gpt.dispose();
  });

  test('is written back byte for byte', async () => {
    const gpt = await GPT.load(at(name));
    if (firsts.includes(name)) await gpt.export(at(`exported/${name}`), { form: 'huggingface' });
    await gpt.save(at(`back/${name}`));
    for (const file of ['config.json', 'model.safetensors']) {
      expect(readFileSync(path.join(at(`back/${name}`), file)).equals(readFileSync(path.join(at(name), file)))).toBe(
        true,
      );
    }
    expect(readdirSync(at(`back/${name}`)).sort()).toEqual(readdirSync(at(name)).sort());
    gpt.dispose();
  });
});

describe.each(firsts)('%s', (name) => {
  test('continues from a checkpoint of Trainer, which continues from what is written here', async () => {
    const { idx, losses } = references[name]!;
    const source = at(`trainer/${name}/checkpoint-10`);
    const gpt = await GPT.load(source, { optimizer: true });
    expect([gpt.step, gpt.origin!.form]).toEqual([10, 'hf-trainer']);
    const same = at(`same/${name}/checkpoint-10`);
    await gpt.save(same);
    expect(readdirSync(same)).toEqual(readdirSync(source));
    for (const file of readdirSync(source)) {
      // These two are compared as values by Python below: zip files of torch name the program that wrote them.
      if (/^(optimizer|scheduler)/.test(file)) continue;
      expect(readFileSync(path.join(same, file)).equals(readFileSync(path.join(source, file))), file).toBe(true);
    }
    gpt.train();
    const ids = tensor(idx, { dtype: 'int64' });
    const [inputs, targets] = [ids.narrow(1, 0, 23).contiguous(), ids.narrow(1, 1, 23).contiguous()];
    const own = [0, 1].map(() =>
      tidy(() => {
        const loss = gpt.forward(inputs, targets).loss!;
        gpt.optimizer!.zeroGrad();
        loss.backward();
        gpt.optimizer!.step();
        return Number(loss.item());
      }),
    );
    expect(difference(own, losses.slice(10))).toBeLessThan(1e-4);
    await gpt.save(at(`resumed/${name}/checkpoint-12`), { step: 12 });
    gpt.dispose();
  });

  test('opens with an adapter of PEFT on all Linears, and adapters go back', async () => {
    const { idx, adapted } = references[name]!;
    const gpt = await GPT.load(at(`adapters/${name}`));
    expect(difference(logitsOf(gpt, idx), adapted!.flat(2))).toBeLessThan(1e-5);
    await gpt.saveAdapter(at(`same-adapters/${name}`));
    for (const file of readdirSync(at(`adapters/${name}`))) {
      const [written, came] = ['same-adapters', 'adapters'].map((place) =>
        readFileSync(at(`${place}/${name}/${file}`)),
      );
      expect(written!.equals(came!), file).toBe(true);
    }
    gpt.dispose();
    const own = await GPT.load(at(name));
    adapt(own);
    ownAdapted[name] = logitsOf(own, idx);
    await own.saveAdapter(at(`own-adapters/${name}`));
    own.dispose();
  });
});

test.each(['sharded', 'half'])('a directory is written back byte for byte: %s', async (name) => {
  const gpt = await GPT.load(at(name));
  await gpt.save(at(`back/${name}`));
  const files = readdirSync(at(name));
  expect(files.length).toBeGreaterThan(name === 'sharded' ? 5 : 2);
  expect(readdirSync(at(`back/${name}`))).toEqual(files);
  for (const file of files)
    expect(readFileSync(at(`back/${name}/${file}`)).equals(readFileSync(at(`${name}/${file}`))), file).toBe(true);
  const [ids] = references.llama!.idx;
  const expected = references.llama!.logits[0]!.flat();
  // bfloat16 has 8 bits of precision, here in the weights alone.
  expect(difference(logitsOf(gpt, [ids!]), expected)).toBeLessThan(name === 'half' ? 0.2 : 1e-5);
  gpt.dispose();
});

test('weights in bfloat16 stay in bfloat16 and are computed in it: dtype auto', async () => {
  const gpt = await GPT.load(at('half'), { dtype: 'auto', mmap: true });
  expect(new Set(gpt.parameters().map(({ dtype }) => dtype))).toEqual(new Set(['bfloat16']));
  const { idx, half } = references.llama!;
  const scale = Math.max(...half!.flat(2).map(Math.abs));
  // Sums of 8 bits of precision, in another order.
  expect(difference(logitsOf(gpt, idx), half!.flat(2))).toBeLessThan(0.03 * scale);
  await gpt.save(at('back/auto'));
  for (const file of readdirSync(at('half')))
    expect(readFileSync(at(`back/auto/${file}`)).equals(readFileSync(at(`half/${file}`))), file).toBe(true);

  adapt(gpt);
  const [ids, text] = [tensor(idx, { dtype: 'int64' }), tensor(idx, { dtype: 'int64' })];
  gpt.forward(ids, text).loss!.backward();
  for (const [key, { grad, dtype }] of gpt.namedParameters())
    if (/lora/.test(key)) expect([dtype, grad!.dtype]).toEqual(['float32', 'float32']);
  gpt.dispose();

  const wide = await GPT.load(at('llama'), { dtype: 'bfloat16' });
  await wide.save(at('narrowed'));
  const config = JSON.parse(readFileSync(at('narrowed/config.json'), 'utf8')) as { dtype: string };
  expect([config.dtype, (await GPT.load(at('narrowed'), { dtype: 'auto' })).parameters()[0]!.dtype]).toEqual([
    'bfloat16',
    'bfloat16',
  ]);
  await expect(GPT.load(at('half'), { dtype: 'int8' as never })).rejects.toMatchObject({
    code: 'ERR_TORCHBIND_INVALID_ARGUMENT',
  });
});

test('mapped weights are used where they are, and training does not change their files', async () => {
  const files = readdirSync(at('sharded')).map((file) => at(`sharded/${file}`));
  const before = files.map((file) => readFileSync(file));
  const gpt = await GPT.load(at('sharded'), { mmap: true });
  expect(difference(logitsOf(gpt, references.llama!.idx), references.llama!.logits.flat(2))).toBeLessThan(1e-5);
  const ids = tensor(references.llama!.idx, { dtype: 'int64' });
  const optimizer = new optim.AdamW(gpt.parameters(), { lr: 1e-2 });
  gpt.forward(ids, ids).loss!.backward();
  optimizer.step();
  const trained = logitsOf(gpt, references.llama!.idx);
  expect(files.map((file, i) => readFileSync(file).equals(before[i]!))).toEqual(files.map(() => true));
  await gpt.save(at('sharded'), { optimizer: null }); // its own files, which it has mapped
  expect(logitsOf(await GPT.load(at('sharded')), references.llama!.idx)).toEqual(trained);
  expect(logitsOf(gpt, references.llama!.idx)).toEqual(trained);
  gpt.dispose();
});

test('a model of 7 B parameters opens without its weights in memory', async () => {
  const [vocab, channels, hidden] = [32000, 4096, 11008];
  const entries: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }> = {};
  let end = 0;
  const add = (key: string, ...shape: number[]): void => {
    const begin = end;
    end += 4 * shape.reduce((product, size) => product * size, 1);
    entries[`${key}.weight`] = { dtype: 'F32', shape, data_offsets: [begin, end] };
  };
  add('model.embed_tokens', vocab, channels);
  for (let i = 0; i < 32; i++) {
    const block = `model.layers.${i}`;
    for (const name of ['input_layernorm', 'post_attention_layernorm']) add(`${block}.${name}`, channels);
    for (const name of ['q', 'k', 'v', 'o']) add(`${block}.self_attn.${name}_proj`, channels, channels);
    for (const name of ['gate', 'up']) add(`${block}.mlp.${name}_proj`, hidden, channels);
    add(`${block}.mlp.down_proj`, channels, hidden);
  }
  add('model.norm', channels);
  add('lm_head', vocab, channels);
  const header = Buffer.from(JSON.stringify(entries));
  const padded = Buffer.concat([header, Buffer.alloc(-header.length & 7, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const target = mkdtempSync(at('large-'));
  const file = path.join(target, 'model.safetensors');
  writeFileSync(file, Buffer.concat([length, padded]));
  truncateSync(file, 8 + padded.length + end); // sparse
  const config = JSON.parse(readFileSync(at('llama/config.json'), 'utf8')) as object;
  const sizes = { vocab_size: vocab, hidden_size: channels, intermediate_size: hidden, num_hidden_layers: 32 };
  const heads = { num_attention_heads: 32, num_key_value_heads: 32, head_dim: 128 };
  writeFileSync(path.join(target, 'config.json'), JSON.stringify({ ...config, ...sizes, ...heads }));

  const before = process.memoryUsage.rss();
  const gpt = await GPT.load(target);
  expect(gpt.numParameters()).toBeGreaterThan(6.7e9);
  const row = gpt.tokenEmbedding.forward(tensor([7], { dtype: 'int64' }));
  expect(Number(row.abs().sum().item())).toBe(0);
  expect(process.memoryUsage.rss() - before).toBeLessThan(500e6); // of 27e9
  gpt.dispose();
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
    writeFileSync(
      at('prompts.json'),
      JSON.stringify(Object.fromEntries(names.map((name) => [name, references[name]!.idx]))),
    );
    const found = await pythonJson<
      Record<
        string,
        { tokens: number[]; logits?: number[][][]; losses?: number[]; differences?: number[]; exported?: number[] }
      >
    >(script, ['generate', directory]);
    for (const name of names) {
      const { tokens, logits, losses, differences, exported } = found[name]!;
      expect(tokens, name).toEqual(own[name]);
      if (logits === undefined || losses === undefined) {
        expect(firsts).not.toContain(name);
        continue;
      }
      expect(exported, name).toEqual(references[name]!.tokens);
      expect(difference(logits.flat(2), ownAdapted[name]!), name).toBeLessThan(1e-5);
      expect(difference(losses, references[name]!.losses.slice(12)), name).toBeLessThan(1e-4);
      // Weights and both moments: after two updates here, and after two more in Python, as if Python had made all of them.
      expect(Math.max(...differences!), name).toBeLessThan(1e-4);
    }
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
