import { native } from '../native/native';
import { Block, CausalSelfAttention, GPTModel, MLP } from '../models/gpt-model';
import { LoraLinear } from '../models/lora';
import { Dropout } from '../nn/dropout';
import { Embedding } from '../nn/embedding';
import { LayerNorm } from '../nn/layer-norm';
import { Linear } from '../nn/linear';
import { Module } from '../nn/module';
import { ModuleList } from '../nn/module-list';
import { QuantizedLinear } from '../nn/quantized-linear';
import { OnePlusRMSNorm, RMSNorm } from '../nn/rms-norm';
import { Adagrad, Adam, AdamW, type AnyOptimizer, Optimizer, SGD } from '../optim';
import { type HeldTensor, settingsOf } from './posted-module';

/**
 * Whether another thread can compute what a model computes. What a program has changed in JavaScript stays on its own thread:
 * subclasses, functions that were replaced, hooks.
 */

const OPTIMIZERS = { AdamW, Adam, Adagrad, SGD } as const;
export type OptimizerClass = keyof typeof OPTIMIZERS;

/** The functions that a replica runs, as they were when this module was loaded. */
const METHODS = new Map<object, ReadonlyMap<string, unknown>>(
  [
    Block,
    CausalSelfAttention,
    MLP,
    LoraLinear,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    ModuleList,
    QuantizedLinear,
    RMSNorm,
    OnePlusRMSNorm,
    ...Object.values(OPTIMIZERS),
  ].map(({ prototype }) => [prototype, methodsOf(prototype)]),
);
const MODEL_METHODS = methodsOf(GPTModel.prototype);

function methodsOf(prototype: object): ReadonlyMap<string, unknown> {
  const descriptors = Object.entries(Object.getOwnPropertyDescriptors(prototype));
  return new Map(descriptors.flatMap(([name, { value }]) => (typeof value === 'function' ? [[name, value]] : [])));
}

/** Why a model must be computed by the thread that has it; undefined where another thread computes the same. */
export function whyNotReplicable(model: GPTModel, held: readonly HeldTensor[]): string | undefined {
  for (const [name, method] of MODEL_METHODS) {
    if (name !== 'constructor' && Reflect.get(model, name) !== method) return `its method ${name} was replaced`;
  }
  for (const [path, part] of model.namedModules()) {
    const problem = part === model ? ownFunction(part) : changedPart(part);
    if (problem !== undefined) return `${path === '' ? 'it' : path} ${problem}`;
  }
  const hooked = held.find(({ tensor }) => native().hasHooks(tensor.handle));
  return hooked === undefined ? undefined : `${hooked.places[0]!.path} has a hook`;
}

function changedPart(part: Module): string | undefined {
  const methods = METHODS.get(Object.getPrototypeOf(part) as object);
  if (methods === undefined) return `is a ${part.constructor.name} of the program's own`;
  return ownFunction(part) ?? replacedMethod(part, methods);
}

function replacedMethod(target: object, methods: ReadonlyMap<string, unknown>): string | undefined {
  const prototype = Object.getPrototypeOf(target) as object;
  for (const [name, method] of methods)
    if (Reflect.get(prototype, name) !== method) return `has another function for ${name}`;
  return undefined;
}

function ownFunction(target: object): string | undefined {
  for (const [name, value] of Object.entries(target))
    if (typeof value === 'function') return `has a function of its own for ${name}`;
  return undefined;
}

/** The class of an optimizer that another thread can run; undefined for a program's own. */
export function optimizerClass(optimizer: AnyOptimizer | Optimizer): OptimizerClass | undefined {
  const prototype = Object.getPrototypeOf(optimizer) as object;
  const name = (Object.keys(OPTIMIZERS) as OptimizerClass[]).find((key) => OPTIMIZERS[key].prototype === prototype);
  if (name === undefined || ownFunction(optimizer) !== undefined) return undefined;
  return replacedMethod(optimizer, METHODS.get(prototype)!) === undefined ? name : undefined;
}

/** A new optimizer of a class over groups of parameters. */
export function newOptimizer(name: OptimizerClass, groups: ConstructorParameters<typeof AdamW>[0]): AnyOptimizer {
  return new OPTIMIZERS[name](groups as ConstructorParameters<typeof SGD>[0]);
}

/** All that a replica depends on. Two of these are equal, element by element, while the replica computes the same. */
export function signatureOf(model: GPTModel, held: readonly HeldTensor[]): unknown[] {
  const settings = settingsOf(model).flatMap(({ path, className, fields }) => [
    path,
    className,
    ...Object.entries(fields).flat(),
  ]);
  const tensors = held.flatMap(({ tensor, places }) => [
    tensor.handle,
    native().storageInfo(tensor.handle).id,
    tensor.requiresGrad,
    places.length,
  ]);
  return [...settings, ...tensors];
}

export function sameSignature(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
}
