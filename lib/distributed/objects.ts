import { checkArgument, checkOptions, takes } from '../errors';
import { pythonGlobals } from '../pickle/globals';
import { readPickle } from '../pickle/reader';
import { writePickle } from '../pickle/writer';
import { GlobalError } from '../pickle/globals';
import { fromTypedArray, zeros } from '../tensor/creation';
import type { Tensor } from '../tensor/core';
import { tidy } from '../tensor/scope';
import {
  allGather,
  broadcast,
  gather,
  type DestinationOption,
  type GroupOption,
  type SourceOption,
} from './collectives';
import { memberGroup, type ProcessGroup } from './group';

/**
 * Plain values travel as Python's pickles in tensors of bytes, sizes first, as Python's functions of these names do it. They are
 * read as data only: a class that is not known is refused, and no code is run.
 */

function toBytes(value: unknown): Uint8Array {
  return writePickle(value);
}

function fromBytes(bytes: Uint8Array): unknown {
  const persistentLoad = (): never => {
    throw new GlobalError('a tensor cannot be part of an object: send it by a collective of its own');
  };
  return readPickle(bytes, { globals: pythonGlobals, persistentLoad, record: 'object of another rank' }).value;
}

function tensorOf(bytes: Uint8Array, length = bytes.length): Tensor {
  const padded = new Uint8Array(length);
  padded.set(bytes);
  return fromTypedArray(padded);
}

function sizeOf(bytes: Uint8Array): Tensor {
  return fromTypedArray(BigInt64Array.of(BigInt(bytes.length)));
}

function bytesOf(tensor: Tensor): Uint8Array {
  return tensor.toTypedArray() as Uint8Array;
}

function numbersOf(tensor: Tensor): number[] {
  return Array.from(tensor.toTypedArray() as BigInt64Array, Number);
}

async function sizes(own: Uint8Array, group: ProcessGroup): Promise<number[]> {
  return (await allGather(sizeOf(own), { group })).flatMap(numbersOf);
}

/**
 * The values of all ranks, by rank (PyTorch's `torch.distributed.all_gather_object`). A value is anything that `save` can write
 * but tensors: numbers, strings, arrays, plain objects and Maps, which arrive as Maps.
 */
export const allGatherObject = takes(2, function allGatherObject(value: unknown, given: GroupOption = {}): Promise<
  unknown[]
> {
  return tidy(async () => {
    checkOptions(given, ['group'], 'allGatherObject');
    const group = memberGroup(given.group, 'allGatherObject');
    const own = toBytes(value);
    const lengths = await sizes(own, group);
    const parts = await allGather(tensorOf(own, Math.max(...lengths)), { group });
    return parts.map((part, i) => fromBytes(bytesOf(part).subarray(0, lengths[i])));
  });
});

/** The values of all ranks, by rank, at `dst`; null at the others (PyTorch's `torch.distributed.gather_object`). */
export const gatherObject = takes(2, function gatherObject(value: unknown, given: DestinationOption = {}): Promise<
  unknown[] | null
> {
  return tidy(async () => {
    checkOptions(given, ['group', 'dst'], 'gatherObject');
    const group = memberGroup(given.group, 'gatherObject');
    const own = toBytes(value);
    const lengths = await sizes(own, group);
    const parts = await gather(tensorOf(own, Math.max(...lengths)), { ...given, group });
    return parts === null ? null : parts.map((part, i) => fromBytes(bytesOf(part).subarray(0, lengths[i])));
  });
});

/**
 * Gives every rank the values of `src` (PyTorch's `torch.distributed.broadcast_object_list`).
 *
 * @param values those of `src`; of the other ranks only their number counts, which must be the same
 */
export const broadcastObjectList = takes(
  2,
  function broadcastObjectList(values: readonly unknown[], given: SourceOption = {}): Promise<unknown[]> {
    return tidy(async () => {
      checkArgument(Array.isArray(values), 'an array', values, 'broadcastObjectList');
      checkOptions(given, ['group', 'src'], 'broadcastObjectList');
      const group = memberGroup(given.group, 'broadcastObjectList');
      const isSource = group.rank === (given.src === undefined ? 0 : group.ranks.indexOf(given.src));
      if (values.length === 0) return [];
      const own = isSource ? values.map(toBytes) : [];
      const lengths = isSource
        ? fromTypedArray(BigInt64Array.from(own, ({ length }) => BigInt(length)))
        : zeros([values.length], { dtype: 'int64' });
      await broadcast(lengths, { ...given, group });
      const counts = numbersOf(lengths);
      const total = counts.reduce((sum, count) => sum + count, 0);
      const joined = isSource ? tensorOf(Buffer.concat(own)) : zeros([total], { dtype: 'uint8' });
      await broadcast(joined, { ...given, group });
      const bytes = bytesOf(joined);
      let at = 0;
      return counts.map((count) => fromBytes(bytes.subarray(at, (at += count))));
    });
  },
);

/** Gives every rank one value of `src` (PyTorch's `broadcast_object_list` of one). */
export const broadcastObject = takes(
  2,
  async function broadcastObject(value: unknown, given: SourceOption = {}): Promise<unknown> {
    return (await broadcastObjectList([value], given))[0];
  },
);
