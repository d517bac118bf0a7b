// What the routes draw from: every operator, exported function, method and native function.
const { slots, state } = require('../../dist/native/native.js');
const { camelCase, Operators, SIGNATURES } = require('./routes.cjs');

// What writes files is left out: test/checkpoint and test/formats are about that.
const LEFT_OUT = new Set(['save', 'saveSafetensors', 'CheckpointManager']);
/** JavaScript's own collections by another name: their errors are JavaScript's. */
const isCollection = (value) =>
  [Map, Set, Array, Uint8Array].some((base) => value === base || value.prototype instanceof base);

function makeContext(torch, binding) {
  const bindingNames = Object.keys(binding);
  for (const name of bindingNames) {
    if (SIGNATURES[name] === undefined) throw new Error(`routes.cjs: say what binding.${name} takes`);
  }
  const functions = Object.entries({ ...torch, ...torch.nn, ...torch.nn.functional, ...torch.nn.init, ...torch.optim })
    .filter(([name, value]) => typeof value === 'function' && !LEFT_OUT.has(name) && !isCollection(value))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const methods = Reflect.ownKeys(torch.Tensor.prototype).filter((key) => key !== 'constructor');
  return { binding, bindingNames, functions, methods, operators: operatorsByMethod(binding), torch };
}

function operatorsByMethod(binding) {
  const operators = new Operators(binding);
  const overloadsOf = new Map();
  for (const full of operators.names) {
    const match = /^aten::([^.]*)/.exec(full);
    if (match === null) continue;
    const key = camelCase(match[1]);
    overloadsOf.set(key, [...(overloadsOf.get(key) ?? []), full]);
  }
  operators.ofMethod = (key, rng) => {
    const overloads = overloadsOf.get(key);
    return overloads === undefined ? undefined : operators.get(rng.pick(overloads));
  };
  return operators;
}

/** Frees what native functions gave as bare numbers. */
function freeHandles(binding, result) {
  for (const value of [result].flat(2)) {
    const handle = typeof value === 'object' && value !== null ? value.handle : value;
    if (typeof handle === 'number' && handle > 2 ** 24 && Number.isSafeInteger(handle)) binding.dispose(handle);
  }
}

/** What a call may have changed for the calls after it. */
function reset(torch, binding) {
  while (binding.inferenceModeEnabled()) binding.exitInferenceMode();
  try {
    for (;;) binding.exitInferenceMode();
  } catch {
    // none is entered any more
  }
  binding.setGradMode(true);
  binding.setDefaultDtype(6);
  binding.setEngineAlwaysBeside(false);
  try {
    for (;;) binding.exitAutocast();
  } catch {
    // as above
  }
  binding.setAutocast('cpu', false, 15, true);
  binding.setNumThreads(1);
  binding.setup({ TorchBindError: torch.TorchBindError, state, slots });
}

module.exports = { freeHandles, makeContext, reset };
