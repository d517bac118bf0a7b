import type { GPTModel } from '../models/gpt-model';
import { optimizerStateDict } from '../models/optimizers';
import { native } from '../native/native';
import type { AnyOptimizer } from '../optim';
import { noGrad } from '../tensor/autograd';
import { itemSize } from '../tensor/dtype';
import { clone } from '../tensor/generated/functions';
import { dispose, keep, tidy } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';

/** A model's tensors as they are to be written. */
export interface TensorSnapshot {
  weights: Map<string, unknown>;
  optimizerState: Map<string, unknown> | null;
  /** Frees what is not the model's or the optimizer's own. */
  release(): void;
}

/**
 * The state dicts of a model and of its optimizer, in the layout's form. They share memory with both, unless they are
 * copied: then both may change while the copies are written.
 */
export function takeSnapshot(model: GPTModel, optimizer: AnyOptimizer | undefined, copy: boolean): TensorSnapshot {
  const weights = model.stateDict();
  const optimizerState = optimizer === undefined ? null : optimizerStateDict(model, optimizer);
  const trees = optimizerState === null ? [weights] : [weights, optimizerState];
  const state = [...(optimizer?.state.values() ?? [])].flatMap((values) => [...values.values()]);
  const shared = new Set<unknown>(state);
  const own = trees.flatMap(tensorsIn).filter((tensor) => !shared.has(tensor));
  if (!copy) return { weights, optimizerState, release: () => dispose(own) };
  const live = [...model.parameters(), ...model.buffers(), ...state.filter((value) => value instanceof Tensor)];
  const copies = copyTensors(trees, new Set(live.map(storageOf)));
  dispose(own.filter((tensor) => !copies.has(tensor)));
  return { weights, optimizerState, release: () => dispose([...copies]) };
}

/**
 * Puts copies on the CPU in place of all tensors that share memory with what training changes; those that a layout made
 * anew, such as the heads' parts of fused moments, are copies already. Tensors that are the same view of one storage, such as
 * tied weights, become one.
 */
function copyTensors(trees: readonly Map<unknown, unknown>[], live: ReadonlySet<number>): Set<Tensor> {
  const copies = new Map<string, Tensor>();
  const copyOf = (tensor: Tensor): Tensor => {
    const view = storageKey(tensor);
    const copy = copies.get(view) ?? keep(isApart(tensor, live) ? tensor : cloneToCpu(tensor));
    copies.set(view, copy);
    return copy;
  };
  noGrad(() => tidy(() => trees.forEach((tree) => replaceTensors(tree, copyOf))));
  return new Set(copies.values());
}

function isApart(tensor: Tensor, live: ReadonlySet<number>): boolean {
  const { id, nbytes } = native().storageInfo(tensor.handle);
  return tensor.device === 'cpu' && !live.has(id) && nbytes === tensor.numel() * itemSize(tensor.dtype);
}

function cloneToCpu(tensor: Tensor): Tensor {
  return tensor.device === 'cpu' ? clone(tensor) : tensor.to('cpu');
}

function storageOf(tensor: Tensor): number {
  return native().storageInfo(tensor.handle).id;
}

/** The same for tensors that are the same view of one storage, such as tied weights. */
export function storageKey(tensor: Tensor): string {
  const { id } = native().storageInfo(tensor.handle);
  return [id, tensor.dtype, tensor.storageOffset(), tensor.shape, tensor.strides()].join(' ');
}

function tensorsIn(map: Map<unknown, unknown>): Tensor[] {
  return [...map.values()].flatMap((value) => {
    if (value instanceof Map) return tensorsIn(value);
    return value instanceof Tensor ? [value] : [];
  });
}

function replaceTensors(map: Map<unknown, unknown>, change: (tensor: Tensor) => Tensor): void {
  for (const [key, value] of map) {
    if (value instanceof Tensor) map.set(key, change(value));
    else if (value instanceof Map) replaceTensors(value, change);
  }
}
