import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import type { GenerateSequencesOptions } from '../../lib/generation/generate-search';
import type { LogitsProcessor } from '../../lib/generation/logits-processors';
import { tensor } from '../../lib/tensor/creation';
import { setNumThreads } from '../../lib/tensor/device';
import { CharTokenizer } from '../../lib/tokenizers';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

/** One token for each character, in order. */
const characters = [...' ,.0123456789;abcdefghijklmnopqrstuvwxyz'];
/** Token 1 fills up on the left in transformers: prompts hold it, so that penalties of what occurred are the same. */
const uneven = [
  [1, 9, 14, 2, 30],
  [1, 12],
  [7, 7, 21, 0, 11, 1, 4, 4],
];
/** For n-grams, of which what fills up has its own. */
const even = [
  [1, 9, 14, 2, 30],
  [7, 1, 21, 0, 11],
  [6, 6, 1, 33, 18],
];
const seeds = [0, 1, 2, 3];

interface Case {
  options: GenerateSequencesOptions;
  /** The same in transformers' names. */
  python: Record<string, unknown>;
  prompts: number[][];
  seeds: number[];
}

/** `Successor` of reference.py. */
const successor: LogitsProcessor = (logits, tokens) => {
  const changes = characters.map((_, id) => (id === 7 ? -Infinity : id === (tokens.at(-1)! + 1) % 40 ? 2 : 0));
  return logits.add(tensor([changes], { dtype: 'float32' }));
};

/** Options that draw. */
const drawing: [GenerateSequencesOptions, Record<string, unknown>][] = [
  [{}, {}],
  [{ temperature: 0.6 }, { temperature: 0.6 }],
  [{ topK: 5 }, { top_k: 5 }],
  [{ topP: 0.8 }, { top_p: 0.8 }],
  [{ minP: 0.1 }, { min_p: 0.1 }],
  [{ typicalP: 0.7 }, { typical_p: 0.7 }],
  [
    { logitBias: { 3: 4.5, 8: -50.5 } },
    {
      sequence_bias: [
        [[3], 4.5],
        [[8], -50.5],
      ],
    },
  ],
  [
    { temperature: 0.8, topK: 20, topP: 0.9, badWords: [[3]] },
    { temperature: 0.8, top_k: 20, top_p: 0.9, bad_words_ids: [[3]] },
  ],
  [
    { temperature: 0.8, topK: 20, logitsProcessor: successor, badWords: [[3]] },
    { temperature: 0.8, top_k: 20, successor: true, bad_words_ids: [[3]] },
  ],
];

/** Options that look at the tokens before. */
const looking: [GenerateSequencesOptions, Record<string, unknown>][] = [
  [{ repetitionPenalty: 1.5 }, { repetition_penalty: 1.5 }],
  [{ noRepeatNgramSize: 2 }, { no_repeat_ngram_size: 2 }],
  [{ badWords: [[4, 5], [6]] }, { bad_words_ids: [[4, 5], [6]] }],
  [
    { stopTokens: [5], minNewTokens: 3 },
    { eos_token_id: 5, min_new_tokens: 3 },
  ],
  [{ stopTokens: [5, 9, 20] }, { eos_token_id: [5, 9, 20] }],
];

const beams: [GenerateSequencesOptions, Record<string, unknown>][] = [
  [{ numBeams: 3 }, { num_beams: 3 }],
  [
    { numBeams: 3, logitsProcessor: successor },
    { num_beams: 3, successor: true },
  ],
  [
    { numBeams: 4, numReturnSequences: 3, stopTokens: [5] },
    { num_beams: 4, num_return_sequences: 3, eos_token_id: 5 },
  ],
  [
    { numBeams: 4, stopTokens: [5, 9, 20, 31], lengthPenalty: 2 },
    { num_beams: 4, eos_token_id: [5, 9, 20, 31], length_penalty: 2 },
  ],
  [
    { numBeams: 3, stopTokens: [5, 9, 20, 31], earlyStopping: true, lengthPenalty: -1 },
    { num_beams: 3, eos_token_id: [5, 9, 20, 31], early_stopping: true, length_penalty: -1.0 },
  ],
  [
    { numBeams: 3, stopTokens: [5, 9, 20, 31], earlyStopping: 'never', lengthPenalty: 0 },
    { num_beams: 3, eos_token_id: [5, 9, 20, 31], early_stopping: 'never', length_penalty: 0.0 },
  ],
  [
    { numBeams: 3, repetitionPenalty: 1.3, noRepeatNgramSize: 2, stopTokens: [5], minNewTokens: 4 },
    { num_beams: 3, repetition_penalty: 1.3, no_repeat_ngram_size: 2, eos_token_id: 5, min_new_tokens: 4 },
  ],
];

const maxNewTokens = 14;
/** Texts that end a generation; none begins with the end of a prompt, which transformers would count. */
const stop = ['a', 'e', 'i', '0', 's,', 'uv'];
const ends = { stopTokens: [5] };
const batchOf = ({ noRepeatNgramSize }: GenerateSequencesOptions): number[][] =>
  noRepeatNgramSize === undefined ? uneven : even;

/** Each prompt alone. */
const alone: Case[] = [...drawing, ...looking].flatMap(([options, python]) =>
  uneven.map((prompt) => ({ options, python: { ...python, do_sample: true }, prompts: [prompt], seeds })),
);
const batches: Case[] = [...drawing, ...looking].flatMap(([options, python]): Case[] => {
  const prompts = batchOf(options);
  const two = { ...options, numReturnSequences: 2 };
  return [
    { options: two, python: { ...python, do_sample: true, num_return_sequences: 2 }, prompts, seeds },
    { options: { ...options, greedy: true }, python: greedyIn(python), prompts, seeds: [0] },
  ];
});
const searches = beams.map(([options, python]): Case => ({ options, python, prompts: batchOf(options), seeds: [0] }));
const cases = [...alone, ...batches, ...searches];
/** With texts that stop: alone greedily, alone drawn, in a batch drawn. */
const stopped: Case[] = [
  ...uneven.flatMap((prompt): Case[] => [
    { options: { ...ends, greedy: true }, python: {}, prompts: [prompt], seeds: [0] },
    { options: ends, python: { do_sample: true }, prompts: [prompt], seeds },
  ]),
  {
    options: { ...ends, numReturnSequences: 2 },
    python: { do_sample: true, num_return_sequences: 2 },
    prompts: uneven,
    seeds,
  },
];

/** Without what transformers uses for drawing alone. */
function greedyIn(python: Record<string, unknown>): Record<string, unknown> {
  const { temperature, top_k, top_p, min_p, typical_p, ...rest } = python;
  void [temperature, top_k, top_p, min_p, typical_p];
  return rest;
}

interface Reference {
  likeliest: [number[], number[]][];
  texts: { tokens: number[][]; scores: number[] | null }[][];
  hiddenStates: number[][][];
  attentions: number[][][][];
  embedded: { mean: number[]; last: number[]; first: number[] }[];
  losses: number[];
}

const directory = sharedTemporaryDirectory();
let reference: Record<string, Reference>;

beforeAll(async () => {
  setNumThreads(1);
  const file = path.join(directory, 'cases.json');
  const all = [
    ...cases,
    ...stopped.map(({ python, ...rest }) => ({ ...rest, python: { ...python, stop_strings: stop, eos_token_id: 5 } })),
  ];
  const posted = all.map(({ python, prompts, seeds }) => ({
    prompts,
    seeds,
    options: { ...python, max_new_tokens: maxNewTokens },
  }));
  writeFileSync(file, JSON.stringify({ characters, cases: posted }));
  reference = await pythonJson(path.join(__dirname, 'reference.py'), [directory, file]);
}, pythonTimeout);

describe.each(['gpt2', 'llama'])('%s of transformers', (name) => {
  let gpt: GPT;
  beforeAll(async () => {
    gpt = await GPT.load(path.join(directory, name));
    gpt.tokenizer = new CharTokenizer(characters);
  });
  afterAll(() => gpt.dispose());

  /** The tokens of transformers for a prompt alone, without what fills up. */
  const expectedOf = (i: number, s: number, length: number): number[] =>
    reference[name]!.texts[i]![s]!.tokens[0]!.slice(0, length);

  it.each([...batches, ...searches].map((each, i) => [nameOf(each), alone.length + i]))(
    'writes the same tokens with %s',
    async (_name, i) => {
      const { options, prompts, seeds } = cases[i]!;
      for (const [s, seed] of seeds.entries()) {
        const draws = options.greedy !== true && options.numBeams === undefined;
        const own = { ...options, ...(draws ? { seed } : {}), maxNewTokens };
        const found = await gpt.generateSequences(prompts, own);
        const expected = reference[name]!.texts[i]![s]!;
        expect(found.map(({ tokens }) => tokens)).toEqual(
          expected.tokens.map((row, j) => row.slice(0, found[j]!.tokens.length)),
        );
        // What follows in transformers fills up.
        for (const [j, { tokens, finishReason }] of found.entries()) {
          const ended = options.stopTokens?.includes(tokens.at(-1)!) === true;
          expect(finishReason).toBe(ended ? 'stop' : 'length');
          expect(new Set(expected.tokens[j]!.slice(tokens.length)).size).toBeLessThanOrEqual(ended ? 1 : 0);
          if (!ended) expect(tokens).toHaveLength(maxNewTokens);
        }
        if (options.numBeams !== undefined)
          found.forEach(({ score }, j) => expectNear(score!, expected.scores![j]!, 1e-5));
      }
    },
  );

  it('writes for each prompt what transformers writes for it alone, whatever is generated beside it', async () => {
    const calls = alone.flatMap(({ options, prompts }, i) => seeds.map((seed) => ({ options, prompts, i, seed })));
    const tokensOf = async ({ options, prompts, seed }: (typeof calls)[0]): Promise<number[]> => {
      const tokens: number[] = [];
      for await (const token of gpt.generateTokens(prompts[0]!, { ...options, seed, maxNewTokens })) tokens.push(token);
      return tokens;
    };
    const oneByOne: number[][] = [];
    for (const call of calls) oneByOne.push(await tokensOf(call));
    expect(oneByOne).toEqual(calls.map(({ i, seed }, c) => expectedOf(i, seed, oneByOne[c]!.length)));
    // All of them at once: a batch of all options and lengths.
    expect(await Promise.all(calls.map(tokensOf))).toEqual(oneByOne);
    for (const [o, [options]] of drawing.entries())
      for (const seed of seeds) {
        const list = await gpt.generate(uneven.map(textOf), { ...options, seed, maxNewTokens, details: true });
        expect(list.map(({ tokens }) => tokens)).toEqual(oneByOne.filter((_, c) => isOf(calls[c]!, o, seed)));
      }
    function isOf({ i, seed }: (typeof calls)[0], o: number, wanted: number): boolean {
      return Math.floor(i / uneven.length) === o && seed === wanted;
    }
  });

  it('stops at the same texts, alone and in a batch', async () => {
    let stops = 0;
    for (const [i, { options, prompts, seeds }] of stopped.entries())
      for (const [s, seed] of seeds.entries()) {
        const own = { ...options, ...(options.greedy === true ? {} : { seed }), maxNewTokens, stop };
        const rows = reference[name]!.texts[cases.length + i]![s]!.tokens;
        const found = (await gpt.generate(prompts.map(textOf), { ...own, details: true })).flat();
        expect(found.map(({ tokens }) => tokens)).toEqual(rows.map((row, j) => row.slice(0, found[j]!.tokens.length)));
        for (const [j, { tokens, text, finishReason }] of found.entries()) {
          const whole = textOf(tokens);
          const ended = stop.find((one) => whole.endsWith(one)) ?? (tokens.at(-1) === 5 ? characters[5] : undefined);
          expect([text + (ended ?? ''), finishReason]).toEqual([whole, ended === undefined ? 'length' : 'stop']);
          if (ended === undefined) expect(tokens).toHaveLength(maxNewTokens);
          else expect(rows[j]!.slice(tokens.length).every((id) => id === 1)).toBe(true); // what fills up
          if (stop.includes(ended!)) stops++;
        }
        if (prompts.length > 1) continue;
        const yielded: number[] = [];
        for await (const token of gpt.generateTokens(prompts[0]!, own)) yielded.push(token);
        expect(yielded).toEqual(found[0]!.tokens);
      }
    expect(stops).toBeGreaterThan(10);
  });

  it('gives the log-probabilities of transformers: alone, beside other texts, and of several texts', async () => {
    const options = { topK: 1, maxNewTokens: 6, logprobs: 3, details: true } as const;
    const prompt = textOf([1, 9, 14]);
    const alone = await gpt.generate(prompt, options);
    const others = uneven.map((ids, seed) => gpt.generate(textOf(ids), { seed, maxNewTokens: 9 }));
    const beside = await gpt.generate(prompt, options);
    await Promise.all(others);
    const several = await gpt.generate([textOf([30, 1]), prompt], { ...options, numReturnSequences: 2 });
    for (const { logprobs } of [alone, beside, ...several.slice(2)])
      for (const [i, [ids, values]] of reference[name]!.likeliest.entries()) {
        const { token, logprob, top } = logprobs![i]!;
        expect([token, ...top.map((each) => each.token)]).toEqual([ids[0], ...ids]);
        const own = [logprob, ...top.map((each) => each.logprob)];
        expect(largestDifference(own, [values[0]!, ...values])).toBeLessThan(1e-5);
      }
  });

  it('gives the hidden states and attentions of transformers', () => {
    const idx = tensor([[3, 9, 14, 2, 30, 7, 7, 21, 0, 11]], { dtype: 'int64' });
    const { hiddenStates, attentions, logits } = gpt
      .eval()
      .forward(idx, null, { hiddenStates: true, attentions: true });
    const { hiddenStates: states, attentions: weights } = reference[name]!;
    expect(hiddenStates).toHaveLength(states.length);
    expect(attentions).toHaveLength(weights.length);
    hiddenStates!.forEach((own, i) =>
      expect(largestDifference(own.select(0, 0).tolist(), states[i])).toBeLessThan(1e-5),
    );
    attentions!.forEach((own, i) =>
      expect(largestDifference(own.select(0, 0).tolist(), weights[i])).toBeLessThan(1e-5),
    );
    expect(largestDifference(logits.tolist(), gpt.forward(idx).logits.tolist())).toBeLessThan(1e-5);
  });

  it.each(['worker', 'main'] as const)('embeds texts as transformers, on the thread %s', async (thread) => {
    const ids = Array.from({ length: 20 }, (_, i) => (i * i * 7 + 3 * i) % 40);
    const texts = [[4, 5, 6], ids, [9]];
    const { embedded } = reference[name]!;
    const compare = async (field: 'mean' | 'last' | 'first', options: object): Promise<void> => {
      const vectors = await gpt.embed(texts, { thread, batchSize: 2, ...options });
      expect(
        largestDifference(
          vectors.tolist(),
          embedded.map((each) => each[field]),
        ),
      ).toBeLessThan(1e-5);
      vectors.dispose();
    };
    await compare('mean', { normalize: true });
    await compare('last', { pooling: 'last', layer: 1 });
    await compare('first', { pooling: 'first', layer: -3 });
  });

  it('evaluates as a plain loop does', async () => {
    const ids = Array.from({ length: 150 }, (_, i) => (i * i * 7 + 3 * i) % 40);
    const [whole, overlapping, small, sideBySide] = reference[name]!.losses;
    const loss = async (options: object): Promise<number> => (await gpt.evaluate(ids, options)).loss;
    // Sums of float32 in another order.
    const expectEqual = (own: number, python: number): void => expect(Math.abs(own - python)).toBeLessThan(1e-6);
    expectEqual(await loss({}), whole!);
    expectEqual(await loss({ stride: 20 }), overlapping!);
    expectEqual(await loss({ windowSize: 16, stride: 5, thread: 'main' }), small!);
    const result = await gpt.evaluate(ids, { windowSize: 16, batchSize: 3 });
    expectEqual(result.loss, sideBySide!);
    expect(result).toMatchObject({ tokens: 149, perplexity: Math.exp(result.loss) });
  });

  it('reads the generation config that lies with the model, and writes it back', async () => {
    expect(gpt.generationConfig).toEqual({ maxNewTokens: 9, temperature: 0.7, topK: 7, stopTokens: [5] });
    gpt.generationConfig = { greedy: true, maxNewTokens: 4, stopTokens: [5, 6], badWords: [[3]] };
    for (const form of ['huggingface', 'torchbind'] as const) {
      const target = path.join(directory, `${name}-${form}`);
      if (form === 'huggingface' && name === 'llama') await gpt.save(target);
      else await gpt.export(target, { form });
      const again = await GPT.load(target);
      expect(again.generationConfig).toEqual(gpt.generationConfig);
      again.dispose();
    }
  });
});

function nameOf({ options, prompts, python }: Case): string {
  const draws = python.do_sample === true ? {} : { draws: false };
  const shown = { ...options, prompts: prompts.length, ...draws };
  return JSON.stringify(shown, (_key, value: unknown) => (typeof value === 'function' ? 'a function' : value));
}

function textOf(ids: readonly number[]): string {
  return ids.map((id) => characters[id]).join('');
}

/** Equal but for a part of the number. */
function expectNear(actual: number, expected: number, relative: number): void {
  expect(Math.abs(actual - expected)).toBeLessThan(relative * Math.abs(expected));
}

function largestDifference(a: unknown, b: unknown): number {
  const [left, right] = [a, b].map((value) => (value as number[]).flat(Infinity));
  expect(left).toHaveLength(right!.length);
  return Math.max(...left!.map((value, i) => Math.abs(value - right![i]!)));
}
