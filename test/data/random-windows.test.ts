import { describe, expect, it } from 'vitest';
import { RandomWindows, TokenStream } from '../../lib/data';
import { manualSeed, Generator } from '../../lib/tensor/random';
import { CharTokenizer } from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';

const tokens = Int32Array.from({ length: 1000 }, (_, i) => (i * i) % 97);
const options = { batchSize: 4, blockSize: 8 };

const script = `
import json, torch
data = torch.tensor([i * i % 97 for i in range(1000)])
def batch(generator=None):
    starts = torch.randint(len(data) - 8, (4,), generator=generator)
    x = torch.stack([data[i:i + 8] for i in starts])
    y = torch.stack([data[i + 1:i + 9] for i in starts])
    return [x.tolist(), y.tolist()]
own = torch.Generator().manual_seed(42)
a = [batch(own) for _ in range(5)]
torch.manual_seed(7)
b = [batch() for _ in range(5)]
print(json.dumps([a, b]))
`;

function draw(windows: RandomWindows, count: number): unknown[] {
  return Array.from({ length: count }, () => {
    const { x, y } = windows.next();
    return [x.tolist(), y.tolist()];
  });
}

describe('RandomWindows', () => {
  it('draws the batches that Python draws from the same seed', { timeout: pythonTimeout }, async () => {
    const [own, global] = JSON.parse(await pythonCode(script)) as unknown[][];
    expect(draw(new RandomWindows(tokens, { ...options, generator: new Generator().manualSeed(42) }), 5)).toEqual(own);
    manualSeed(7);
    expect(draw(new RandomWindows(tokens, options), 5)).toEqual(global);
  });

  it('makes (B, T) int64 tensors', () => {
    const { x, y } = new RandomWindows(tokens, options).next();
    expect([x.shape, x.dtype, y.shape, y.dtype]).toEqual([[4, 8], 'int64', [4, 8], 'int64']);
  });

  it('continues where its state was taken', () => {
    const windows = new RandomWindows(tokens, { ...options, generator: new Generator().manualSeed(1) });
    draw(windows, 3);
    const state = windows.getState();
    const expected = draw(windows, 3);
    const other = new RandomWindows(tokens, { ...options, generator: new Generator() });
    other.setState(state);
    expect(draw(other, 3)).toEqual(expected);
  });

  it('reads 16-bit tokens', () => {
    const generator = () => new Generator().manualSeed(3);
    const narrow = new RandomWindows(Uint16Array.from(tokens), { ...options, generator: generator() });
    expect(draw(narrow, 2)).toEqual(draw(new RandomWindows(tokens, { ...options, generator: generator() }), 2));
  });

  it('uses the one window of a text that just suffices, and refuses a shorter one', () => {
    const windows = new RandomWindows(tokens.subarray(0, 9), options);
    expect(windows.next().x.tolist()).toEqual(Array.from({ length: 4 }, () => [...tokens.subarray(0, 8)]));
    expect(() => new RandomWindows(tokens.subarray(0, 8), options)).toThrow(/at least 9 tokens, but there are 8/);
  });

  it('refuses sizes that are none', () => {
    expect(() => new RandomWindows(tokens, { ...options, batchSize: 0 })).toThrow(
      /batchSize must be a positive integer/,
    );
    expect(() => new RandomWindows(tokens, { ...options, blocksize: 8 } as never)).toThrow(/Did you mean 'blockSize'/);
  });
});

describe('TokenStream', () => {
  it('keeps the last tenth for validation, rounded as int(0.9 * n) in Python', () => {
    for (const n of [1, 9, 10, 11, 19, 99, 100, 12345]) {
      const stream = new TokenStream(new Int32Array(n));
      expect([stream.train.length, stream.validation.length]).toEqual([Math.trunc(0.9 * n), n - Math.trunc(0.9 * n)]);
    }
  });

  it('encodes a text', () => {
    const stream = TokenStream.fromText('abcab', new CharTokenizer(['a', 'b', 'c']), { validationFraction: 0.4 });
    expect([[...stream.train], [...stream.validation]]).toEqual([
      [0, 1, 2],
      [0, 1],
    ]);
  });

  it('refuses a fraction that leaves nothing to train on', () => {
    expect(() => new TokenStream(tokens, { validationFraction: 1 })).toThrow(/below 1/);
  });
});
