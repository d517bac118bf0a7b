/** Copies and comparisons of tensors off the event loop: what counts is what the tensors hold at the call. */
import { describe, expect, it } from 'vitest';
import { TorchBindError } from '../../lib/errors';
import { native } from '../../lib/native/native';
import { inferenceMode } from '../../lib/tensor/autograd';
import { arange, full, tensor, zeros } from '../../lib/tensor/creation';
import { copyTensors, equalTensors, packTensors } from '../../lib/tensor/off-loop';
import { dispose, memory, tidy } from '../../lib/tensor/scope';

/** Runs an async check after which no tensor is left. */
async function leavesNothing(check: () => Promise<void>): Promise<void> {
  const before = memory();
  await tidy(check);
  expect(memory()).toEqual(before);
}

describe('packTensors', () => {
  it('gives contiguous copies of what was there, whatever is written or disposed meanwhile', () =>
    leavesNothing(async () => {
      const matrix = arange(0, 6).view([2, 3]);
      const packing = packTensors([matrix.t(), matrix.narrow(1, 1, 2)]);
      matrix.fill_(7);
      matrix.dispose();
      const packed = await packing;
      expect(packed.map((copy) => copy.tolist())).toEqual([
        [
          [0, 3],
          [1, 4],
          [2, 5],
        ],
        [
          [1, 2],
          [4, 5],
        ],
      ]);
      expect(packed.every((copy) => copy.isContiguous())).toBe(true);
      dispose(packed);
    }));

  it('converts, and reads memory that a typed array has too', () =>
    leavesNothing(async () => {
      const shared = full([3], 0.5);
      shared.toTypedArray({ copy: false });
      const [half] = await packTensors([shared], 'bfloat16');
      expect([half!.dtype, half!.tolist()]).toEqual(['bfloat16', [0.5, 0.5, 0.5]]);
      half!.dispose();
    }));

  it('refuses what has no bytes', async () => {
    await tidy(async () => {
      const sparse = tensor([[0, 1]]).toSparse();
      await expect(packTensors([sparse])).rejects.toBeInstanceOf(TorchBindError);
      expect(() => native().packTensors([sparse.handle], 12345)).toThrow(TorchBindError);
      expect(() => native().packTensors([0.5], null)).toThrow(TorchBindError);
    });
  });
});

describe('copyTensors', () => {
  it('copies with the conversion of copy_, from what was there at the call', () =>
    leavesNothing(async () => {
      const [target, source] = [zeros([2, 2]), tensor([1, 2, 3, 4], { dtype: 'int64' })];
      const copying = copyTensors([[target.t(), source.view([2, 2])]]);
      source.zero_();
      await copying;
      expect(target.tolist()).toEqual([
        [1, 3],
        [2, 4],
      ]);
    }));

  it('rejects where shapes differ, and refuses lists that do', () =>
    leavesNothing(async () => {
      const [one, two] = [zeros([1, 2]), zeros([3])];
      await expect(copyTensors([[one, two]])).rejects.toBeInstanceOf(TorchBindError);
      expect(() => native().copyTensors([one.handle], [])).toThrow(/1 and 0 tensors/);
      const frozen = inferenceMode(() => zeros([1]));
      expect(() => native().copyTensors([frozen.handle], [one.handle])).toThrow(TorchBindError);
    }));
});

describe('equalTensors', () => {
  it('takes equal numbers and equal bits for equal', () =>
    leavesNothing(async () => {
      const pairs = [
        [tensor([0, NaN]), tensor([0, NaN])],
        [tensor([0, 1]), tensor([-0, 1])],
        [tensor([0, NaN]), tensor([1, NaN])],
        [tensor([1]), tensor([[1]])],
        [tensor([1], { dtype: 'float32' }), tensor([1], { dtype: 'int64' })],
      ] as const;
      expect(await equalTensors(pairs)).toEqual([true, true, false, false, false]);
    }));
});

describe('lazyCopies', () => {
  it('keeps what was there, and gives 0 where memory must not move', () =>
    leavesNothing(() => {
      const [free, held] = [full([4], 0.5), full([4], 0.5)];
      held.toTypedArray({ copy: false });
      const [copy, none] = native().lazyCopies([free.handle, held.handle]);
      free.fill_(9);
      expect([none, [...new Float32Array(native().toArrayBuffer(copy!))]]).toEqual([0, [0.5, 0.5, 0.5, 0.5]]);
      expect(native().isSoleOwner(free.handle)).toBe(true);
      const view = free.view([2, 2]);
      expect([free, view, held].map(({ handle }) => native().isSoleOwner(handle))).toEqual([false, false, false]);
      native().dispose(copy!);
      return Promise.resolve();
    }));
});
