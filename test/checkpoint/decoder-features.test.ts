/**
 * What torchbind does with a model, over all types of decoders: whatever depends on their names, shapes and facts. decoders.test.ts
 * compares what they compute with transformers.
 */
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  compare,
  foldLora,
  applyLora,
  GPT,
  HuggingFaceTokenizer,
  inspect,
  manualSeed,
  noGrad,
  randn,
  tensor,
  tidy,
} from '../../lib';
import { configTypeOf, decoderFacts, modelTypes } from '../../lib/checkpoint/decoder-configs';
import { generateCommand } from '../../lib/cli/generate';
import { inspectCommand } from '../../lib/cli/inspect';
import type { TorchBindError } from '../../lib/errors';
import type { GPTOptions } from '../../lib/models';
import type { Tensor } from '../../lib';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const directory = sharedTemporaryDirectory();
const at = (...names: string[]): string => path.join(directory, ...names);

const letters = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,;!', '\u0120'];
const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const tokenizer = new HuggingFaceTokenizer({
  version: '1.0',
  added_tokens: [],
  pre_tokenizer: byteLevel,
  decoder: byteLevel,
  model: { type: 'BPE', vocab: Object.fromEntries(letters.map((letter, id) => [letter, id])), merges: [] },
});
const text = 'It was the best of times, it was the worst of times. '.repeat(8);

const sizes = {
  vocab_size: 64,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  max_position_embeddings: 32,
};
const grouped = { ...sizes, num_key_value_heads: 2 };
const gpt2Sizes = { vocab_size: 64, n_embd: 32, n_layer: 2, n_head: 4, n_positions: 32 };
const noDropout = { attn_pdrop: 0, embd_pdrop: 0, resid_pdrop: 0 };

/** A config.json of each type, with what sets the type apart switched on. */
const configs: Readonly<Record<string, object>> = {
  llama: sizes,
  mistral: { ...grouped, sliding_window: 6 },
  qwen2: { ...grouped, tie_word_embeddings: true, use_sliding_window: true, sliding_window: 6, max_window_layers: 1 },
  qwen3: { ...grouped, head_dim: 16 },
  smollm3: { ...grouped, no_rope_layers: [1, 0], attention_bias: true, mlp_bias: true },
  olmo2: grouped,
  olmo: grouped,
  granite: {
    ...grouped,
    embedding_multiplier: 3,
    residual_multiplier: 0.4,
    logits_scaling: 2,
    attention_multiplier: 0.2,
  },
  gemma: { ...grouped, num_key_value_heads: 1, head_dim: 16 },
  gemma2: { ...grouped, head_dim: 16, sliding_window: 6, query_pre_attn_scalar: 24 },
  gemma3_text: { ...grouped, head_dim: 16, sliding_window: 6, layer_types: ['sliding_attention', 'full_attention'] },
  stablelm: { ...grouped, use_qkv_bias: true, use_parallel_residual: true },
  phi: grouped,
  phi3: grouped,
  gpt_neox: sizes,
  opt: { ...sizes, ffn_dim: 64, dropout: 0 },
  gpt_neo: {
    vocab_size: 64,
    hidden_size: 32,
    num_layers: 2,
    num_heads: 4,
    max_position_embeddings: 32,
    attention_types: [[['global'], 2]],
  },
  gptj: { ...gpt2Sizes, rotary_dim: 4 },
  gpt_bigcode: { ...gpt2Sizes, ...noDropout },
};

/** Layouts that these models convert to exactly, besides their own. */
const exact: Readonly<Record<string, readonly string[]>> = { llama: ['mypt-fused'], gpt_neo: ['hf-gpt2'] };

const layouts = [
  'mypt-fused', 'nanogpt', 'hf-gpt2', 'hf-llama', 'hf-phi', 'hf-phi3', 'hf-gpt-neox', 'hf-opt', 'hf-gpt-neo', 'hf-gptj', 'hf-gpt-bigcode',
]; // prettier-ignore

function make(modelType: string): GPT {
  const json = { model_type: modelType, ...configs[modelType] };
  const type = configTypeOf(json)!;
  manualSeed(1);
  const gpt = new GPT(decoderFacts(json, type) as GPTOptions, { layout: type.layout, tokenizer });
  // Larger weights than at the start of a training, so that attention and norms matter.
  noGrad(() => tidy(() => gpt.parameters().forEach((parameter) => parameter.add_(randn(parameter.shape).mul(0.1)))));
  return gpt.eval();
}

const ids = (): Tensor => tensor([[...tokenizer.encode(text.slice(0, 24))]], { dtype: 'int64' });

function logitsOf(gpt: GPT): number[] {
  return tidy(() => noGrad(() => gpt.forward(ids()).logits.flatten().tolist() as number[]));
}

const difference = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

/** Gradients by parameter. */
function gradients(gpt: GPT): Map<string, unknown> {
  gpt.zeroGrad();
  const [inputs, targets] = [ids().narrow(1, 0, 23).contiguous(), ids().narrow(1, 1, 23).contiguous()];
  gpt.forward(inputs, targets).loss!.backward();
  const found = new Map(gpt.namedParameters().map(([key, { grad }]) => [key, grad?.tolist()]));
  gpt.zeroGrad();
  return found;
}

afterEach(() => vi.restoreAllMocks());

/** What a command writes to stdout. */
async function command(run: () => Promise<unknown>): Promise<string> {
  let written = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((piece) => {
    written += String(piece);
    return true;
  });
  await run().finally(() => write.mockRestore());
  return written;
}

test('all types are there', () => expect(Object.keys(configs)).toEqual(modelTypes));

describe.each(modelTypes)('%s', (modelType) => {
  test('opens as the type that it is saved as, and is inspected, compared and exported', async () => {
    const gpt = make(modelType);
    const home = at(modelType, 'model');
    await gpt.save(home);
    const before = logitsOf(gpt);
    const { config, family, totals } = await inspect(home);
    expect([family?.name, config?.model_type, totals.parameters]).toEqual([
      gpt.layout.name,
      modelType,
      gpt.numParameters(),
    ]);
    const again = await GPT.load(home);
    // A norm without scale has no bias, whatever the config says.
    const { normBias } = gpt.config.normScale ? gpt.config : again.config;
    expect([again.origin!.saw[0], again.config]).toEqual([
      expect.stringContaining(modelType),
      { ...gpt.config, normBias },
    ]);
    expect(logitsOf(again)).toEqual(before);

    expect((await compare(home, home)).totals.equal).toBe(true);
    noGrad(() => gpt.tokenEmbedding.weight.mul_(2));
    await gpt.save(at(modelType, 'changed'));
    const changed = await compare(home, at(modelType, 'changed'));
    expect(changed.totals.equal).toBe(false);
    expect([changed.onlyInA, changed.onlyInB]).toEqual([[], []]);

    await again.export(at(modelType, 'package'));
    await again.export(at(modelType, 'package-hf'), { form: 'huggingface' });
    for (const name of ['package', 'package-hf']) {
      const packaged = await GPT.load(at(modelType, name));
      expect(logitsOf(packaged)).toEqual(before);
      packaged.dispose();
    }
    gpt.dispose();
    again.dispose();
  });

  test('converts where that is exact, and is refused with the reason where not', async () => {
    const gpt = make(modelType);
    const before = logitsOf(gpt);
    const converted: string[] = [];
    for (const layout of layouts.filter((name) => name !== gpt.layout.name)) {
      const target = at(modelType, `as-${layout}`);
      const error = await gpt.save(target, { layout }).catch((thrown: unknown) => thrown as TorchBindError);
      if (error !== undefined) {
        expect([layout, error.code]).toEqual([layout, 'ERR_TORCHBIND_CONVERT']);
        expect(error.message).toMatch(
          / is .* here and .* there|no place for|cannot hold a model|must be nHead, with qkvByHead|no config\.json of transformers/,
        );
        continue;
      }
      converted.push(layout);
      const again = await GPT.load(target);
      expect(again.layout.name).toBe(layout);
      expect(difference(logitsOf(again.eval()), before), layout).toBeLessThan(1e-5);
      again.dispose();
    }
    expect(converted).toEqual(exact[modelType] ?? []);
    gpt.dispose();
  });

  test('trains LoRA on all Linears, folds it, and is quantized', async () => {
    const gpt = make(modelType);
    const before = logitsOf(gpt);
    const linears = gpt.namedModules().filter(([key, module]) => 'inFeatures' in module && key !== 'lmHead');
    applyLora(gpt, { rank: 2, alpha: 4, targets: linears.map(([key]) => key) });
    const frozen = gpt.namedParameters().filter(([, parameter]) => !parameter.requiresGrad);
    expect(frozen.length).toBe(gpt.namedParameters().length - 2 * linears.length);
    await gpt.fit({ text, maxSteps: 2, batchSize: 2, learningRate: 0.01, evalInterval: 0, seed: 1, thread: 'main' });
    gpt.eval();
    const adapted = logitsOf(gpt);
    expect(difference(adapted, before)).toBeGreaterThan(1e-4);
    await gpt.saveCheckpointBundle(at(modelType, 'adapted'));
    const bundle = await GPT.load(at(modelType, 'adapted'));
    expect(bundle.eval() && logitsOf(bundle)).toEqual(adapted);
    foldLora(bundle);
    expect(difference(logitsOf(bundle), adapted)).toBeLessThan(1e-5); // float32: other orders of sums
    bundle.dispose();
    gpt.dispose();
    for (const bits of [8, 4] as const) {
      const whole = make(modelType);
      whole.quantize({ bits });
      const rounded = logitsOf(whole);
      await whole.save(at(modelType, `int${bits}`));
      const again = await GPT.load(at(modelType, `int${bits}`));
      expect(again.eval() && logitsOf(again)).toEqual(rounded);
      whole.dispose();
      again.dispose();
    }
  });

  test('resumes to the bit, with the same gradients where activations are computed anew', async () => {
    const options = {
      text,
      batchSize: 2,
      learningRate: 0.01,
      evalInterval: 0,
      thread: 'main',
      metrics: false,
    } as const;
    const run = at(modelType, 'run');
    const straight = make(modelType);
    expect(new Set([...gradients(straight).values()].map((gradient) => gradient !== undefined))).toEqual(
      new Set([true]),
    );
    straight.train();
    const kept = gradients(straight);
    straight.activationCheckpointing = true;
    expect(gradients(straight)).toEqual(kept);
    straight.activationCheckpointing = false;
    await straight.fit({ ...options, maxSteps: 4, seed: 7 });
    const first = make(modelType).train();
    await first.fit({ ...options, maxSteps: 2, seed: 7, checkpointDir: run });
    first.dispose();
    const resumed = await GPT.load(run, { optimizer: true });
    await resumed.fit({ ...options, maxSteps: 2 });
    expect(resumed.step).toBe(4);
    for (const [key, value] of straight.stateDict()) {
      const other = resumed.stateDict().get(key) as Tensor;
      expect((value as Tensor).equal(other), key).toBe(true);
    }
    straight.dispose();
    resumed.dispose();
  });

  test('generates in a batch what it generates alone, and on the command line', async () => {
    const gpt = make(modelType);
    const prompts = ['It was', 'the worst of times, it', 'b'];
    const options = { maxNewTokens: 8, greedy: true };
    const alone: string[] = [];
    for (const prompt of prompts) alone.push(await gpt.generate(prompt, options));
    expect(await gpt.generate(prompts, options)).toEqual(alone);
    gpt.dispose();

    const home = at(modelType, 'model');
    const argv = ['node', 'torchbind', home];
    const generate = ['--greedy', '--max-new-tokens', '8', '--prompt', prompts[0]!];
    expect(await command(() => generateCommand().parseAsync([...argv, ...generate]))).toBe(`${alone[0]!}\n`);
    const report = await command(() => inspectCommand().parseAsync([...argv, '--json']));
    expect(JSON.parse(report)).toMatchObject({ family: { name: expect.stringMatching(/^hf-/) as string } });
  });
});
