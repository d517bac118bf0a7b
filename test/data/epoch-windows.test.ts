import { describe, expect, it } from 'vitest';
import { EpochWindows } from '../../lib/data';
import { randperm } from '../../lib/tensor/creation';
import { Generator } from '../../lib/tensor/random';
import { tidy } from '../../lib/tensor/scope';

const tokens = Int32Array.from({ length: 101 }, (_, i) => i);
const options = { batchSize: 3, blockSize: 10, seed: 4 };

/** First tokens of the windows of the next batches. */
function starts(windows: EpochWindows, batches: number): number[][] {
  return Array.from({ length: batches }, () =>
    tidy(() => {
      const { x, y } = windows.next();
      expect(y.equal(x.add(1))).toBe(true);
      return (x.tolist() as number[][]).map((row) => row[0]!);
    }),
  );
}

describe('EpochWindows', () => {
  it('gives every window once an epoch, in the order of torch.randperm from seed + epoch', () => {
    const windows = new EpochWindows(tokens, options);
    expect(windows.batchesPerEpoch).toBe(3);
    for (const epoch of [0, 1]) {
      const order = tidy(() => randperm(10, { generator: new Generator().manualSeed(4 + epoch) }).tolist()) as number[];
      expect(starts(windows, 3).flat()).toEqual(order.slice(0, 9).map((window) => 10 * window));
    }
  });

  it('goes in the order of the text where it is not to shuffle', () => {
    const windows = new EpochWindows(tokens, { ...options, shuffle: false });
    expect(starts(windows, 4)).toEqual([
      [0, 10, 20],
      [30, 40, 50],
      [60, 70, 80],
      [0, 10, 20],
    ]);
  });

  it('continues where its position was taken, in the middle of an epoch too', () => {
    const windows = new EpochWindows(tokens, options);
    starts(windows, 4);
    const position = windows.getState();
    expect(position).toEqual({ epoch: 1, batch: 1 });
    const other = new EpochWindows(tokens, options);
    other.setState(position);
    expect(starts(other, 5)).toEqual(starts(windows, 5));
  });

  it('refuses what is no position, and text that fills no batch', () => {
    const windows = new EpochWindows(tokens, options);
    expect(() => windows.setState({ epoch: 0, batch: 3 })).toThrow('a batch below 3');
    expect(() => windows.setState({ epoch: -1, batch: 0 })).toThrow('got epoch number -1');
    expect(() => new EpochWindows(tokens, { ...options, batchSize: 11 })).toThrow('does not fit into 101 tokens');
    expect(() => new EpochWindows(tokens.subarray(0, 10), options)).toThrow('at least 11 tokens');
  });
});
