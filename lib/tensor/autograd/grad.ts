import { checkOptions, TorchBindError } from '../../errors';
import { native } from '../../native/native';
import { unwrap, wrapAll } from '../core';
import type { BackwardOptions, Tensor } from '../core';

/** Options of `grad()`. */
export interface GradOptions {
  /** One for each output: the derivative of the end result for it. May be left out for single values. */
  gradOutputs?: readonly (Tensor | null)[];
  /** Keep the graph for another pass. Default: the value of createGraph. */
  retainGraph?: boolean;
  /** Build a graph of the derivative. Default false. */
  createGraph?: boolean;
  /** Give null for inputs that the outputs do not depend on, instead of an error. Default false. */
  allowUnused?: boolean;
}

/** Gradients of `outputs` for `inputs`, without touching `.grad` (PyTorch's `torch.autograd.grad`). */
export function grad(
  outputs: readonly Tensor[] | Tensor,
  inputs: readonly Tensor[] | Tensor,
  options: GradOptions = {},
): (Tensor | null)[] {
  checkOptions(options, ['gradOutputs', 'retainGraph', 'createGraph', 'allowUnused'], 'grad()');
  const outs = list(outputs);
  const { gradOutputs = outs.map(() => null), createGraph = false, allowUnused = false } = options;
  return wrapAll(
    native().grad(
      outs.map((tensor) => unwrap(tensor, 'grad(): outputs')),
      list(inputs).map((tensor) => unwrap(tensor, 'grad(): inputs')),
      gradOutputs.map((tensor) => (tensor === null ? null : unwrap(tensor, 'grad(): gradOutputs'))),
      options.retainGraph ?? createGraph,
      createGraph,
      allowUnused,
    ),
  );
}

/**
 * Computes gradients of several tensors at once and adds them to the `grad` of all leaves that require them
 * (PyTorch's `torch.autograd.backward`).
 *
 * @param gradTensors one for each tensor: the derivative of the end result for it; null for single values
 */
export function backward(
  tensors: readonly Tensor[] | Tensor,
  gradTensors?: readonly (Tensor | null)[] | Tensor | null,
  options: BackwardOptions = {},
): void {
  checkOptions(options, ['retainGraph', 'createGraph', 'inputs'], 'backward()');
  const roots = list(tensors);
  const gradients = gradTensors == null ? roots.map(() => null) : list(gradTensors);
  if (gradients.length !== roots.length) {
    throw new TorchBindError(
      `backward(): ${roots.length} tensors need as many gradients, got ${gradients.length}.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const createGraph = options.createGraph ?? false;
  native().backward(
    roots.map((tensor) => unwrap(tensor, 'backward(): tensors')),
    gradients.map((tensor) => (tensor === null ? null : unwrap(tensor, 'backward(): gradient'))),
    options.retainGraph ?? createGraph,
    createGraph,
    (options.inputs ?? []).map((input) => unwrap(input, 'backward(): inputs')),
  );
}

function list<T>(items: readonly T[] | T): readonly T[] {
  return Array.isArray(items) ? (items as readonly T[]) : [items as T];
}
