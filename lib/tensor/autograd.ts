import { checkOptions, TorchBindError } from '../errors';
import { native } from '../native/native';
import { unwrap, wrapOptional } from './core';
import type { Tensor } from './core';
import { isThenable } from './scope';

/** Modes are a thread's, so code after an `await` would run in whatever mode others left. */
function refuseAsync(result: unknown, name: string): void {
  if (!isThenable(result)) return;
  throw new TorchBindError(
    `${name}(fn): fn returned a promise, but the mode cannot follow code across await. Call ${name} around the synchronous parts.`,
    'ERR_TORCHBIND_ASYNC_MODE',
  );
}

function withGradMode<T>(enabled: boolean, fn: () => T, name: string): T {
  const before = native().gradMode();
  native().setGradMode(enabled);
  try {
    const result = fn();
    refuseAsync(result, name);
    return result;
  } finally {
    native().setGradMode(before);
  }
}

/** Runs a synchronous function without recording operations for backward (PyTorch's `torch.no_grad`). */
export function noGrad<T>(fn: () => T): T {
  return withGradMode(false, fn, 'noGrad');
}

/** Runs a synchronous function with recording on, inside `noGrad` too (PyTorch's `torch.enable_grad`). */
export function enableGrad<T>(fn: () => T): T {
  return withGradMode(true, fn, 'enableGrad');
}

/**
 * Runs a synchronous function in inference mode (PyTorch's `torch.inference_mode`): as `noGrad`, and faster, but its
 * tensors can never take part in autograd.
 */
export function inferenceMode<T>(fn: () => T): T {
  native().enterInferenceMode(true);
  try {
    const result = fn();
    refuseAsync(result, 'inferenceMode');
    return result;
  } finally {
    native().exitInferenceMode();
  }
}

/** Whether operations are recorded for backward. */
export function isGradEnabled(): boolean {
  return native().gradMode();
}

/** Whether `inferenceMode` is on. */
export function isInferenceModeEnabled(): boolean {
  return native().inferenceModeEnabled();
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

/** Gradients of `outputs` for `inputs`, without touching `.grad` (PyTorch's `torch.autograd.grad`). */
export function grad(
  outputs: readonly Tensor[] | Tensor,
  inputs: readonly Tensor[] | Tensor,
  options: GradOptions = {},
): (Tensor | null)[] {
  checkOptions(options, ['gradOutputs', 'retainGraph', 'createGraph', 'allowUnused'], 'grad()');
  const outs = Array.isArray(outputs) ? (outputs as readonly Tensor[]) : [outputs as Tensor];
  const ins = Array.isArray(inputs) ? (inputs as readonly Tensor[]) : [inputs as Tensor];
  const { gradOutputs = outs.map(() => null), createGraph = false, allowUnused = false } = options;
  const gradients = native().grad(
    outs.map((tensor) => unwrap(tensor, 'grad(): outputs')),
    ins.map((tensor) => unwrap(tensor, 'grad(): inputs')),
    gradOutputs.map((tensor) => (tensor === null ? null : unwrap(tensor, 'grad(): gradOutputs'))),
    options.retainGraph ?? createGraph,
    createGraph,
    allowUnused,
  );
  return gradients.map(wrapOptional);
}
