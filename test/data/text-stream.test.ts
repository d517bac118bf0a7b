/** Text that is read while training: bounded in memory, in a shuffled order, and gone on with exactly. */
import { createReadStream, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { CheckpointManager, GPT } from '../../lib/gpt';
import { StreamWindows, TextStream, type TextSource, type TextStreamOptions, TokenStream } from '../../lib/data';
import type { FitOptions } from '../../lib';
import { setNumThreads } from '../../lib/tensor/device';
import { manualSeed } from '../../lib/tensor/random';
import { dispose, tidy } from '../../lib/tensor/scope';
import { CharTokenizer } from '../../lib/tokenizers';
import { temporaryDirectory } from '../helpers/tmp';

const letters = 'abcdefghijklmnopqrstuvwxyz';
const tokenizer = new CharTokenizer([...`${letters}\n`]);
/** Texts of one to twelve letters; some empty. */
const texts = Array.from({ length: 60 }, (_, i) => letters.slice(i % 7, (i % 7) + ((i * 5) % 13)));
const separator = '\n';

beforeAll(() => setNumThreads(1));

/** A function that counts how often it was asked, and for what. */
function reopenable(asked: number[] = []): TextSource {
  return async function* (position: number) {
    asked.push(position);
    for (const text of texts.slice(position)) yield await Promise.resolve(text);
  };
}

function windowsOf(source: TextSource, options: TextStreamOptions = {}, seed = 3): StreamWindows {
  return new StreamWindows(new TextStream(source, { separator, ...options }), tokenizer, { blockSize: 8, seed });
}

/** The next windows as texts. */
async function take(windows: StreamWindows, count: number): Promise<string[]> {
  expect(await windows.fill(count)).toBe(true);
  return windows.take(count).map((ids) => tokenizer.decode(ids));
}

const whole = `${texts.join(separator)}${separator}`;
const windowCount = Math.floor((whole.length - 1) / 8);
const inOrder = Array.from({ length: windowCount }, (_, i) => whole.slice(8 * i, 8 * i + 9));

describe('windows of a stream', () => {
  it('are those of the texts joined by the separator, each beginning with the last token of the one before', async () => {
    expect(await take(windowsOf(texts), windowCount)).toEqual(inOrder);
    expect(await take(windowsOf(reopenable()), windowCount)).toEqual(inOrder);
    const joined = TokenStream.fromDocuments(texts, tokenizer, { separator, validationFraction: 0 });
    expect(tokenizer.decode(joined.train as Int32Array)).toBe(whole);
  });

  it('come in an order of the seed within a buffer, each once, and in another order the next time', async () => {
    const shuffled = await take(windowsOf(reopenable(), { shuffleBuffer: 10 }), windowCount);
    expect(shuffled).not.toEqual(inOrder);
    for (let i = 0; i < windowCount; i += 10) {
      expect([...shuffled.slice(i, i + 10)].sort()).toEqual([...inOrder.slice(i, i + 10)].sort());
    }
    expect(await take(windowsOf(reopenable(), { shuffleBuffer: 10 }), windowCount)).toEqual(shuffled);
    expect(await take(windowsOf(reopenable(), { shuffleBuffer: 10 }, 4), windowCount)).not.toEqual(shuffled);
    const two = windowsOf(reopenable(), { shuffleBuffer: 1000 });
    const [first, second] = [await take(two, windowCount), await take(two, windowCount)];
    expect(second).not.toEqual(first);
    expect([...second].sort()).toEqual([...first].sort());
  });

  it.each([0, 1, 7, 1000])('go on at every position, with a buffer of %i', async (shuffleBuffer) => {
    const count = 2 * windowCount + 5;
    const straight = windowsOf(reopenable(), { shuffleBuffer });
    const expected: string[] = [];
    const positions = [straight.getState()];
    for (let i = 0; i < count; i++) {
      expected.push(...(await take(straight, 1)));
      positions.push(straight.getState());
    }
    for (const [i, position] of positions.slice(0, -1).entries()) {
      const asked: number[] = [];
      const resumed = windowsOf(reopenable(asked), { shuffleBuffer });
      resumed.setState(JSON.parse(JSON.stringify(position)) as typeof position);
      const some = Math.min(4, count - i);
      expect(await take(resumed, some), `from window ${i}`).toEqual(expected.slice(i, i + some));
      // Opened where the position says, and not at the beginning.
      expect(asked[0]).toBe(position.piece);
    }
  });

  it('hold no more than the buffer and one text', async () => {
    let read = 0;
    const endless = async function* (): AsyncGenerator<string> {
      for (;;) yield await Promise.resolve(letters.slice(0, 16)).finally(() => read++);
    };
    const windows = windowsOf(endless(), { shuffleBuffer: 20 });
    for (let taken = 0; taken < 200; taken += 4) {
      await take(windows, 4);
      // A window takes 8 of the 17 tokens of a text.
      expect(read * 17 - taken * 8).toBeLessThan((20 + 4 + 4) * 8 + 2 * 17);
    }
  });

  it('are read from a file as it comes, characters cut in two among its chunks', async () => {
    const file = path.join(temporaryDirectory(), 'text.txt');
    const words = 'été naïve Ünder '.repeat(100);
    writeFileSync(file, words);
    const chars = CharTokenizer.fromText(words);
    const of = (source: TextSource): StreamWindows =>
      new StreamWindows(new TextStream(source), chars, { blockSize: 16, seed: 0 });
    const expected = Array.from({ length: 99 }, (_, i) => words.slice(16 * i, 16 * i + 17));
    for (const source of [
      createReadStream(file, { highWaterMark: 7 }),
      createReadStream(file, 'utf8'),
      Readable.from([words]),
    ]) {
      const windows = of(source);
      expect(await windows.fill(99)).toBe(true);
      expect(windows.take(99).map((ids) => chars.decode(ids))).toEqual(expected);
      expect(await windows.fill(1)).toBe(false);
      windows.close();
    }
    const bytes = of(() => createReadStream(file));
    await expect(bytes.fill(1)).rejects.toThrow(/must return strings/);
  });

  it('close the source that they leave early', async () => {
    let closed = false;
    async function* source(): AsyncGenerator<string> {
      try {
        for (;;) yield await Promise.resolve('abc');
      } finally {
        closed = true;
      }
    }
    const windows = windowsOf(source());
    await take(windows, 1);
    windows.close();
    await new Promise(setImmediate);
    expect(closed).toBe(true);
  });

  it('are refused of a stream that holds none, and of what is no stream', async () => {
    await expect(windowsOf(() => ['abc']).fill(1)).rejects.toThrow(/the stream holds no window.*9 tokens/);
    await expect(windowsOf(['abc']).fill(1)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_DATA' });
    await expect(windowsOf([5] as never).fill(1)).rejects.toThrow(/expected texts, got number 5/);
    await expect(windowsOf((() => 5) as never).fill(1)).rejects.toThrow(/the source must give texts/);
    expect(() => new TextStream(5 as never)).toThrow(/the source must be texts/);
    expect(() => new TextStream([], { shuffleBuffer: -1 })).toThrow(/shuffleBuffer must be/);
    const broken = windowsOf(async function* () {
      yield await Promise.reject<string>(new Error('the line is dead'));
    });
    await expect(broken.fill(1)).rejects.toThrow('the line is dead');
  });
});

describe('training on a stream', () => {
  const options: FitOptions = { batchSize: 3, gradAccumulation: 2, seed: 7, evalInterval: 2, evalSteps: 1 };
  const held = { separator, validation: tokenizer.encode(whole.slice(0, 60)) };

  function makeGpt(): GPT {
    manualSeed(1);
    const config = { vocabSize: 27, blockSize: 8, nLayer: 1, nHead: 2, nEmbd: 8, dropout: 0.2, device: 'cpu' };
    return disposeAfterwards(new GPT(config, { tokenizer }));
  }

  function disposeAfterwards(model: GPT): GPT {
    onTestFinished(() => {
      dispose(model.optimizer?.state);
      model.dispose();
    });
    return model;
  }

  const weights = (model: GPT): unknown =>
    tidy(() => [...model.stateDict()].map(([key, value]) => [key, value.tolist()]));

  it.each([0, 5, 1000])('continues as if it had not stopped, bit for bit: buffer of %i', async (shuffleBuffer) => {
    const data = (): TextStream => new TextStream(reopenable(), { ...held, shuffleBuffer });
    const straight = makeGpt();
    const expected = await straight.fit({ ...options, data: data(), maxSteps: 21 });
    const root = temporaryDirectory();
    const checkpointDir = path.join(root, 'run');
    let model = makeGpt();
    const losses: number[] = [];
    const missing: string[] = [];
    for (const maxSteps of [4, 1, 16]) {
      for await (const event of model.fitEvents({
        ...options,
        data: data(),
        maxSteps,
        checkpointDir,
        metrics: false,
      })) {
        if (event.type === 'step') losses.push(event.loss);
        if (event.type === 'resume') missing.push(...event.missing);
      }
      manualSeed(99);
      model = disposeAfterwards((await new CheckpointManager('run', { root }).initializeForTraining()).model);
    }
    expect([losses, missing, model.step]).toEqual([expected.losses, [], 21]);
    expect(weights(model)).toEqual(weights(straight));
  });

  it('ends with a stream that can be read once, and says what a resumed run cannot have', async () => {
    const model = makeGpt();
    const first = await model.fit({ ...options, data: new TextStream(texts, held), maxSteps: 1000 });
    expect([first.stopped, first.step]).toEqual(['data', Math.floor(windowCount / 6)]);
    expect(first.valLoss).toBeGreaterThan(0);
    const events: unknown[] = [];
    for await (const event of model.fitEvents({ ...options, data: new TextStream(texts, held), maxSteps: 2 })) {
      if (event.type !== 'eval') events.push(event.type === 'resume' ? event.missing : event.type);
    }
    expect(events).toEqual([[expect.stringContaining('position in the data')], 'step', 'step']);
  });

  it('gives the losses of the updates since as training loss, and none before the first', async () => {
    const evaluations: [number, number][] = [];
    const { losses } = await makeGpt().fit({
      ...options,
      data: new TextStream(reopenable(), held),
      maxSteps: 4,
      onEval: ({ step, trainLoss }) => evaluations.push([step, trainLoss]),
    });
    const mean = (a: number, b: number): number => (losses[a]! + losses[b]!) / 2;
    expect(evaluations).toEqual([
      [2, mean(0, 1)],
      [4, mean(2, 3)],
    ]);
  });
});
