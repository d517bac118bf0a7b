/** The addon of this environment (the main thread or a worker), loaded when it is first needed. */
import path from 'node:path';
import { TorchBindError } from '../errors';
import type { Binding } from './binding';
import { loadAddon, type LoadedAddon } from './load';
import { withNextStep } from './next-step';

let loaded: LoadedAddon | undefined;

/** Shared with C++: state[0] tells how a new tensor outside any scope is kept. */
export const state = new Uint32Array(4);

/** Shared with C++: the arguments of `callDirect`, and its result. */
export const slots = new Float64Array(11);

/** @throws {TorchBindError} `ERR_TORCHBIND_LOAD`, with what was tried and what to do. */
export function native(): Binding {
  return (loaded ?? load()).binding;
}

/** Whether libtorch was needed so far. */
export function isLoaded(): boolean {
  return loaded !== undefined;
}

/** What was loaded, and from where. */
export function loadedAddon(): LoadedAddon {
  return loaded ?? load();
}

/** Where a library that is built next to the addon would be: torchbind_cuda.so for `cuda`. */
export function pluginPath(name: string): string {
  const extension = process.platform === 'darwin' ? 'dylib' : 'so';
  return path.join(path.dirname(loadedAddon().addon), `torchbind_${name}.${extension}`);
}

/** Root of the libtorch in use: the directory that holds `include/` and `lib/`. */
export function libtorchDirectory(): string {
  return loadedAddon().libtorch.root;
}

function load(): LoadedAddon {
  const addon = loadAddon();
  addon.binding.setup({ TorchBindError: NativeError, state, slots });
  return (loaded = addon);
}

/** What C++ throws: a TorchBindError that also says what to do. */
const NativeError = function (message: string, code: string): TorchBindError {
  const error = new TorchBindError(withNextStep(message), code);
  Error.captureStackTrace(error, NativeError);
  return error;
} as unknown as new (message: string, code: string) => TorchBindError;
