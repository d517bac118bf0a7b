import { checkArgument, checkIterable, checkOptions, takes, TorchBindError } from '../../errors';
import { native } from '../../native/native';
import { Tensor, unwrap, wrapAll } from '../core';

/** Options of `backward()`. */
export interface BackwardOptions {
  /** Keep the graph for another backward pass. Default: the value of createGraph. */
  retainGraph?: boolean;
  /** Build a graph of the derivative, for higher derivatives. Default false. */
  createGraph?: boolean;
  /** Accumulate gradients into these leaves only. */
  inputs?: readonly Tensor[];
}

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

/** One gradient for each input. */
type GradientsOf<Inputs, Gradient> = Inputs extends readonly unknown[]
  ? { -readonly [K in keyof Inputs]: Gradient }
  : [Gradient];

interface Grad {
  <const Inputs extends readonly Tensor[] | Tensor>(
    outputs: readonly Tensor[] | Tensor,
    inputs: Inputs,
    options?: GradOptions & { allowUnused?: false },
  ): GradientsOf<Inputs, Tensor>;
  <const Inputs extends readonly Tensor[] | Tensor>(
    outputs: readonly Tensor[] | Tensor,
    inputs: Inputs,
    options: GradOptions,
  ): GradientsOf<Inputs, Tensor | null>;
}

/** Gradients of `outputs` for `inputs`, without touching `.grad` (PyTorch's `torch.autograd.grad`). */
export const grad = takes(
  3,
  function grad(
    outputs: readonly Tensor[] | Tensor,
    inputs: readonly Tensor[] | Tensor,
    options: GradOptions = {},
  ): unknown {
    checkOptions(options, ['gradOutputs', 'retainGraph', 'createGraph', 'allowUnused'], 'grad()');
    const outs = list(outputs);
    const { gradOutputs, createGraph = false, allowUnused = false } = options;
    return wrapAll(
      native().grad(
        outs.map((tensor) => unwrap(tensor, 'grad(): outputs')),
        list(inputs).map((tensor) => unwrap(tensor, 'grad(): inputs')),
        gradientsFor(outs, gradOutputs, 'grad(): gradOutputs').map((tensor) =>
          tensor === null ? null : unwrap(tensor, 'grad(): gradOutputs'),
        ),
        options.retainGraph ?? createGraph,
        createGraph,
        allowUnused,
      ),
    );
  },
) as Grad;

/**
 * Computes gradients of several tensors at once and adds them to the `grad` of all leaves that require them
 * (PyTorch's `torch.autograd.backward`).
 *
 * @param gradTensors one for each tensor: the derivative of the end result for it; null for single values
 */
export const backward = takes(
  3,
  function backward(
    tensors: readonly Tensor[] | Tensor,
    gradTensors?: readonly (Tensor | null)[] | Tensor | null,
    options: BackwardOptions = {},
  ): void {
    checkOptions(options, ['retainGraph', 'createGraph', 'inputs'], 'backward()');
    const roots = list(tensors);
    const gradients = gradientsFor(roots, gradTensors, 'backward(): gradTensors');
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
      list(options.inputs ?? []).map((input) => unwrap(input, 'backward(): inputs')),
    );
  },
);

/** What was given as gradients, or null for each tensor. */
function gradientsFor(
  tensors: readonly Tensor[],
  given: readonly (Tensor | null)[] | Tensor | null | undefined,
  where: string,
): readonly (Tensor | null)[] {
  if (given == null) return tensors.map(() => null);
  checkArgument(given instanceof Tensor || Array.isArray(given), 'a tensor or an array of tensors', given, where);
  return list(given);
}

function list<T>(items: readonly T[] | T): readonly T[] {
  if (!Array.isArray(items)) return [items as T];
  checkIterable(items, 'an array of tensors', 'grad()');
  return items as readonly T[];
}
