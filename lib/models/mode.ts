import type { Module } from '../nn/module';

/** Remembers of every module whether it is training; the function that it gives puts that back. */
export function rememberModes(modules: readonly Module[]): () => void {
  const modes = modules.map((module) => module.training);
  return () => modules.forEach((module, i) => (module.training = modes[i]!));
}

/** A function that runs synchronous code with the model in evaluation mode. The model's modules are listed once. */
export function evaluation(model: Module): <T>(fn: () => T) => T {
  const modules = model.modules();
  return (fn) => {
    const restore = rememberModes(modules);
    for (const module of modules) module.training = false;
    try {
      return fn();
    } finally {
      restore();
    }
  };
}
