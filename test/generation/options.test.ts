import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { readGenerationConfig, writeGenerationConfig } from '../../lib/generation/config';
import type { SamplingOptions } from '../../lib/generation/sampler';
import { Sampler } from '../../lib/generation/sampler';
import { tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { CharTokenizer } from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';

const chars = [...'abcdefghijklmnopqrstuvwxyz ,.\n'];
let gpt: GPT;

beforeAll(() => {
  setNumThreads(1); // A model this small gains nothing from more.
  manualSeed(1);
  const config = { vocabSize: chars.length, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 16 };
  gpt = new GPT(config, { tokenizer: new CharTokenizer(chars) });
});

describe.each(['worker', 'main'] as const)('details, on the thread %s', (thread) => {
  it('tell the text, its tokens, and why it ended', async () => {
    const options = { seed: 3, maxNewTokens: 12, thread };
    const whole = await gpt.generate('hello', options);
    const details = await gpt.generate('hello', { ...options, details: true });
    expect(details).toEqual({
      text: whole.slice(5),
      tokens: [...gpt.tokenizer!.encode(whole.slice(5))],
      finishReason: 'length',
      usage: { promptTokens: 5, completionTokens: 12 },
    });
    const stop = details.text.slice(4, 6);
    const at = details.text.indexOf(stop);
    const stopped = await gpt.generate(['hello', 'hello'], { ...options, stop, details: true });
    for (const { text, finishReason, tokens } of stopped)
      expect([text, finishReason, tokens]).toEqual([
        details.text.slice(0, at),
        'stop',
        details.tokens.slice(0, at + 2),
      ]);
  });

  it('are what a stream returns', async () => {
    const options = { seed: 3, maxNewTokens: 12, thread };
    const stream = gpt.stream('a', options);
    let last = await stream.next();
    while (last.done !== true) last = await stream.next();
    expect(last.value).toEqual(await gpt.generate('a', { ...options, details: true }));
  });

  it('end with a stop token, whose text is left out, and draw nothing after it', async () => {
    const options = { greedy: true, maxNewTokens: 12, thread };
    const { tokens } = await gpt.generate('a', { ...options, details: true });
    const end = tokens.indexOf(tokens[3]!);
    const stopped = await gpt.generate('a', { ...options, stopTokens: [tokens[3]!], details: true });
    expect(stopped.tokens).toEqual(tokens.slice(0, end + 1));
    expect(stopped.text).toBe(gpt.tokenizer!.decode(tokens.slice(0, end)));
    expect(stopped.finishReason).toBe('stop');
    const held: SamplingOptions = { minNewTokens: 6 };
    const later = await gpt.generate('a', { ...options, ...held, stopTokens: [tokens[3]!], details: true });
    expect(later.tokens.slice(0, 6)).not.toContain(tokens[3]);
  });

  it('hold log-probabilities of the tokens', async () => {
    const details = await gpt.generate('a', { greedy: true, maxNewTokens: 5, logprobs: 3, details: true, thread });
    expect(details.logprobs!.map(({ token }) => token)).toEqual(details.tokens);
    for (const { token, logprob, top } of details.logprobs!) {
      expect(top).toHaveLength(3);
      expect(top[0]).toEqual({ token, logprob }); // greedy: the likeliest
      expect(top[0]!.logprob).toBeGreaterThanOrEqual(top[1]!.logprob);
    }
  });
});

it('an abort is an end of details, and an error elsewhere', async () => {
  const signal = AbortSignal.abort(new Error('enough'));
  expect(await gpt.generate('a', { signal, details: true })).toMatchObject({ finishReason: 'aborted', tokens: [] });
  await expect(gpt.generate('a', { signal })).rejects.toThrow('enough');
});

describe('the end of a text', () => {
  it('is named by the generation config, or else by the tokenizer', async () => {
    const options = { greedy: true, maxNewTokens: 12, endOfText: true } as const;
    const { tokens } = await gpt.generate('a', { ...options, endOfText: false, details: true });
    const end = tokens[3]!;
    const until = tokens.slice(0, tokens.indexOf(end) + 1);
    gpt.generationConfig = { greedy: true, stopTokens: [end] };
    try {
      const details = await gpt.generate('a', { ...options, details: true });
      expect([details.tokens, details.finishReason]).toEqual([until, 'eos']);
      expect(details.text).toBe(gpt.tokenizer!.decode(until.slice(0, -1)));
      expect(await all(gpt.generateTokens([0], options))).toEqual(until);
      const [found] = await gpt.generateSequences([0], options);
      expect(found).toMatchObject({ tokens: until, finishReason: 'eos' });
    } finally {
      gpt.generationConfig = undefined;
    }
    const tokenizer = Object.assign(Object.create(gpt.tokenizer!) as CharTokenizer, { endId: end });
    const other = new GPT(gpt.config, { tokenizer });
    other.loadStateDict(gpt.stateDict());
    expect(await all(other.generateTokens([0], options))).toEqual(until);
    other.dispose();
  });

  it.each(['worker', 'main'] as const)('is a stop text for token ids too, on the thread %s', async (thread) => {
    const options = { greedy: true, maxNewTokens: 12, thread } as const;
    const { text, tokens } = await gpt.generate('a', { ...options, details: true });
    const stop = text.slice(4, 6);
    expect(await all(gpt.generateTokens([0], { ...options, stop }))).toEqual(tokens.slice(0, text.indexOf(stop) + 2));
  });
});

describe('several texts', () => {
  it.each(['worker', 'main'] as const)('are texts or details, prompt by prompt, on the thread %s', async (thread) => {
    const options = { numReturnSequences: 2, maxNewTokens: 6, seed: 1, thread };
    const texts = await gpt.generate(['hello', ''], options);
    const details = await gpt.generate(['hello', ''], { ...options, details: true, logprobs: 1 });
    expect(texts).toEqual(details.map(({ text }, i) => (i < 2 ? `hello${text}` : text)));
    expect(details.map(({ usage }) => usage.promptTokens)).toEqual([5, 5, 1, 1]);
    for (const { tokens, logprobs } of details) expect(logprobs!.map(({ token }) => token)).toEqual(tokens);
    expect(new Set(texts).size).toBe(4);
    const [one] = await gpt.generate('hello', { ...options, numReturnSequences: 1 });
    expect(one).toBe(await gpt.generate('hello', { maxNewTokens: 6, seed: 1, thread }));
  });

  it('of a beam search are one, or a list where a number is asked for', async () => {
    const options = { numBeams: 3, maxNewTokens: 6 };
    const best = await gpt.generate('hello', options);
    const list = await gpt.generate('hello', { ...options, numReturnSequences: 3 });
    expect(list[0]).toBe(best);
    expect(await gpt.generate(['hello', 'a'], options)).toEqual([best, await gpt.generate('a', options)]);
    const details = await gpt.generate('hello', { ...options, details: true, stop: best.slice(7, 9) });
    expect([details.text, details.finishReason]).toEqual([best.slice(5, 7), 'stop']);
    const greedy = await gpt.generate('hello', { maxNewTokens: 6, greedy: true });
    const [likeliest] = await gpt.generateSequences(gpt.tokenizer!.encode('hello'), {
      ...options,
      numReturnSequences: 3,
    });
    expect(await gpt.generate('hello', { ...options, numBeams: 1, greedy: true })).toBe(greedy);
    expect(gpt.tokenizer!.decode(likeliest!.tokens)).toBe(best.slice(5));
  });

  it('beyond the context, and beside other texts, are the same', async () => {
    const options = { numReturnSequences: 3, maxNewTokens: 30, seed: 1 };
    const prompts = ['hello', 'a'.repeat(20)];
    const alone = [await gpt.generate(prompts, options), await gpt.generate('b', { numBeams: 3, maxNewTokens: 30 })];
    const beside = await Promise.all([
      gpt.generate(prompts, options),
      gpt.generate('b', { numBeams: 3, maxNewTokens: 30 }),
      gpt.generate('c', { seed: 2, maxNewTokens: 30 }),
    ]);
    expect(beside).toEqual([...alone, await gpt.generate('c', { seed: 2, maxNewTokens: 30 })]);
    expect(await gpt.generate(prompts, { ...options, thread: 'main' })).toEqual(alone[0]);
    const half = { ...options, contextShift: 'half' } as const;
    expect(await gpt.generate(prompts, half)).toEqual(await gpt.generate(prompts, { ...half, thread: 'main' }));
  });

  it('end where the signal is aborted', async () => {
    const controller = new AbortController();
    const options = { numReturnSequences: 2, maxNewTokens: 1e6, signal: controller.signal };
    const texts = gpt.generate('a', options);
    setTimeout(() => controller.abort(new Error('enough')), 50);
    await expect(texts).rejects.toThrow('enough');
    await expect(gpt.generate('a', { ...options, numReturnSequences: 1 })).rejects.toThrow('enough');
    await expect(gpt.generate('a', { ...options, details: true })).rejects.toThrow('enough');
  });
});

describe('a logitsProcessor', () => {
  it('changes the logits after the other options, and sees the tokens so far', async () => {
    const seen: number[][] = [];
    const only = (id: number): Tensor =>
      tensor([chars.map((_, i) => (i === id ? 0 : -Infinity))], { dtype: 'float32' });
    const logitsProcessor = (logits: Tensor, tokens: readonly number[]): Tensor => {
      expect(logits.shape).toEqual([1, chars.length]);
      expect(Number(logits.select(1, 4).item())).toBe(-Infinity); // by badWords
      seen.push([...tokens]);
      return logits.add(only((tokens.at(-1)! + 1) % chars.length));
    };
    expect(await gpt.generate('a', { maxNewTokens: 3, logitsProcessor, badWords: [[4]] })).toBe('abcd');
    expect(seen).toEqual([[0], [0, 1], [0, 1, 2]]);
    expect(await gpt.generate('v', { numBeams: 2, maxNewTokens: 2, logitsProcessor, badWords: [[4]] })).toBe('vwx');
    const group = { numReturnSequences: 2, maxNewTokens: 2, logitsProcessor, badWords: [[4]] };
    expect(await gpt.generate('k', group)).toEqual(['klm', 'klm']);
  });

  it('must give logits, at once', async () => {
    const generate = (logitsProcessor: unknown): Promise<string> =>
      gpt.generate('a', { maxNewTokens: 1, logitsProcessor: logitsProcessor as never });
    await expect(generate((logits: Tensor) => logits.select(0, 0))).rejects.toThrow(/a tensor of the shape/);
    await expect(generate((logits: Tensor) => Promise.resolve(logits))).rejects.toThrow(/must not be async/);
    await expect(generate((logits: Tensor) => logits.mul(-Infinity).abs().neg())).rejects.toThrow(
      /exclude every token/,
    );
    await expect(
      generate(() => {
        throw new Error('mine');
      }),
    ).rejects.toThrow('mine');
    await expect(gpt.generate('a', { logitsProcessor: 3 as never })).rejects.toThrow(/must be a function/);
  });
});

describe('a generation config', () => {
  it('has the names of transformers, both ways', () => {
    const json = {
      do_sample: true,
      temperature: 0.7,
      top_k: 0,
      top_p: 0.9,
      min_p: 0.05,
      eos_token_id: [1, 2],
      max_new_tokens: 20,
      repetition_penalty: 1.1,
      suppress_tokens: [4],
      stop_strings: ['.', 'end'],
      transformers_version: '5.0',
    };
    const options = readGenerationConfig(json);
    expect(options).toEqual({
      temperature: 0.7,
      topP: 0.9,
      minP: 0.05,
      stopTokens: [1, 2],
      maxNewTokens: 20,
      repetitionPenalty: 1.1,
      badWords: [[4]],
      stop: ['.', 'end'],
    });
    const { suppress_tokens, ...rest } = json;
    expect(writeGenerationConfig(options, json)).toEqual({ ...rest, bad_words_ids: [suppress_tokens] });
    expect(readGenerationConfig({})).toEqual({ greedy: true });
    expect(readGenerationConfig({ do_sample: true })).toEqual({ topK: 50 });
    const beams = { numBeams: 4, lengthPenalty: 2, numReturnSequences: 2 };
    expect(readGenerationConfig(writeGenerationConfig(beams))).toEqual(beams);
  });

  it(
    'is what transformers reads from the file',
    async () => {
      const directory = temporaryDirectory();
      const options = {
        ...{ temperature: 0.7, topK: 9, topP: 0.9, minP: 0.05, typicalP: 0.8, stopTokens: [1, 2], maxNewTokens: 20 },
        ...{ minNewTokens: 3, repetitionPenalty: 1.1, noRepeatNgramSize: 2, badWords: [[4], [5, 6]], stop: ['.'] },
        ...{ logitBias: { 3: 1.5 }, numReturnSequences: 2 },
      };
      const beams = { numBeams: 3, lengthPenalty: 2, earlyStopping: 'never', stopTokens: [5] } as const;
      for (const [i, each] of [options, beams].entries()) {
        mkdirSync(path.join(directory, String(i)));
        const file = path.join(directory, String(i), 'generation_config.json');
        writeFileSync(file, JSON.stringify(writeGenerationConfig(each)));
      }
      const code = `
import json, sys
from transformers import GenerationConfig
from transformers.generation import SequenceBiasLogitsProcessor
first, second = (GenerationConfig.from_pretrained(f'{sys.argv[1]}/{i}') for i in range(2))
for config in (first, second):
    config.validate(strict=True)
SequenceBiasLogitsProcessor(first.sequence_bias)
print(json.dumps([config.to_diff_dict() for config in (first, second)]))`;
      expect(JSON.parse(await pythonCode(code, [directory]))).toMatchObject([
        {
          ...{ do_sample: true, temperature: 0.7, top_k: 9, top_p: 0.9, min_p: 0.05, typical_p: 0.8 },
          ...{ eos_token_id: [1, 2], max_new_tokens: 20, min_new_tokens: 3, repetition_penalty: 1.1 },
          ...{ no_repeat_ngram_size: 2, bad_words_ids: [[4], [5, 6]], stop_strings: ['.'], num_return_sequences: 2 },
        },
        { num_beams: 3, length_penalty: 2, early_stopping: 'never', eos_token_id: 5 },
      ]);
    },
    pythonTimeout,
  );

  it('names what it cannot carry', () => {
    expect(() => readGenerationConfig({ penalty_alpha: 0.6 })).toThrow(/penalty_alpha is 0.6/);
    expect(() => readGenerationConfig({ do_sample: true, num_beams: 2 })).toThrow(/draw the beams/);
    expect(() => readGenerationConfig({ eos_token_id: 'x' })).toThrow(/eos_token_id/);
    expect(() => writeGenerationConfig({ seed: 3 })).toThrow(/no field for seed/);
  });
});

it('refuses what makes no sense', () => {
  const start = (options: object): unknown => gpt.generateTokens([0], options as never);
  expect(() => start({ stopTokens: [30] })).toThrow(/stopTokens holds the token id 30/);
  expect(() => start({ logprobs: -1 })).toThrow(/logprobs must be/);
  expect(() => start({ minP: 2 })).toThrow(/minP must be/);
  expect(() => start({ repetitionPenalty: 0 })).toThrow(/repetitionPenalty must be/);
  expect(() => start({ logitBias: { 99: 1 } })).toThrow(/an id of logitBias must be from 0 to 29/);
  expect(() => start({ badWords: [[]] })).toThrow(/badWords must be/);
  expect(() => gpt.stream('a', { endOfText: true })).toThrow(/endOfText needs a tokenizer/);
});

it.each([
  [{ numBeams: 0 }, /numBeams must be an integer from 1 to 1024/],
  [{ numReturnSequences: 1.5 }, /numReturnSequences must be an integer/],
  [{ numReturnSequences: 2, greedy: true }, /greedy gives the same text/],
  [{ numBeams: 2, numReturnSequences: 3 }, /at most numBeams \(2\)/],
  [{ numBeams: 2, topK: 3 }, /a beam search draws nothing: leave out topK/],
  [{ numBeams: 2, lengthPenalty: NaN }, /lengthPenalty must be a finite number/],
  [{ numBeams: 2, earlyStopping: 'soon' }, /earlyStopping must be/],
  [{ lengthPenalty: 2 }, /lengthPenalty is of a beam search: give numBeams/],
  [{ numBeams: 2, steps: 3 }, /unknown option 'steps'/],
])('refuses a search with %o', async (options, message) => {
  await expect(gpt.generate('a', options as never)).rejects.toThrow(message);
  await expect(gpt.generateSequences([1], options as never)).rejects.toThrow(message);
});

it('refuses wrong calls of embed and evaluate', async () => {
  await expect(gpt.embed([])).rejects.toThrow(/one text or more/);
  await expect(gpt.embed(['a', ''])).rejects.toThrow(/text 1 is empty/);
  await expect(gpt.embed(['a'.repeat(17)])).rejects.toThrow(/17 tokens, but the model's context \(blockSize\) is 16/);
  await expect(gpt.embed(['a'], { layer: 3 })).rejects.toThrow(/an integer from -3 to 2 for 'layer'/);
  await expect(gpt.embed(['a'], { pooling: 'max' as never })).rejects.toThrow(/'mean', 'last' or 'first'/);
  await expect(gpt.evaluate('a')).rejects.toThrow(/2 tokens or more/);
  await expect(gpt.evaluate('abc', { stride: 17 })).rejects.toThrow(/from 1 to 16 for 'stride'/);
  await expect(gpt.evaluate('abc', { windowSize: 20 })).rejects.toThrow(/from 1 to 16 for 'windowSize'/);
  await expect(gpt.evaluate('abc', { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
});

it('evaluates text with bits for each byte', async () => {
  const text = 'hello, hello. '.repeat(4);
  const seen: number[] = [];
  const { loss, tokens, bitsPerByte } = await gpt.evaluate(text, { onProgress: ({ done }) => seen.push(done) });
  expect(tokens).toBe(text.length - 1);
  expect(seen.at(-1)).toBe(tokens);
  expect(bitsPerByte).toBeCloseTo((loss * tokens) / Math.LN2 / text.length, 9);
});

async function all(tokens: AsyncIterable<number>): Promise<number[]> {
  const list: number[] = [];
  for await (const token of tokens) list.push(token);
  return list;
}

/** The warpers and processors of transformers, in the order in which its `generate` applies them. */
const script = `
import json, sys, torch
from transformers import generation as g
cases = json.loads(sys.argv[1])
out = []
for c in cases:
    ids = torch.tensor([c['tokens']]); o = c['options']; n = len(c['tokens']) - c['generated']
    ps = []
    if 'logitBias' in o: ps.append(g.SequenceBiasLogitsProcessor({(int(k),): float(v) for k, v in o['logitBias'].items()}))
    if 'repetitionPenalty' in o: ps.append(g.RepetitionPenaltyLogitsProcessor(o['repetitionPenalty']))
    if 'noRepeatNgramSize' in o: ps.append(g.NoRepeatNGramLogitsProcessor(o['noRepeatNgramSize']))
    if 'badWords' in o: ps.append(g.NoBadWordsLogitsProcessor(o['badWords'], eos_token_id=torch.tensor([29])))
    if 'minNewTokens' in o: ps.append(g.MinNewTokensLengthLogitsProcessor(n, o['minNewTokens'], torch.tensor([5])))
    if 'temperature' in o: ps.append(g.TemperatureLogitsWarper(o['temperature']))
    if 'topK' in o: ps.append(g.TopKLogitsWarper(o['topK']))
    if 'topP' in o: ps.append(g.TopPLogitsWarper(o['topP']))
    if 'minP' in o: ps.append(g.MinPLogitsWarper(o['minP']))
    if 'typicalP' in o: ps.append(g.TypicalLogitsWarper(o['typicalP']))
    scores = torch.tensor([c['logits']])
    for p in ps: scores = p(ids, scores)
    row = [int(scores.argmax())]
    for seed in range(4):
        torch.manual_seed(seed)
        row += [int(torch.multinomial(scores.softmax(-1), 1)) for _ in range(6)]
    out.append(row)
print(json.dumps(out))
`;

it(
  'chooses the tokens that transformers chooses, greedily and from four seeds',
  async () => {
    const options: SamplingOptions[] = [
      { minP: 0.1 },
      { typicalP: 0.6 },
      { repetitionPenalty: 1.7 },
      { noRepeatNgramSize: 2 },
      { logitBias: { 3: 4.5, 7: -100 } },
      { badWords: [[4], [1, 2], [9, 8, 7]] },
      { minNewTokens: 9 },
      { temperature: 0.7, topK: 12, topP: 0.9, minP: 0.02, typicalP: 0.9, repetitionPenalty: 0.8, badWords: [[2, 6]] },
    ];
    const tokens = [1, 2, 5, 1, 4, 2, 6, 9, 8, 1];
    const cases = options.map((options, i) => {
      const logits = Array.from({ length: 30 }, (_, j) =>
        Math.fround(3 * Math.sin(7.3 * j + 1.9 * i) + (j === 5 ? 4 : 0)),
      );
      return { options, tokens, generated: 4, logits };
    });
    const expected = JSON.parse(await pythonCode(script, [JSON.stringify(cases)])) as number[][];
    const actual = cases.map(({ options, logits, generated }) =>
      tidy(() => {
        const given = tensor([logits], { dtype: 'float32' });
        const greedy = new Sampler({ ...options, greedy: true }, 'cpu', 30, [5]).next(given, tokens, generated);
        const drawn = [0, 1, 2, 3].flatMap((seed) => {
          const sampler = new Sampler({ ...options, seed }, 'cpu', 30, [5]);
          return Array.from({ length: 6 }, () => sampler.next(given, tokens, generated));
        });
        return [greedy, ...drawn];
      }),
    );
    expect(actual).toEqual(expected);
  },
  pythonTimeout,
);

it('penalises tokens that were generated, not those of the prompt, as OpenAI documents it', () => {
  const next = (options: SamplingOptions, generated: number): number =>
    tidy(() => {
      const given = tensor([[1, 2.5, 3, 0]], { dtype: 'float32' });
      return new Sampler({ greedy: true, ...options }, 'cpu', 4).next(given, [2, 2, 1], generated);
    });
  expect(next({ frequencyPenalty: 0.6 }, 0)).toBe(2);
  expect(next({ frequencyPenalty: 0.6 }, 3)).toBe(1); // 2.5 - 0.6 against 3 - 1.2
  expect(next({ presencePenalty: 2.6 }, 3)).toBe(0); // 1 against -0.1 and 0.4
  expect(next({ presencePenalty: 2.6 }, 1)).toBe(2);
});
