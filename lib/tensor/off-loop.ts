import { native } from '../native/native';
import { Tensor, unwrap } from './core';
import { type DType, dtypeCode } from './dtype';

/** Copies and comparisons of dense tensors off the event loop. What the tensors hold at the call counts. */

/** Tensors, and those that they are copied into or compared with. */
export type TensorPair = readonly [Tensor, Tensor];

/** A tensor that nobody frees but its maker, by `dispose()`: neither a scope nor the garbage collector. */
export function wrapUnowned(handle: number): Tensor {
  return new Tensor(handle);
}

/**
 * Contiguous copies on the CPU, of another dtype where one is given.
 *
 * @returns tensors that the caller must dispose
 */
export async function packTensors(tensors: readonly Tensor[], dtype?: DType): Promise<Tensor[]> {
  const code = dtype === undefined ? null : dtypeCode[dtype];
  return (await native().packTensors(handles(tensors), code)).map(wrapUnowned);
}

/** Copies the second of each pair into the first, whose memory nobody else may use meanwhile. */
export async function copyTensors(pairs: readonly TensorPair[]): Promise<void> {
  if (pairs.length > 0) await native().copyTensors(...separate(pairs));
}

/** Whether the tensors of each pair have one dtype and shape, and equal numbers or equal bits. */
export async function equalTensors(pairs: readonly TensorPair[]): Promise<boolean[]> {
  return pairs.length === 0 ? [] : native().equalTensors(...separate(pairs));
}

/**
 * Whether a tensor is dense and has bytes in memory, as the functions of this file need it.
 */
export function isDense(tensor: Tensor): boolean {
  return tensor.layout === 'strided' && !tensor.isQuantized && !tensor.device.startsWith('meta');
}

/** Runs code that makes many tensors of which none is garbage: no garbage collection is forced meanwhile. */
export function withoutCollections<T>(make: () => T): T {
  native().deferCollections(true);
  try {
    return make();
  } finally {
    native().deferCollections(false);
  }
}

function separate(pairs: readonly TensorPair[]): [number[], number[]] {
  return [handles(pairs.map(([first]) => first)), handles(pairs.map(([, second]) => second))];
}

function handles(tensors: readonly Tensor[]): number[] {
  return tensors.map((tensor) => unwrap(tensor, 'tensor'));
}
