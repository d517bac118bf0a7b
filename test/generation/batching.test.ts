import { getEventListeners } from 'node:events';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { applyLora, type GPTOptions, KVCache, mergeLora } from '../../lib/models';
import { BatchDecoder } from '../../lib/generation/batch-decoder';
import type { DecodedSequence, TokenSink } from '../../lib/generation/decoder';
import type { GenerateTokensOptions } from '../../lib/generation/generate';
import { Sampler, type SamplingOptions } from '../../lib/generation/sampler';
import { Module } from '../../lib/nn';
import { noGrad } from '../../lib/tensor/autograd';
import { tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { CharTokenizer } from '../../lib/tokenizers';
import { memoryInUse } from '../helpers/garbage';

const chars = [...'abcdefghijklmnopqrstuvwxyz ,.\n'];
const V = chars.length;
const shape = { vocabSize: V, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 32, dropout: 0.5 };
const fused = { positionEncoding: 'rope', normType: 'rmsnorm', activation: 'swiglu', bias: false } as const;

function make(options: Partial<GPTOptions> = {}): GPT {
  manualSeed(1);
  const layout = options.positionEncoding === 'rope' ? 'mypt-fused' : 'mypt';
  return new GPT({ ...shape, ...options }, { tokenizer: new CharTokenizer(chars), layout });
}

let gpt: GPT;
beforeAll(() => {
  setNumThreads(1); // A model this small gains nothing from more.
  gpt = make();
});

/** `length` token ids, others for each `first`. */
function ids(length: number, first = 0): number[] {
  return Array.from({ length }, (_, i) => (first + 7 * i + i * i) % V);
}

interface Call {
  prompt: number[];
  options: GenerateTokensOptions;
}

/** Short and long prompts and texts, drawn and greedy, within the context of 16 and beyond it. */
const calls: Call[] = [
  { prompt: ids(1), options: { maxNewTokens: 30, greedy: true } },
  { prompt: ids(3, 1), options: { maxNewTokens: 9, seed: 1 } },
  { prompt: ids(16, 2), options: { maxNewTokens: 12, seed: 2, topK: 5 } },
  { prompt: ids(40, 3), options: { maxNewTokens: 6, greedy: true } },
  { prompt: ids(9, 4), options: { maxNewTokens: 1, seed: 3, topP: 0.8 } },
  { prompt: ids(5, 5), options: { maxNewTokens: 25, seed: 4, temperature: 0.5 } },
];

async function collect(stream: AsyncIterable<number>): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of stream) tokens.push(token);
  return tokens;
}

const run = (model: GPT, { prompt, options }: Call): Promise<number[]> =>
  collect(model.generateTokens(prompt, options));

async function oneByOne(model: GPT, list = calls): Promise<number[][]> {
  const texts: number[][] = [];
  for (const call of list) texts.push(await run(model, call));
  return texts;
}

/** What a decoder gave to one sequence. */
class Record implements TokenSink {
  readonly tokens: number[] = [];
  ended = false;
  error: unknown;
  token = (id: number): unknown => this.tokens.push(id);
  end = (): unknown => (this.ended = true);
  fail = (error: unknown): unknown => (this.error = error);
}

function add(
  decoder: BatchDecoder,
  prompt: number[],
  maxNewTokens: number,
  sampling: SamplingOptions = { greedy: true },
): Record & { sequence: DecodedSequence } {
  const record = new Record();
  const sequence = decoder.add({ prompt, maxNewTokens, sampling, contextShift: 'exact' }, record);
  sequence.grant(maxNewTokens);
  return Object.assign(record, { sequence });
}

describe('a packed pass', () => {
  const models: [string, () => GPT, number][] = [
    ['learned positions', () => gpt, 1e-5],
    ['RoPE, RMSNorm, SwiGLU', () => make(fused), 1e-5],
    ['norms after, scores scaled by layer', () => make({ normPosition: 'post', scaleByLayer: true }), 1e-5],
    ['bfloat16', () => make().to('bfloat16'), 0.02],
    ['float16', () => make().to('float16'), 0.002],
    ['bfloat16 with RoPE', () => make(fused).to('bfloat16'), 0.02],
    ['LoRA', () => withLora(make()), 1e-5],
    ['merged LoRA', () => withLora(make(), true), 1e-5],
  ];

  function withLora(model: GPT, merged = false): GPT {
    applyLora(model, { rank: 2, alpha: 8, targets: ['attn.qkv', 'mlp.up'] });
    noGrad(() => model.parameters().forEach((parameter) => parameter.requiresGrad && parameter.normal_(0, 0.2)));
    if (merged) mergeLora(model.eval());
    return model;
  }

  /** Logits (S, V) of sequences that have seen `past` tokens each, after `fresh` more. */
  function logits(model: GPT, pasts: number[][], fresh: number[][], packed: boolean): Tensor[] {
    const caches = pasts.map(() => model.makeCache());
    const row = (list: number[]): Tensor => tensor([list], { dtype: 'int64' });
    pasts.forEach((past, i) => past.length > 0 && model.forwardCached(row(past), caches[i]!));
    const result = packed
      ? model
          .forwardPacked(
            row(fresh.flat()),
            caches.map((cache, i) => ({ cache, count: fresh[i]!.length })),
          )
          .split(1)
      : fresh.map((list, i) => model.forwardCached(row(list), caches[i]!));
    expect(caches.map((cache) => cache.length)).toEqual(pasts.map((past, i) => past.length + fresh[i]!.length));
    for (const cache of caches) cache.dispose();
    return result;
  }

  it.each(models)('gives each sequence the logits that it has alone: %s', (_, create, tolerance) => {
    const model = create().eval();
    const pasts = [ids(4), [], ids(9, 2), ids(1, 3), ids(7, 4)];
    const fresh = [ids(1, 5), ids(6, 6), ids(1, 7), ids(15, 8), ids(3, 9)];
    tidy(() => {
      const alone = logits(model, pasts, fresh, false);
      const packed = logits(model, pasts, fresh, true);
      const spread = Math.max(...alone.map((row) => Number(row.float().std().item())));
      for (const [i, row] of packed.entries()) {
        const difference = Number(row.sub(alone[i]!).abs().max().item());
        expect(difference / spread, `sequence ${i}`).toBeLessThan(tolerance * 10);
      }
      // The sequences differ, so that logits of another one would be found.
      expect(Number(alone[0]!.sub(alone[2]!).abs().max().item()) / spread).toBeGreaterThan(0.5);
    });
    model.train();
  });
});

describe('concurrent calls', () => {
  it.each([
    ['learned positions', {}],
    ['RoPE', fused],
  ])('give the tokens of each alone: %s', async (_, options) => {
    const model = make(options);
    const alone = await oneByOne(model);
    expect(await Promise.all(calls.map((call) => run(model, call)))).toEqual(alone);
    model.dispose();
  });

  it('give them when calls come and go in the middle', async () => {
    const alone = await oneByOne(gpt);
    const texts: Promise<number[]>[] = [];
    const first = gpt.generateTokens(calls[0]!.prompt, calls[0]!.options);
    const tokens: number[] = [];
    for await (const token of first) {
      tokens.push(token);
      const next = calls[texts.length + 1];
      if (tokens.length % 3 === 0 && next !== undefined) texts.push(run(gpt, next));
    }
    expect([tokens, ...(await Promise.all(texts))]).toEqual(alone);
  });

  it('give them after others were aborted, left, or never started', async () => {
    const alone = await oneByOne(gpt);
    const before = await memoryInUse();
    const controller = new AbortController();
    const aborted = run(gpt, { prompt: ids(4), options: { maxNewTokens: 1000, signal: controller.signal } });
    const left = (async () => {
      for await (const token of gpt.generateTokens(ids(50), { maxNewTokens: 1000, seed: 1 })) if (token >= 0) break;
    })();
    gpt.generateTokens(ids(3));
    const texts = calls.map(async (call, i) => {
      const tokens: number[] = [];
      for await (const token of gpt.generateTokens(call.prompt, call.options))
        if (tokens.push(token) === 4 && i === 0) controller.abort(new Error('enough'));
      return tokens;
    });
    await expect(aborted).rejects.toThrow('enough');
    await left;
    expect(await Promise.all(texts)).toEqual(alone);
    expect(await memoryInUse()).toEqual(before);
  });

  it('draw from the default generator in the order of the calls', async () => {
    const prompts = [ids(2), ids(5, 1), ids(3, 2)];
    // One token each: the first pass draws for all three.
    manualSeed(9);
    const drawn = await Promise.all(prompts.map((prompt) => run(gpt, { prompt, options: { maxNewTokens: 1 } })));
    manualSeed(9);
    expect(drawn).toEqual(
      await oneByOne(
        gpt,
        prompts.map((prompt) => ({ prompt, options: { maxNewTokens: 1 } })),
      ),
    );
  });

  it('leave no listener at a signal, between tokens and at the end', async () => {
    const { signal } = new AbortController();
    for await (const token of gpt.generateTokens(ids(2), { maxNewTokens: 3, signal }))
      expect([token >= 0, getEventListeners(signal, 'abort')]).toEqual([true, []]);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('are rejected at once when they wait and are aborted', async () => {
    const controller = new AbortController();
    const waiting = gpt.generateTokens(ids(2), { signal: controller.signal }).next();
    controller.abort(new Error('no more'));
    await expect(waiting).rejects.toThrow('no more');
  });

  it('free the memory of a stream that nobody refers to any more', async () => {
    const before = await memoryInUse();
    await gpt.generateTokens(ids(2)).next();
    expect(await memoryInUse()).toEqual(before);
  });

  it('end alone where their logits are not finite', async () => {
    const model = make();
    noGrad(() => model.tokenEmbedding.weight.select(0, 29).fill_(NaN));
    const sound = calls.filter(({ prompt }) => !prompt.slice(-16).includes(29));
    const alone = await Promise.all(sound.map((call) => run(model, call).catch(String)));
    expect(alone.filter((text) => typeof text !== 'string').length).toBeGreaterThan(1);
    const broken = run(model, { prompt: [1, 29], options: { maxNewTokens: 5 } });
    const texts = Promise.all(sound.map((call) => run(model, call).catch(String)));
    await expect(broken).rejects.toMatchObject({ code: 'ERR_TORCHBIND_NONFINITE_LOGITS' });
    expect(await texts).toEqual(alone);
    model.dispose();
  });

  it('end alone where their pass fails', async () => {
    const model = make();
    const old = model.generateTokens(ids(3), { greedy: true, thread: 'main' });
    await old.next();
    const fresh = { prompt: ids(5), options: { maxNewTokens: 2, greedy: true, thread: 'main' as const } };
    const alone = await run(model, fresh);
    const append = Reflect.get(KVCache.prototype, 'append') as KVCache['append'];
    const spy = vi.spyOn(KVCache.prototype, 'append').mockImplementation(function (this: KVCache, ...args) {
      if (this.length === 3 || this.length === 4) throw new Error('a fault in the old sequence');
      return append.apply(this, args);
    });
    const [failed, text] = await Promise.allSettled([old.next(), run(model, fresh)]);
    spy.mockRestore();
    expect(failed).toMatchObject({ status: 'rejected', reason: { message: 'a fault in the old sequence' } });
    expect(text).toEqual({ status: 'fulfilled', value: alone });
    model.dispose();
  });

  it('continue with their keys and values in a model that has another dtype now', async () => {
    const model = make();
    const tokens = model.generateTokens(ids(3), { greedy: true, thread: 'main' });
    await tokens.next();
    model.to('bfloat16');
    expect((await tokens.next()).done).toBe(false);
    await tokens.return(undefined as never);
    model.dispose();
  });
});

describe('a model that was changed by its program', () => {
  it('decodes each sequence by its own forwardCached', async () => {
    const shapes: string[] = [];
    class Mine extends GPT {
      override forwardCached(idx: Tensor, cache: KVCache): Tensor {
        shapes.push(idx.shape.join(' x '));
        return super.forwardCached(idx, cache).neg();
      }
    }
    manualSeed(1);
    const model = new Mine(shape);
    const list = [ids(3), ids(8, 1)].map((prompt) => ({ prompt, options: { maxNewTokens: 3, greedy: true } }));
    const alone = await oneByOne(model, list);
    expect(shapes).toEqual(['1 x 3', '1 x 1', '1 x 1', '1 x 8', '1 x 1', '1 x 1']);
    expect(await Promise.all(list.map((call) => run(model, call)))).toEqual(alone);
    expect(shapes.slice(6).sort()).toEqual([...shapes.slice(0, 6)].sort());
    model.dispose();
  });

  it('decodes without a cache where forwardCached uses none', async () => {
    class Uncached extends GPT {
      override forwardCached(idx: Tensor): Tensor {
        return this.forward(idx).logits.select(1, idx.size(1) - 1);
      }
    }
    manualSeed(1);
    const model = new Uncached(shape);
    expect(await Promise.all(calls.map((call) => run(model, call)))).toEqual(await oneByOne(gpt));
    model.dispose();
  });

  it('keeps sequences apart where a layer mixes the tokens of a row', async () => {
    class Mixer extends Module {
      forward(x: Tensor): Tensor {
        return x.cumsum(1).tanh();
      }
    }
    const model = make();
    (model.blocks.at(0) as unknown as { mlp: Module }).mlp = new Mixer();
    const list = calls.slice(0, 3);
    const alone = await oneByOne(model, list);
    expect(alone).not.toEqual(await oneByOne(gpt, list));
    expect(await Promise.all(list.map((call) => run(model, call)))).toEqual(alone);
    model.dispose();
  });
});

describe('BatchDecoder', () => {
  let wide: GPT;
  beforeAll(() => (wide = make({ blockSize: 512 })));

  it('generates a token for everyone in each step, while it reads a long prompt in parts', () => {
    const decoder = new BatchDecoder(wide);
    const early = [add(decoder, ids(3), 40), add(decoder, ids(5, 1), 40)];
    decoder.step();
    expect(early.map(({ tokens }) => tokens.length)).toEqual([1, 1]);
    const long = add(decoder, ids(500), 2);
    const short = add(decoder, ids(10, 2), 2);
    for (let step = 1; step <= 9; step++) {
      decoder.step();
      expect(early.map(({ tokens }) => tokens.length)).toEqual([1 + step, 1 + step]);
      if (step === 2) expect(short.tokens).not.toEqual([]); // not after the long one
    }
    expect(long.tokens).not.toEqual([]); // 510 tokens of prompts, 64 in each step
    while (decoder.ready) decoder.step();
    expect([...early, long, short].map(({ tokens, ended }) => [tokens.length, ended])).toEqual([
      [40, true],
      [40, true],
      [2, true],
      [2, true],
    ]);
  });

  it('reads a prompt in one pass when nobody else waits', () => {
    const decoder = new BatchDecoder(wide);
    const record = add(decoder, ids(500), 1);
    decoder.step();
    expect([record.tokens.length, record.ended, decoder.ready]).toEqual([1, true, false]);
  });

  it('lets those beyond the context and those within it take turns', () => {
    const decoder = new BatchDecoder(make({ blockSize: 128 }));
    const beyond = [add(decoder, ids(200), 100), add(decoder, ids(200, 1), 100)];
    const within = add(decoder, ids(2), 40);
    for (let step = 0; step < 40; step++) decoder.step();
    expect(within.tokens).toHaveLength(38); // Its prompt came third.
    // 128 tokens are read for each token, 64 in each step.
    for (const { tokens } of beyond) expect(tokens.length).toBeGreaterThanOrEqual(9);
    decoder.dispose();
    expect(decoder.ready).toBe(false);
  });

  it('lets more sequences than fit in a pass take turns', () => {
    const decoder = new BatchDecoder(wide);
    const records = Array.from({ length: 150 }, (_, i) => add(decoder, [i % V], 50));
    for (let step = 0; step < 15; step++) decoder.step();
    const counts = records.map(({ tokens }) => tokens.length);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
    decoder.dispose();
  });

  it('generates as many tokens as were granted, and takes no memory before', async () => {
    const before = await memoryInUse();
    const decoder = new BatchDecoder(wide);
    const record = new Record();
    const sequence = decoder.add(
      { prompt: ids(3), maxNewTokens: 4, sampling: { greedy: true }, contextShift: 'exact' },
      record,
    );
    expect([decoder.ready, await memoryInUse()]).toEqual([false, before]);
    sequence.grant(2);
    while (decoder.ready) decoder.step();
    expect([record.tokens.length, record.ended]).toEqual([2, false]);
    sequence.grant(5);
    while (decoder.ready) decoder.step();
    expect([record.tokens.length, record.ended]).toEqual([4, true]);
    expect(await memoryInUse()).toEqual(before);
  });

  it('draws for the sequences of a pass in the order in which they were added', () => {
    const decoder = new BatchDecoder(wide);
    const prompts = [ids(2), ids(4, 1), ids(3, 2)];
    manualSeed(4);
    const records = prompts.map((prompt) => add(decoder, prompt, 2, {}));
    decoder.step();
    decoder.step();
    const drawn = records.map(({ tokens }) => tokens);
    manualSeed(4);
    const sampler = new Sampler({}, 'cpu');
    const caches = prompts.map(() => wide.eval().makeCache());
    const expected: number[][] = prompts.map(() => []);
    for (let step = 0; step < 2; step++)
      prompts.forEach((prompt, i) => {
        const fresh = tensor([step === 0 ? prompt : expected[i]!], { dtype: 'int64' });
        expected[i]!.push(tidy(() => sampler.next(wide.forwardCached(fresh, caches[i]!))));
      });
    expect(drawn).toEqual(expected);
    for (const cache of caches) cache.dispose();
    wide.train();
  });

  it('tells a removed sequence nothing more, and frees its memory', async () => {
    const before = await memoryInUse();
    const decoder = new BatchDecoder(wide);
    const kept = add(decoder, ids(3), 6);
    const removed = add(decoder, ids(300), 6);
    decoder.step();
    removed.sequence.remove();
    removed.sequence.remove();
    removed.sequence.grant(3);
    while (decoder.ready) decoder.step();
    expect([removed.tokens, removed.ended, removed.error]).toEqual([[], false, undefined]);
    expect([kept.tokens.length, kept.ended]).toEqual([6, true]);
    expect(await memoryInUse()).toEqual(before);
  });
});

describe('generate of several prompts', () => {
  it('gives the text of each alone, in their order', async () => {
    const prompts = ['hello', '', 'a rather long one, longer than the context'];
    const options = { seed: 5, maxNewTokens: 12 };
    const alone: string[] = [];
    for (const prompt of prompts) alone.push(await gpt.generate(prompt, options));
    expect(await gpt.generate(prompts, options)).toEqual(alone);
    expect(await gpt.generate([], options)).toEqual([]);
  });

  it('ends all when one of them fails', async () => {
    const before = await memoryInUse();
    await expect(gpt.generate(['abc', 'ä'])).rejects.toThrow(/U\+00E4/);
    await expect(gpt.generate(['abc', 5 as never])).rejects.toThrow(/the prompt must be a string, got number 5/);
    const controller = new AbortController();
    const texts = gpt.generate(['abc', 'xyz'], { maxNewTokens: 1e6, signal: controller.signal });
    setImmediate(() => controller.abort(new Error('enough')));
    await expect(texts).rejects.toThrow('enough');
    expect(await memoryInUse()).toEqual(before);
  });
});
