import { checkFunction, takes } from '../../errors';
import { native } from '../../native/native';
import { refuseAsyncFunction, refuseAsyncResult } from './synchronous';

/** Sets a mode, runs `fn` and puts things back, whatever happens. */
function within<T>(name: string, fn: () => T, enter: () => () => void): T {
  checkFunction(fn, `${name}()`);
  refuseAsyncFunction(fn, name);
  const leave = enter();
  try {
    const result = fn();
    refuseAsyncResult(result, name);
    return result;
  } finally {
    leave();
  }
}

function withGradMode<T>(enabled: boolean, fn: () => T, name: string): T {
  return within(name, fn, () => {
    const before = native().gradMode();
    native().setGradMode(enabled);
    return () => native().setGradMode(before);
  });
}

/** Runs a synchronous function without recording operations for backward (PyTorch's `torch.no_grad`). */
export const noGrad = takes(1, function noGrad<T>(fn: () => T): T {
  return withGradMode(false, fn, 'noGrad');
});

/** Runs a synchronous function with recording on, inside `noGrad` too (PyTorch's `torch.enable_grad`). */
export const enableGrad = takes(1, function enableGrad<T>(fn: () => T): T {
  return withGradMode(true, fn, 'enableGrad');
});

/**
 * Runs a synchronous function in inference mode (PyTorch's `torch.inference_mode`): as `noGrad`, and faster, but its
 * tensors can never take part in autograd.
 */
export const inferenceMode = takes(1, function inferenceMode<T>(fn: () => T): T {
  return within('inferenceMode', fn, () => {
    native().enterInferenceMode(true);
    return () => native().exitInferenceMode();
  });
});

/** @internal Runs `fn` with inference mode off (PyTorch's `torch.inference_mode(False)`): the tensors made are ordinary ones. */
export function withoutInferenceMode<T>(fn: () => T): T {
  return within('withoutInferenceMode', fn, () => {
    native().enterInferenceMode(false);
    return () => native().exitInferenceMode();
  });
}

/**
 * Switches the recording of operations on or off: for all that follows on this thread, or, with a function, while it
 * runs (PyTorch's `torch.set_grad_enabled`).
 */
export const setGradEnabled = takes(2, function setGradEnabled<T>(enabled: boolean, fn?: () => T): T | void {
  if (fn !== undefined) return withGradMode(enabled, fn, 'setGradEnabled');
  native().setGradMode(enabled);
}) as { (enabled: boolean): void; <T>(enabled: boolean, fn: () => T): T };

/** Whether operations are recorded for backward. */
export const isGradEnabled = takes(0, function isGradEnabled(): boolean {
  return native().gradMode();
});

/** Whether `inferenceMode` is on. */
export const isInferenceModeEnabled = takes(0, function isInferenceModeEnabled(): boolean {
  return native().inferenceModeEnabled();
});
