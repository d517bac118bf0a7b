// Which Python the tests and benchmarks run: one that imports the pinned PyTorch. `npm run setup -- --python` makes it.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { inRoot } from './steps.mjs';
import { toolDirectory } from './tools.mjs';

/** `{ command, env }` to start it with. */
export function pythonEnvironment() {
  const module = inRoot('dist/install/python-env.js');
  const found = existsSync(module) ? createRequire(import.meta.url)(module).pythonEnvironment() : undefined;
  if (found === undefined) {
    throw new Error(
      'Found no Python environment with PyTorch. Make one: npm run setup -- --python (npm test does so too)',
    );
  }
  return { ...found, env: { ...found.env, ...bytecode() } };
}

/**
 * Compiled bytecode goes to the user's cache, not next to the sources. Without it, every process compiles all of PyTorch
 * again: `import torch` then takes twice the processor time, and `import transformers` more than twice.
 */
function bytecode() {
  return { PYTHONDONTWRITEBYTECODE: '', PYTHONPYCACHEPREFIX: toolDirectory('python-bytecode') };
}
