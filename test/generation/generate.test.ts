import { beforeAll, describe, expect, it } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { Sampler } from '../../lib/generation/sampler';
import { StopText } from '../../lib/generation/stop-text';
import { noGrad } from '../../lib/tensor/autograd';
import { tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { tidy } from '../../lib/tensor/scope';
import { CharTokenizer, Gpt2Tokenizer } from '../../lib/tokenizers';
import { memoryInUse } from '../helpers/garbage';
import { pythonCode, pythonTimeout } from '../helpers/python';

const chars = [...'abcdefghijklmnopqrstuvwxyz ,.\n'];
let gpt: GPT;

beforeAll(() => {
  setNumThreads(1); // A model this small gains nothing from more.
  manualSeed(1);
  const config = { vocabSize: chars.length, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 16, dropout: 0.5 };
  gpt = new GPT(config, { tokenizer: new CharTokenizer(chars) });
});

async function collect(stream: AsyncIterable<number>): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of stream) tokens.push(token);
  return tokens;
}

/** The loop of the Python programs: the whole window through the model for each token. */
function greedyWithoutCache(prompt: number[], count: number): number[] {
  gpt.eval();
  const tokens = [...prompt];
  for (let i = 0; i < count; i++) {
    const next = noGrad(() =>
      tidy(() => {
        const window = tokens.slice(-gpt.config.blockSize);
        const { logits } = gpt.forward(tensor([window], { dtype: 'int64' })); // (1, T, V)
        return Number(
          logits
            .select(1, window.length - 1)
            .argmax(-1)
            .item(),
        );
      }),
    );
    tokens.push(next);
  }
  gpt.train();
  return tokens.slice(prompt.length);
}

describe('generateTokens', () => {
  it('takes the same tokens with its cache as without, beyond the context too', async () => {
    expect(await collect(gpt.generateTokens([3, 1, 4], { greedy: true, maxNewTokens: 60 }))).toEqual(
      greedyWithoutCache([3, 1, 4], 60),
    );
  });

  it('crops a prompt that is longer than the context', async () => {
    const prompt = Array.from({ length: 40 }, (_, i) => (7 * i) % 30);
    expect(await collect(gpt.generateTokens(prompt, { temperature: 0, maxNewTokens: 5 }))).toEqual(
      greedyWithoutCache(prompt, 5),
    );
  });

  it('draws the same tokens from the same seed, and others from another', async () => {
    const draw = (seed: number): Promise<number[]> => collect(gpt.generateTokens([0], { seed, maxNewTokens: 30 }));
    const [first, again, other] = [await draw(5), await draw(5), await draw(6)];
    expect(first).toEqual(again);
    expect(first).not.toEqual(other);
  });

  it('draws from the default generator without a seed', async () => {
    const draw = async (): Promise<number[]> => {
      manualSeed(9);
      return collect(gpt.generateTokens([0], { maxNewTokens: 20 }));
    };
    expect(await draw()).toEqual(await draw());
  });

  it('leaves the model in the mode it was in, and training between two tokens', async () => {
    gpt.train();
    for await (const token of gpt.generateTokens([0], { maxNewTokens: 3 })) {
      expect(token).toBeGreaterThanOrEqual(0);
      expect(gpt.modules().every((module) => module.training)).toBe(true);
    }
    gpt.blocks.eval();
    await collect(gpt.generateTokens([0], { maxNewTokens: 1 }));
    expect([gpt.training, gpt.blocks.training]).toEqual([true, false]);
    gpt.train();
  });

  it('frees all its memory, when it ends and when it is left early', async () => {
    const before = await memoryInUse();
    await collect(gpt.generateTokens([0], { maxNewTokens: 40, topK: 5, topP: 0.9 }));
    for await (const token of gpt.generateTokens([0], { maxNewTokens: 40 })) if (token >= 0) break;
    expect(await memoryInUse()).toEqual(before);
  });

  it('lets the event loop turn between tokens', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    await collect(gpt.generateTokens([0], { maxNewTokens: 50 }));
    clearInterval(timer);
    expect(turns).toBeGreaterThan(1);
  });

  it('is rejected with the reason of its signal', async () => {
    const controller = new AbortController();
    const tokens: number[] = [];
    const loop = async (): Promise<void> => {
      for await (const token of gpt.generateTokens([0], { maxNewTokens: 1000, signal: controller.signal })) {
        if (tokens.push(token) === 3) controller.abort(new Error('enough'));
      }
    };
    await expect(loop()).rejects.toThrow('enough');
    expect(tokens).toHaveLength(3);
  });

  it('refuses options and prompts that make no sense, at once', () => {
    expect(() => gpt.generateTokens([0], { maxTokens: 5 } as never)).toThrow(/unknown option 'maxTokens'/);
    expect(() => gpt.generateTokens([0], { topk: 5 } as never)).toThrow(/Did you mean 'topK'/);
    expect(() => gpt.generateTokens([0], { topK: 0 })).toThrow(/topK must be an integer of at least 1/);
    expect(() => gpt.generateTokens([0], { topP: 1.5 })).toThrow(/topP must be/);
    expect(() => gpt.generateTokens([0], { temperature: -1 })).toThrow(/temperature must be/);
    expect(() => gpt.generateTokens([0], { maxNewTokens: NaN })).toThrow(/maxNewTokens must be/);
    expect(() => gpt.generateTokens([])).toThrow(/one token or more/);
    expect(() => gpt.generateTokens([30])).toThrow(/token id 30, but the model's ids are 0 to 29/);
  });
});

describe('generate and stream', () => {
  it('give the same text: the prompt and what follows it', async () => {
    const options = { seed: 3, maxNewTokens: 40 };
    let streamed = '';
    for await (const piece of gpt.stream('hello', options)) streamed += piece;
    expect(await gpt.generate('hello', options)).toBe(`hello${streamed}`);
    expect(streamed).toHaveLength(40);
  });

  it('begin a new text without a prompt', async () => {
    expect(await gpt.generate('', { seed: 3, maxNewTokens: 10 })).toHaveLength(10);
  });

  it('end before a stop text', async () => {
    const whole = (await gpt.generate('a', { seed: 3, maxNewTokens: 60 })).slice(1);
    const stop = whole.slice(20, 23);
    const cut = (await gpt.generate('a', { seed: 3, maxNewTokens: 60, stop: ['never', stop] })).slice(1);
    expect(cut).toBe(whole.slice(0, whole.indexOf(stop)));
  });

  it('never end a piece within a character of several tokens', async () => {
    manualSeed(2);
    const config = { vocabSize: 50304, blockSize: 8, nLayer: 1, nHead: 1, nEmbd: 8 };
    const bpe = new GPT(config, { tokenizer: new Gpt2Tokenizer() });
    const options = { seed: 1, maxNewTokens: 60 };
    const ids = await collect(bpe.generateTokens(bpe.tokenizer!.encode('x'), options));
    let streamed = '';
    for await (const piece of bpe.stream('x', options)) streamed += piece;
    expect(streamed).toBe(bpe.tokenizer!.decode(ids));
    bpe.dispose();
  });

  it('name what is missing', () => {
    const bare = new GPT({ vocabSize: 5, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 });
    expect(() => bare.stream('a')).toThrow(expect.objectContaining({ code: 'ERR_TORCHBIND_NO_TOKENIZER' }));
    expect(() => gpt.stream('ä')).toThrow(/"ä" \(U\+00E4\) at position 0/);
    expect(() => gpt.stream('a', { stop: '' })).toThrow(/stop must be/);
    bare.dispose();
  });
});

const logits = Array.from({ length: 50 }, (_, i) => Math.sin(i * 12.9898) * 4);

const samplerScript = `
import json, sys, torch
from torch.nn import functional as F
logits = torch.tensor([json.load(sys.stdin)])
def draw(temperature=1.0, top_k=None, top_p=None):
    torch.manual_seed(11)
    tokens = []
    for _ in range(40):
        scaled = logits / temperature
        if top_k is not None:
            v, _ = torch.topk(scaled, top_k)
            scaled[scaled < v[:, [-1]]] = float('-inf')
        if top_p is not None:
            values, order = torch.sort(scaled, descending=False)
            remove = values.softmax(-1).cumsum(-1) <= 1 - top_p
            remove[..., -1:] = False
            scaled = scaled.masked_fill(remove.scatter(1, order, remove), float('-inf'))
        tokens.append(torch.multinomial(F.softmax(scaled, dim=-1), 1).item())
    return tokens
print(json.dumps([draw(), draw(0.7), draw(1.3, top_k=5), draw(top_p=0.6), draw(0.9, 20, 0.8)]))
`;

describe('Sampler', () => {
  it('draws what torch.multinomial draws in Python from the same seed', { timeout: pythonTimeout }, async () => {
    const expected = JSON.parse(await pythonCode(samplerScript, [], { input: JSON.stringify(logits) })) as number[][];
    const options = [
      {},
      { temperature: 0.7 },
      { temperature: 1.3, topK: 5 },
      { topP: 0.6 },
      { temperature: 0.9, topK: 20, topP: 0.8 },
    ];
    options.forEach((option, i) => {
      const sampler = new Sampler({ ...option, seed: 11 }, 'cpu');
      const drawn = Array.from({ length: 40 }, () => tidy(() => sampler.next(tensor([logits], { dtype: 'float32' }))));
      expect(drawn, JSON.stringify(option)).toEqual(expected[i]);
    });
  });

  it('keeps the likeliest token however small topP is', () => {
    const sampler = new Sampler({ topP: 1e-9, seed: 1 }, 'cpu');
    expect(sampler.next(tensor([[0.5, 3, 1]]))).toBe(1);
  });
});

describe('logits that are not finite', () => {
  const broken = (value: number): GPT => {
    const model = new GPT(gpt.config, { tokenizer: gpt.tokenizer });
    model.tokenEmbedding.weight.detach().select(0, 3).fill_(value);
    return model;
  };

  it.each([NaN, Infinity])('end generation with an error, drawn and greedy: weights with %d', async (value) => {
    for (const options of [
      { greedy: true },
      { temperature: 0 },
      { seed: 1 },
      { topK: 2, seed: 1 },
      { topP: 0.5, seed: 1 },
    ]) {
      const tokens = collect(broken(value).generateTokens([3], { maxNewTokens: 4, ...options }));
      await expect(tokens).rejects.toThrow(/expected finite logits, but the largest is NaN/);
      await expect(broken(value).generate('d', options)).rejects.toMatchObject({
        code: 'ERR_TORCHBIND_NONFINITE_LOGITS',
      });
    }
  });

  it('of single tokens may be -Infinity: these are never drawn', async () => {
    const model = new GPT(gpt.config, { tokenizer: gpt.tokenizer });
    model.lmHead
      .bias!.detach()
      .narrow(0, 1, chars.length - 1)
      .fill_(-Infinity);
    for (const options of [{ greedy: true }, { seed: 1 }])
      expect(await collect(model.generateTokens([3], { maxNewTokens: 3, ...options }))).toEqual([0, 0, 0]);
  });
});

describe('StopText', () => {
  it.each([
    ['cut between pieces', ['ab', 'cENd', 'EN', 'Dx'], ['END'], 'abcENd'],
    ['in one piece', ['abENDcd'], ['END'], 'ab'],
    ['the first of several', ['xxBBAA'], ['AA', 'BB'], 'xx'],
    ['overlapping beginnings', ['aa', 'ab'], ['aab'], 'a'],
    ['not there', ['abc', 'E'], ['END'], 'abcE'],
  ])('ends before the stop text: %s', (_, pieces, stops, expected) => {
    const stop = new StopText(stops);
    expect(pieces.map((piece) => stop.push(piece)).join('') + stop.end()).toBe(expected);
  });
});
