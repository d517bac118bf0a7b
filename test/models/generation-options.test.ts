import { beforeAll, describe, expect, it } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import type { SamplingOptions } from '../../lib/models/sampler';
import { Sampler } from '../../lib/models/sampler';
import { tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { tidy } from '../../lib/tensor/scope';
import { CharTokenizer } from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';

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
