/** Directories of Hugging Face as people have them, and what is no GPT-2: opened, written back, or named. */
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { compare, inspect } from '../../lib/checkpoint';
import { load, save } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt/gpt';
import { noGrad } from '../../lib/tensor/autograd';
import { ones } from '../../lib/tensor/creation';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonTimeout, runPython } from '../helpers/python';
import { expectClose } from '../helpers/tensors';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

const directory = sharedTemporaryDirectory();
const at = (...names: string[]): string => path.join(directory, ...names);
let reference: { idx: Tensor; logits: Tensor };

beforeAll(async () => {
  await runPython(path.join(__dirname, 'hugging_face.py'), [directory]);
  reference = Object.fromEntries((await load(at('reference.pt'))) as Map<string, unknown>) as never;
}, pythonTimeout);

function expectLogits(model: GPT): void {
  const logits = noGrad(() => model.forward(reference.idx).logits);
  expectClose(logits, reference.logits, 1e-5, 'logits');
}

test("safetensors' save_model, which leaves out a tied tensor and notes it, opens and goes back byte for byte", async () => {
  const model = await GPT.load(at('tied'));
  expect(model.training).toBe(false); // as from_pretrained opens it
  expectLogits(model);
  expect(model.config.tieWeights).toBe(true);
  const place = temporaryDirectory();
  await model.save(place);
  for (const name of ['model.safetensors', 'config.json'])
    expect(await readFile(path.join(place, name)), name).toEqual(await readFile(at('tied', name)));

  const report = await inspect(at('tied'));
  expect(report.family!.name).toBe('hf-gpt2');
  expect(report.problems).toEqual([]);
  expect(report.totals.parameters).toBe((await inspect(at('plain'))).totals.parameters);
  const { onlyInA, onlyInB, totals } = await compare(at('tied'), at('plain'));
  expect([onlyInA, onlyInB, totals.equal]).toEqual([['lm_head.weight'], [], true]);
});

test('NaN and the infinities in config.json are read, and written back as Python writes them', async () => {
  const model = await GPT.load(at('nan'));
  const place = temporaryDirectory();
  await model.save(place);
  expect(await readFile(path.join(place, 'config.json'))).toEqual(await readFile(at('nan', 'config.json')));
  await model.save(place, { dtype: 'float16' });
  const text = await readFile(path.join(place, 'config.json'), 'utf8');
  expect(text).toMatch(/"best_loss": Infinity,\n {2}"last_loss": NaN,\n {2}"low": -Infinity/);
  expect(text).toContain('"dtype": "float16"');
  expect((await inspect(at('nan'))).config!.best_loss).toBe(Infinity);
});

test("a bundle's training_state.json and config.json may hold them too", async () => {
  const place = temporaryDirectory();
  const model = new GPT({ vocabSize: 5, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 });
  await model.saveCheckpointBundle(place, { step: 3, keep: null });
  await rm(path.join(place, 'manifest.json'));
  for (const name of ['training_state.json', 'config.json']) {
    const file = path.join(place, name);
    await writeFile(file, (await readFile(file, 'utf8')).replace(/\}\s*$/, ', "best_val_loss": Infinity}'));
  }
  const opened = await GPT.load(place);
  expect(opened.step).toBe(3);
  await opened.saveCheckpointBundle(place, { keep: null });
  for (const name of ['training_state.json', 'config.json'])
    expect(await readFile(path.join(place, name), 'utf8'), name).toContain('"best_val_loss": Infinity');
});

test('a config.json as the first versions of transformers wrote it', async () => {
  const model = await GPT.load(at('old'));
  expectLogits(model);
  expect(model.config).toMatchObject({ vocabSize: 12, blockSize: 8, activation: 'gelu_tanh', embeddingDropout: 0.1 });
  const place = temporaryDirectory();
  await model.save(place);
  expect(await readFile(path.join(place, 'config.json'))).toEqual(await readFile(at('old', 'config.json')));
});

test("MyPT's config.json of later versions, with None for what it leaves to its defaults", async () => {
  const place = temporaryDirectory();
  const model = new GPT({ vocabSize: 5, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 });
  await model.save(place);
  await rm(path.join(place, 'manifest.json'));
  const file = path.join(place, 'config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as object;
  const later = { rope_scale: null, mlp_type: null, save_dtype: 'bf16', episode_min_tokens: 2, pad_token_id: null };
  await writeFile(file, JSON.stringify({ ...config, ...later }));
  const opened = await GPT.load(place);
  await opened.save(place);
  const { rope_scale: scale, ...written } = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  expect(scale === null || scale === 1).toBe(true);
  expect(written).toMatchObject({ save_dtype: 'bf16', episode_min_tokens: 2, pad_token_id: null });
});

async function warningsOf(run: () => Promise<void>): Promise<string[]> {
  const warnings: string[] = [];
  const note = ({ message }: Error): void => void warnings.push(message);
  process.on('warning', note);
  await run();
  await sleep(0);
  process.off('warning', note);
  return warnings;
}

test("adapter_config.json of PEFT's first versions and of later ones", async () => {
  const base = at('plain');
  expect(await warningsOf(async () => void (await GPT.load(at('adapter-old'), { base })))).toEqual([
    expect.stringMatching(/adapter_config\.json: ignored .* loss_at_end/),
  ]);
  const [warning] = await warningsOf(async () => void (await GPT.load(at('adapter-new'), { base })));
  expect(warning).toMatch(/ignored what this version does not know: lora_of_tomorrow\./);
  const place = path.join(temporaryDirectory(), 'adapter');
  await cp(at('adapter'), place, { recursive: true });
  const file = path.join(place, 'adapter_config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...config, rank_pattern: { c_attn: 4 } }));
  await expect(GPT.load(place, { base })).rejects.toThrow(/expected rank_pattern to be not set/);
});

test("a PEFT directory's README goes with it", async () => {
  const model = await GPT.load(at('adapter'), { base: at('plain') });
  const place = path.join(temporaryDirectory(), 'copy');
  await model.save(place);
  expect((await readdir(place)).sort()).toEqual((await readdir(at('adapter'))).sort());
  expect(await readFile(path.join(place, 'README.md'))).toEqual(await readFile(at('adapter', 'README.md')));
});

test('another model of Hugging Face is named', async () => {
  const type = "'mixtral' (MixtralForCausalLM)";
  await expect(GPT.load(at('mixtral'))).rejects.toMatchObject({
    code: 'ERR_TORCHBIND_CONFIG',
    message: expect.stringMatching(
      /expected model_type to be one of gpt2, llama, .*, got 'mixtral' \(MixtralForCausalLM\)/,
    ) as unknown,
  });
  const { family, problems } = await inspect(at('mixtral'));
  expect(family).toMatchObject({ name: null, saw: [expect.stringContaining(type)] });
  expect(problems).toEqual([]);
  expect((await compare(at('mixtral'), at('mixtral'))).totals.equal).toBe(true);
  await expect(GPT.load(at('bigcode'))).rejects.toThrow(/multi_query|keys of 'hf-gpt-bigcode'/);
});

test('without a config the shapes and keys tell', async () => {
  await expect(GPT.load(at('multi_query.pt'))).rejects.toThrow(/do not tell nHead and blockSize/);
  expect((await inspect(at('multi_query.pt'))).family).toMatchObject({ name: 'hf-gpt-bigcode' });
  await expect(GPT.load(at('mixtral', 'model.safetensors'))).rejects.toThrow(/mixtral/);
  const place = temporaryDirectory();
  const nanochat = new Map([
    ['transformer.wte.weight', ones([4, 4])],
    ['transformer.h.0.attn.c_q.weight', ones([4, 4])],
  ]);
  await save(nanochat, path.join(place, 'model_000500.pt'));
  await expect(GPT.load(path.join(place, 'model_000500.pt'))).rejects.toThrow(
    /nanochat, which torchbind does not compute/,
  );
  await writeFile(path.join(place, 'meta_000500.json'), '{}');
  await expect(GPT.load(place)).rejects.toThrow(/holds a model of nanochat/);
});

test('adapters, in files and alone, have a family in inspect', async () => {
  expect((await inspect(at('lora.pt'))).family).toMatchObject({ name: 'hf-gpt2' });
  const { family, problems, config } = await inspect(at('adapter'));
  expect(family).toMatchObject({ name: 'hf-gpt2', saw: [expect.stringMatching(/of PEFT of rank 2 for 1 layers/)] });
  expect(problems).toEqual([]);
  expect(config).toMatchObject({ peft_type: 'LORA', r: 2 });
});

test.each([
  ['zero3.pt', /is empty, of shape \(0\)/],
  ['flat.pt', /is flat, of shape/],
  ['flat_param.pt', /is the flat parameter of FullyShardedDataParallel/],
])('weights that were not gathered are named: %s', async (name, reason) => {
  const refused = { code: 'ERR_TORCHBIND_CHECKPOINT_UNSUPPORTED', message: expect.stringMatching(reason) as unknown };
  await expect(GPT.load(at(name))).rejects.toMatchObject(refused);
  expect((await inspect(at(name))).family).toMatchObject({ name: null, saw: [expect.stringMatching(reason)] });
});

test('a checkpoint of DeepSpeed is named, with the command that converts it', async () => {
  const deepSpeed = temporaryDirectory();
  await writeFile(path.join(deepSpeed, 'zero_to_fp32.py'), '');
  await mkdir(path.join(deepSpeed, 'global_step500'));
  await expect(GPT.load(deepSpeed)).rejects.toThrow(/python zero_to_fp32\.py/);
});
