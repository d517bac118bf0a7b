/** Weights of 8 and 4 bits: what is computed from what is stored, against plain PyTorch in Python, and the ways that a model takes. */
import path from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { compare, inspect } from '../../lib/checkpoint';
import { save } from '../../lib/formats/pt';
import { applyLora, type GPTOptions, type QuantizeOptions } from '../../lib/models';
import { Linear, QuantizedLinear } from '../../lib/nn';
import { noGrad } from '../../lib/tensor/autograd';
import { ones, randint, randn, tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { Operator } from '../../lib/tensor/operator';
import { manualSeed } from '../../lib/tensor/random';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { CharTokenizer } from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(20);
const tokenizer = CharTokenizer.fromText(text);
const prompt = tokenizer.encode('the quick');

beforeAll(() => setNumThreads(1));

const modern = { positionEncoding: 'rope', normType: 'rmsnorm', activation: 'swiglu', tieWeights: true } as const;

function make(options: Partial<GPTOptions> = {}, layout = 'mypt'): GPT {
  manualSeed(1);
  const config = { vocabSize: tokenizer.vocabSize, blockSize: 32, nLayer: 2, nHead: 2, nEmbd: 64, mlpHidden: 128 };
  const gpt = new GPT({ ...config, ...options }, { tokenizer, layout });
  onTestFinished(() => gpt.dispose());
  return gpt;
}

const ways: [string, QuantizeOptions][] = [
  ['8 bits', { bits: 8 }],
  ['4 bits', { bits: 4 }],
  ['4 bits in groups of 64', { bits: 4, groupSize: 64 }],
];

async function generated(gpt: GPT, thread: 'main' | 'worker' = 'worker'): Promise<number[]> {
  const tokens: number[] = [];
  for await (const id of gpt.generateTokens(prompt, { greedy: true, maxNewTokens: 30, thread })) tokens.push(id);
  return tokens;
}

/** What `QuantizedLinear` says that its tensors mean, in plain PyTorch. */
const REFERENCE = `
import sys, json, torch
def dequantize(weight, scales):
    if weight.dtype == torch.int8:
        return weight.float() * scales.float()[:, None]
    q = torch.stack([weight & 15, weight >> 4], -1).reshape(weight.shape[0], -1).float()
    groups = scales.shape[0]
    q = q.view(q.shape[0], groups, -1)
    s = scales.float().transpose(0, 1)
    return ((q - 8) * s[..., :1] + s[..., 1:]).reshape(q.shape[0], -1)
out = []
for path in sys.argv[1:]:
    d = torch.load(path)
    w = dequantize(d['weight'], d['scales'])
    y = torch.nn.functional.linear(d['x'].bfloat16().float(), w, d['bias'].float())
    out.append([(y - d['y']).abs().max().item(), y.abs().max().item(), (w - d['original']).abs().max().item(),
                ((w - d['original']) / d['step']).abs().max().item()])
print(json.dumps(out))
`;

describe('a quantized layer', () => {
  it(
    'computes what its integers and scales say, with weights within half a step of those before',
    async () => {
      const directory = temporaryDirectory();
      const files: string[] = [];
      // 40 rows are no whole number of the blocks that the kernel for 4 bits computes.
      for (const [rows, [name, { bits, groupSize = bits === 4 ? 32 : null }]] of [40, 40, 128].map(
        (count, i) => [count, ways[i]!] as const,
      )) {
        manualSeed(2);
        const linear = new Linear(128, rows);
        const layer = QuantizedLinear.from(linear, { bits, groupSize });
        const x = randn([5, 3, 128]);
        const y = noGrad(() => layer.forward(x));
        expect([y.shape, y.dtype]).toEqual([[5, 3, rows], 'float32']);
        const w = linear.weight.detach();
        const groups = groupSize === null ? w.unsqueeze(1) : w.view([rows, -1, groupSize]);
        const step =
          groupSize === null
            ? groups.abs().amax([2], true).div(127)
            : groups
                .amax([2], true)
                .sub(groups.amin([2], true))
                .div(15);
        const file = path.join(directory, `${name}.pt`);
        const tensors = { weight: layer.weight, scales: layer.scales, bias: layer.bias!, x, y, original: w };
        await save(
          new Map<string, Tensor>([...Object.entries(tensors), ['step', step.expandAs(groups).reshape(w.shape)]]),
          file,
        );
        files.push(file);
        linear.dispose();
        layer.dispose();
      }
      const found = JSON.parse(await pythonCode(REFERENCE, files)) as [number, number, number, number][];
      for (const [error, largest, , steps] of found) {
        // Sums in float32, results rounded to bfloat16: one part in 256.
        expect(error).toBeLessThan(largest / 128);
        // Half a step by rounding; scale and zero point are bfloat16 themselves, which moves 15 or 127 steps by up to 1 in 256.
        expect(steps).toBeLessThan(0.5 + 0.6);
      }
    },
    pythonTimeout,
  );

  it('refuses what there is no kernel for, and other devices, and says what to do', () => {
    const make = (bits: number, groupSize: number | null, width = 64) =>
      new QuantizedLinear(width, 32, { bits: bits as 8, groupSize, device: 'meta' });
    expect(() => make(5, null)).toThrow(/8 or 4 for 'bits'/);
    expect(() => make(4, 48)).toThrow(/one of 32, 64, 128, 256 for 'groupSize'/);
    expect(() => make(8, 32)).toThrow(/no 'groupSize' with 8 bits/);
    expect(() => make(4, 64, 96)).toThrow(/groupSize 64 does not divide the 96 columns/);
    expect(() => make(8, null).forward(randn([1, 64]))).toThrow(/work on the CPU only, and these are on 'meta'/);
  });
});

describe('a quantized model', () => {
  it.each(ways)(
    'of %s generates on both threads, alone and in a batch, and comes back from its files',
    async (_, way) => {
      for (const [options, layout] of [
        [{}, 'mypt'],
        [modern, 'mypt-fused'],
      ] as const) {
        const gpt = make(options, layout);
        const before = gpt.numParameters();
        expect(gpt.quantize(way)).toBe(gpt);
        const { bits, groupSize = bits === 4 ? 32 : null } = way;
        expect(gpt.quantization).toEqual({ bits, groupSize });
        expect(before).toBeGreaterThan(0);
        const tokens = await generated(gpt);
        expect(await generated(gpt, 'main')).toEqual(tokens);
        expect(await Promise.all([generated(gpt), generated(gpt)])).toEqual([tokens, tokens]);

        const root = temporaryDirectory();
        for (const target of [path.join(root, 'bundle'), path.join(root, 'bundle', 'alone.pt')]) {
          await gpt.save(target);
          const back = await GPT.load(target);
          onTestFinished(() => back.dispose());
          expect(back.quantization).toEqual(gpt.quantization);
          expect(back.config).toMatchObject({ ...gpt.config, extra: expect.anything() as object });
          expect(await generated(back)).toEqual(tokens);
          const { totals } = await compare(target, path.join(root, 'bundle'));
          expect(totals.equalTensors).toBe(totals.tensors);
          expect(totals.tensors).toBe(back.stateDict().size);
        }
        const seen = JSON.stringify(await inspect(path.join(root, 'bundle')));
        expect(seen).toContain('quantized');
      }
    },
  );

  it('has a perplexity near that of the model before', async () => {
    const gpt = make({ dropout: 0 });
    await gpt.fit({ text, maxSteps: 40, batchSize: 8, learningRate: 3e-3, evalInterval: 0, seed: 1 });
    const before = await gpt.perplexity(text);
    const mainThread = await gpt.perplexity(tokenizer.encode(text), { thread: 'main', batchSize: 3 });
    expect(Math.abs(mainThread - before)).toBeLessThan(1e-3);
    const file = path.join(temporaryDirectory(), 'model.pt');
    await gpt.save(file);
    const after: number[] = [];
    for (const [, way] of ways) {
      const copy = await GPT.load(file, { tokenizer, config: { ...gpt.config } });
      onTestFinished(() => copy.dispose());
      after.push(await copy.quantize(way).perplexity(text));
    }
    // A text learned by heart: a perplexity of a few.
    expect(before).toBeLessThan(10);
    expect(Math.abs(after[0]! / before - 1)).toBeLessThan(0.02);
    expect(Math.abs(after[1]! / before - 1)).toBeLessThan(0.2);
    expect(Math.abs(after[2]! / before - 1)).toBeLessThan(0.3);
  });

  it('is neither trained nor converted nor quantized again, and says why', async () => {
    const gpt = make();
    gpt.quantize({ bits: 8 });
    await expect(gpt.fit({ text, maxSteps: 1 })).rejects.toThrow(/quantized to 8 bits.*cannot be trained/);
    expect(() => applyLora(gpt, { rank: 2, alpha: 4 })).toThrow(/quantized to 8 bits/);
    await expect(gpt.save(temporaryDirectory(), { layout: 'nanogpt', force: true })).rejects.toThrow(
      /weights of 8 bits/,
    );
    expect(() => gpt.quantize({ bits: 4 })).toThrow(/have 8 bits already/);
    const adapted = make();
    applyLora(adapted, { rank: 2, alpha: 4 });
    expect(() => adapted.quantize({ bits: 8 })).toThrow(/LoRA adapters; foldLora/);
    expect(() => make().quantize({ bits: 4, groupSize: 256 })).toThrow(/does not divide/);
  });

  it('takes a state dict, and packs its weights anew', async () => {
    const [gpt, other] = [make(), make()];
    gpt.quantize({ bits: 4 });
    noGrad(() => other.lmHead.weight.normal_());
    other.quantize({ bits: 4 });
    const tokens = await generated(other);
    expect(await generated(gpt)).not.toEqual(tokens);
    gpt.loadStateDict(other.stateDict());
    expect(await generated(gpt)).toEqual(tokens);
    const [{ logits }] = [noGrad(() => gpt.eval().forward(tensor([prompt], { dtype: 'int64' })))];
    expect(logits.dtype).toBe('bfloat16');
  });

  it('needs a text or tokens of two or more for its perplexity', async () => {
    const gpt = make();
    await expect(gpt.perplexity([1])).rejects.toThrow(/2 tokens or more/);
    await expect(gpt.perplexity([1, 999])).rejects.toThrow(/ids from 0 to \d+, got number 999/);
    gpt.tokenizer = null;
    await expect(gpt.perplexity('abc')).rejects.toThrow(/no tokenizer/);
  });
});

it('libtorch multiplies 8-bit weights of any width at any address, which crashed with AVX-512', () => {
  const multiply = (...args: Tensor[]): Tensor => new Operator('aten::_weight_int8pack_mm', '').call(args) as Tensor;
  for (const dtype of ['bfloat16', 'float32'] as const) {
    for (const columns of [1, 7, 16, 40, 64]) {
      tidy(() => {
        const weight = randint(-127, 128, [1 + 5 * columns], { dtype: 'int8' })
          .narrow(0, 1, 5 * columns)
          .view(5, columns);
        const input = randn(1 + 3 * columns)
          .to(dtype)
          .narrow(0, 1, 3 * columns)
          .view(3, columns);
        const product = multiply(input, weight, ones([5], { dtype }));
        const exact = input.to('float32').matmul(weight.to('float32').t());
        const difference = product.to('float32').sub(exact).abs().max().item() as number;
        expect(difference).toBeLessThan(0.01 * (exact.abs().max().item() as number) + 1e-6);
      });
    }
  }
});
