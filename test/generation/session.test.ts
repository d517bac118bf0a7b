import { beforeAll, describe, expect, it } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { GPTModel } from '../../lib/models/gpt-model';
import { noGrad } from '../../lib/tensor/autograd';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { CharTokenizer } from '../../lib/tokenizers';
import { memoryInUse } from '../helpers/garbage';

const chars = [...'abcdefghijklmnopqrstuvwxyz ,.\n'];
const turns = ['once upon', ' a time, ', 'there was', '.'];

let gpt: GPT;

beforeAll(() => {
  setNumThreads(1); // A model this small gains nothing from more.
  gpt = make();
});

function make(): GPT {
  manualSeed(1);
  const config = { vocabSize: chars.length, blockSize: 64, nLayer: 2, nHead: 2, nEmbd: 32, dropout: 0 };
  return new GPT(config, { tokenizer: new CharTokenizer(chars) });
}

describe.each(['worker', 'main'] as const)('a session on the thread %s', (thread) => {
  const options = { greedy: true, maxNewTokens: 6, thread } as const;

  it('writes in each turn what a call with the whole text writes', async () => {
    using session = gpt.session(options);
    let text = '';
    for (const turn of turns) {
      const expected = await gpt.generate(text + turn, options);
      const written = await session.generate(turn);
      text += turn + written;
      expect(text).toBe(expected);
      expect(session.text).toBe(text);
      expect(session.tokens).toEqual([...gpt.tokenizer!.encode(text)]);
    }
  });

  it('goes its own way after a fork, and draws as a call does', async () => {
    using session = gpt.session({ ...options, greedy: false });
    await session.generate('the', { seed: 3 });
    using fork = session.fork();
    const before = session.text;
    const [a, b] = [await session.generate(' cat', { seed: 4 }), await fork.generate(' dog', { seed: 4 })];
    expect([before + ' cat' + a, before + ' dog' + b]).toEqual([session.text, fork.text]);
    expect(session.text).toBe(await gpt.generate(`${before} cat`, { ...options, greedy: false, seed: 4 }));
    expect(fork.text).toBe(await gpt.generate(`${before} dog`, { ...options, greedy: false, seed: 4 }));
  });

  it('uses the weights as they are: after a change the text is computed anew', async () => {
    const gpt = make();
    using session = gpt.session(options);
    await session.generate('the');
    noGrad(() => gpt.lmHead.weight.mul_(-1));
    const text = `${session.text} cat`;
    expect(text + (await session.generate(' cat'))).toBe(await gpt.generate(text, options));
    const longer = `${session.text} sat`;
    await gpt.fit({
      text: 'the cat sat on the mat. '.repeat(20),
      maxSteps: 3,
      batchSize: 2,
      learningRate: 0.1,
      thread,
    });
    expect(longer + (await session.generate(' sat'))).toBe(await gpt.generate(longer, options));
    gpt.dispose();
  });

  it('beyond the context writes as a call does', async () => {
    using session = gpt.session({ ...options, maxNewTokens: 30 });
    await session.generate('a'.repeat(30));
    for (const turn of ['b', 'c'.repeat(10)]) {
      const text = session.text + turn;
      expect(text + (await session.generate(turn))).toBe(await gpt.generate(text, { ...options, maxNewTokens: 30 }));
    }
  });

  it('leaves a stop text out, and continues before it', async () => {
    const whole = await gpt.generate('a', { ...options, maxNewTokens: 12 });
    const stop = whole.slice(5, 7);
    const end = whole.indexOf(stop, 1);
    using session = gpt.session({ ...options, maxNewTokens: 12 });
    expect(await session.generate('a', { stop })).toBe(whole.slice(1, end));
    expect(session.text).toBe(whole.slice(0, end));
    const text = `${session.text}, `;
    expect(text + (await session.generate(', '))).toBe(await gpt.generate(text, { ...options, maxNewTokens: 12 }));
  });

  it('keeps what was written where a reader leaves, or a signal aborts', async () => {
    using session = gpt.session(options);
    let read = '';
    for await (const piece of session.stream('the')) {
      read += piece;
      if (read.length >= 3) break;
    }
    expect(session.text.startsWith(`the${read}`)).toBe(true);
    const aborted = await session.generate('.', { signal: AbortSignal.abort(), details: true });
    expect(aborted).toMatchObject({ finishReason: 'aborted', text: '' });
    const text = `${session.text} x`;
    expect(text + (await session.generate(' x'))).toBe(await gpt.generate(text, options));
  });

  it('gives token ids', async () => {
    using session = gpt.session(options);
    const first: number[] = [];
    for await (const token of session.generateTokens([1, 2, 3])) first.push(token);
    expect(session.tokens).toEqual([1, 2, 3, ...first]);
    const prompt = [...session.tokens, 4];
    const [second, expected]: number[][] = [[], []];
    for await (const token of session.generateTokens([4])) second!.push(token);
    for await (const token of gpt.generateTokens(prompt, options)) expected!.push(token);
    expect(second).toEqual(expected);
  });
});

it('computes new tokens only', async () => {
  const gpt = make();
  const counter = { count: 0 };
  // It stays on the thread that calls then.
  gpt.forwardCached = (idx, cache) => {
    counter.count += idx.size(1);
    return GPTModel.prototype.forwardCached.call(gpt, idx, cache);
  };
  using session = gpt.session({ greedy: true, maxNewTokens: 5 });
  await session.generate('the cat sat');
  expect(counter.count).toBe(11 + 4);
  await session.generate(' on');
  // The last token of the turn before, three of this prompt, and all that is written but the last.
  expect(counter.count).toBe(15 + 1 + 3 + 4);
  using fork = session.fork();
  await fork.generate('x');
  expect(counter.count).toBe(23 + 1 + 1 + 4);
  gpt.dispose();
});

it('frees its cache when it is disposed of, or forgotten', async () => {
  const before = await memoryInUse();
  const options = { maxNewTokens: 5, thread: 'main' } as const;
  const session = gpt.session(options);
  await session.generate('the cat');
  const one = await memoryInUse();
  expect(one.numTensors).toBeGreaterThan(before.numTensors);
  const fork = session.fork();
  expect((await memoryInUse()).numTensors - one.numTensors).toBe(one.numTensors - before.numTensors);
  session.dispose();
  expect(await memoryInUse()).toEqual(one);
  fork.dispose();
  expect(await memoryInUse()).toEqual(before);
  await gpt.session(options).generate('the cat');
  expect(await memoryInUse()).toEqual(before);
});

it('writes one turn at a time, and none after its end', async () => {
  const session = gpt.session({ maxNewTokens: 5 });
  const stream = session.stream('a');
  await stream.next();
  await expect(session.generate('b')).rejects.toMatchObject({ code: 'ERR_TORCHBIND_BUSY' });
  expect(() => session.fork()).toThrow(/during a turn/);
  await stream.return(undefined as never);
  const late = session.stream('c');
  await session.generate('b');
  await expect(late.next()).rejects.toMatchObject({ code: 'ERR_TORCHBIND_BUSY' });
  session.dispose();
  session.dispose();
  await expect(session.generate('b')).rejects.toMatchObject({ code: 'ERR_TORCHBIND_DISPOSED' });
  expect(() => session.fork()).toThrow(/disposed/);
  expect(() => gpt.session({ maxTokens: 3 } as never)).toThrow(/maxTokens/);
});
