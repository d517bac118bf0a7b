import { threadId } from 'node:worker_threads';
import { TorchBindError } from '../errors';
import type { NativeLoan } from '../native/binding';
import { native } from '../native/native';
import type { Module } from '../nn/module';
import { Parameter } from '../nn/parameter';
import { keep } from '../tensor/scope';
import { Tensor, unwrap, wrap } from '../tensor/tensor';

/** Modules on their way to another thread. Nothing is copied: both threads have tensors over the same memory. */

/** A module's settings and tensors, as `postMessage` carries them. */
export interface PostedModule {
  /** The module and all below it, parents first. */
  modules: PostedSettings[];
  tensors: PostedTensor[];
}

interface PostedSettings {
  /** Its dotted path; '' for the module itself. */
  path: string;
  className: string;
  /** Numbers, texts and flags, such as `training`, `p` of Dropout and `eps` of LayerNorm. */
  fields: Record<string, unknown>;
}

interface PostedTensor {
  ticket: number;
  places: Place[];
  /** Of a buffer: whether state dicts hold it. */
  persistent: boolean | undefined;
}

/** A property of a module that holds a tensor. */
interface Place {
  path: string;
  name: string;
}

/** A parameter or buffer of a module. Tied weights have several places. */
export interface HeldTensor extends Pick<PostedTensor, 'places' | 'persistent'> {
  tensor: Tensor;
}

/** The parameters and buffers of a module in order, each once. */
export function heldTensors(module: Module): HeldTensor[] {
  const held = new Map<Tensor, HeldTensor>();
  for (const [path, part] of module.namedModules()) {
    const buffers = part.bufferNames();
    for (const [name, tensor] of Object.entries(part)) {
      if (!(tensor instanceof Parameter) && !(tensor instanceof Tensor && buffers.has(name))) continue;
      const known = held.get(tensor);
      if (known === undefined) held.set(tensor, { tensor, places: [{ path, name }], persistent: buffers.get(name) });
      else known.places.push({ path, name });
    }
  }
  return [...held.values()];
}

/** The settings of a module and all below it. */
export function settingsOf(module: Module): PostedSettings[] {
  return module.namedModules().map(([path, part]) => ({
    path,
    className: part.constructor.name,
    fields: Object.fromEntries(Object.entries(part).filter(([, value]) => isSetting(value))),
  }));
}

function isSetting(value: unknown): boolean {
  return ['number', 'string', 'boolean'].includes(typeof value);
}

/** Lends tensors to another thread: their memory stays where it is until the loan ends. */
export function lend(tensors: readonly Tensor[]): { tickets: number[]; loan: NativeLoan } {
  const handles = tensors.map((tensor) => unwrap(tensor, 'lend'));
  return native().lendTensors(handles, threadId);
}

/**
 * Runs a synchronous function that receives tensors of which another thread holds the memory. It does not count as this thread's:
 * V8 would collect garbage again and again to free it.
 */
export function borrowing<T>(fn: () => T): T {
  native().setBorrowing(true);
  try {
    return fn();
  } finally {
    native().setBorrowing(false);
  }
}

/** The tensor of a ticket of `lend`, in no scope. */
export function receiveLent(ticket: number): Tensor {
  return keep(wrap(native().receiveTensor(ticket)));
}

/** A module as it is to be posted, given the tickets of its tensors. */
export function postModule(module: Module, held: readonly HeldTensor[], tickets: readonly number[]): PostedModule {
  const tensors = held.map(({ places, persistent }, i) => ({ ticket: tickets[i]!, places, persistent }));
  return { modules: settingsOf(module), tensors };
}

/**
 * Gives a module of the same structure the settings and the tensors of the one that was posted. Its own tensors are freed.
 *
 * @returns the tensors in the order of `heldTensors`
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT naming what differs; tickets that were not received then stay good
 */
export function adoptPosted(module: Module, { modules, tensors }: PostedModule): Tensor[] {
  const parts = new Map(module.namedModules());
  for (const { path, className } of modules) {
    const found = parts.get(path)?.constructor.name;
    if (path !== '' && found !== className) throw structureDiffers(path, className, found);
  }
  for (const { path, fields } of modules) Object.assign(parts.get(path)!, fields);
  const replaced = new Set(heldTensors(module).map(({ tensor }) => tensor));
  const received = tensors.map(({ ticket, places, persistent }) => {
    const tensor = receiveLent(ticket);
    const value = persistent === undefined ? asParameter(tensor) : tensor;
    for (const { path, name } of places) place(parts.get(path)!, name, value, persistent);
    return value;
  });
  for (const tensor of replaced) tensor.dispose();
  return received;
}

function asParameter(tensor: Tensor): Parameter {
  const parameter = new Parameter(tensor, { requiresGrad: tensor.requiresGrad });
  tensor.dispose();
  return parameter;
}

function place(part: Module, name: string, value: Tensor, persistent: boolean | undefined): void {
  if (persistent === undefined || part.bufferNames().has(name)) Reflect.set(part, name, value);
  else part.registerBuffer(name, value, { persistent });
}

function structureDiffers(path: string, expected: string, found: string | undefined): TorchBindError {
  return new TorchBindError(
    `expected a module with ${expected} at '${path}', got ${found === undefined ? 'none there' : found}. Both threads must build the same module.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
