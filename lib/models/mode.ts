import type { Module } from '../nn/module';

/** Remembers of every module whether it is training; the function that it gives puts that back. */
export function rememberModes(model: Module): () => void {
  const modes = model.modules().map((module) => [module, module.training] as const);
  return () => {
    for (const [module, training] of modes) module.training = training;
  };
}

/** Runs a synchronous function with the model in evaluation mode. */
export function evaluating<T>(model: Module, fn: () => T): T {
  const restore = rememberModes(model);
  model.eval();
  try {
    return fn();
  } finally {
    restore();
  }
}
