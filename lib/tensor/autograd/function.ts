import { describe, TorchBindError } from '../../errors';
import type { Handle } from '../../native/binding';
import { native } from '../../native/native';
import { Tensor, unwrap, wrap, wrapAll } from '../core';
import { rehandle } from '../ownership';
import { refuseAsyncResult } from './synchronous';

/**
 * What `forward` leaves for `backward` (PyTorch's `ctx`). Anything but tensors may be set on it as plain attributes:
 * `ctx: FunctionContext & { exponent: number }`. Tensors go through `saveForBackward`: an output kept as an attribute
 * would keep itself alive.
 */
export class FunctionContext {
  /** For each argument of `apply`, whether it is a tensor that requires a gradient. */
  readonly needsInputGrad: readonly boolean[];

  #saved: readonly (Tensor | null)[] = [];
  #dirty: readonly Tensor[] = [];
  #nonDifferentiable: readonly Tensor[] = [];
  #materializeGrads = true;
  /** The call of backward that runs, and what it has read. */
  #call: number | undefined;
  #savedTensors: (Tensor | null)[] | undefined;

  /** @internal Made by `Function.apply`. */
  constructor(needsInputGrad: readonly boolean[]) {
    this.needsInputGrad = needsInputGrad;
  }

  /** Keeps tensors, or nulls, for `backward`: inputs and outputs preferably. Changing one in place is noticed. */
  saveForBackward(...tensors: (Tensor | null | undefined)[]): void {
    this.#saved = tensors.map((tensor) => tensor ?? null);
  }

  /** In `backward`: the tensors that `saveForBackward` kept, in its order. */
  get savedTensors(): readonly Tensor[] {
    if (this.#call === undefined) {
      throw new TorchBindError('ctx.savedTensors can be read in backward() only.', 'ERR_TORCHBIND_AUTOGRAD_FUNCTION');
    }
    this.#savedTensors ??= wrapAll(native().savedTensors(this.#call));
    // Nulls are where nulls were saved.
    return this.#savedTensors as Tensor[];
  }

  /** In `forward`: tells which inputs it changed in place. They must be outputs too. */
  markDirty(...inputs: Tensor[]): void {
    this.#dirty = inputs;
  }

  /** In `forward`: tells which outputs have no derivative, such as indices. */
  markNonDifferentiable(...outputs: Tensor[]): void {
    this.#nonDifferentiable = outputs;
  }

  /** In `forward`: with false, `backward` gets null, and not zeros, for outputs that no gradient flows to. */
  setMaterializeGrads(value: boolean): void {
    this.#materializeGrads = value;
  }

  /** @internal What forward left, as C++ takes it; the tensors are C++'s from then on. */
  static take(ctx: FunctionContext): [(Handle | null)[], Handle[], Handle[], boolean] {
    const lower = (tensor: Tensor, what: string): Handle => unwrap(tensor, `ctx.${what}()`);
    const taken: [(Handle | null)[], Handle[], Handle[], boolean] = [
      ctx.#saved.map((tensor) => (tensor === null ? null : lower(tensor, 'saveForBackward'))),
      ctx.#dirty.map((tensor) => lower(tensor, 'markDirty')),
      ctx.#nonDifferentiable.map((tensor) => lower(tensor, 'markNonDifferentiable')),
      ctx.#materializeGrads,
    ];
    ctx.#saved = ctx.#dirty = ctx.#nonDifferentiable = [];
    return taken;
  }

  /** @internal Runs backward with the saved tensors of that call in reach. Calls may nest. */
  static during<T>(ctx: FunctionContext, call: number, fn: () => T): T {
    const outer = [ctx.#call, ctx.#savedTensors] as const;
    ctx.#call = call;
    ctx.#savedTensors = undefined;
    try {
      return fn();
    } finally {
      [ctx.#call, ctx.#savedTensors] = outer;
    }
  }
}

/** One gradient for each argument of `apply`: null for an argument that is not a tensor or needs none. A single gradient needs no array. */
export type InputGradients = Tensor | null | undefined | void | readonly (Tensor | null | undefined)[];

/** What a class that extends `Function` must have. */
export interface FunctionClass<Args extends readonly unknown[], Outputs> {
  readonly name: string;
  forward(ctx: FunctionContext, ...args: Args): Outputs;
  backward(ctx: FunctionContext, ...gradOutputs: Tensor[]): InputGradients;
}

/** What backward must know of forward, without keeping any of its tensors. */
interface Plan {
  ctx: FunctionContext;
  /** For each argument, whether it was a tensor. */
  inputs: readonly boolean[];
  /** For each output, whether it was one. */
  outputs: readonly boolean[];
}

/**
 * An operation with its own derivative (PyTorch's `torch.autograd.Function`). A subclass defines both as static
 * methods; `apply` runs it:
 *
 *     class Exp extends autograd.Function {
 *       static forward(ctx: FunctionContext, x: Tensor): Tensor {
 *         const y = x.exp();
 *         ctx.saveForBackward(y);
 *         return y;
 *       }
 *       static backward(ctx: FunctionContext, grad: Tensor): Tensor {
 *         const [y] = ctx.savedTensors;
 *         return grad.mul(y!);
 *       }
 *     }
 *     const y = Exp.apply(x);
 *
 * `forward` runs without recording. It returns a tensor or an array, in which other values pass through unchanged.
 * `backward` gets a gradient for each output (null for what is not a tensor) and returns one for each argument. With
 * `createGraph` its operations are recorded: derivatives of any order come of themselves.
 */
class CustomFunction {
  /**
   * Runs `forward` on the arguments and records it. Tensors count where they are arguments themselves, not in arrays.
   *
   * @throws {TorchBindError} `ERR_TORCHBIND_AUTOGRAD_FUNCTION` when the class lacks a method; from the backward pass,
   * when `backward` gives gradients that do not fit the arguments. What forward or backward throws comes through as it is.
   */
  static apply<Args extends readonly unknown[], Outputs>(this: FunctionClass<Args, Outputs>, ...args: Args): Outputs {
    checkClass(this);
    const isTensor = args.map((arg) => arg instanceof Tensor);
    const inputs = args.filter((arg) => arg instanceof Tensor);
    const ctx = new FunctionContext(args.map((arg) => arg instanceof Tensor && arg.requiresGrad));
    const plan: Plan = { ctx, inputs: isTensor, outputs: [] };
    let outputs: readonly unknown[] = [];
    let single = true;
    const forward = (): unknown[] => {
      const result: unknown = this.forward(ctx, ...args);
      refuseAsyncResult(result, `${this.name}.forward()`);
      single = !Array.isArray(result);
      outputs = single ? [result] : (result as unknown[]);
      plan.outputs = outputs.map((output) => output instanceof Tensor);
      const tensors = outputs.filter((output) => output instanceof Tensor);
      return [tensors.map((tensor) => unwrap(tensor, `${this.name}.forward()`)), ...FunctionContext.take(ctx)];
    };
    const handles = native().applyFunction(
      this.name,
      inputs.map((tensor) => unwrap(tensor, `${this.name}.apply()`)),
      forward,
      backwardOf(this, plan),
    );
    let next = 0;
    const results = outputs.map((output) =>
      output instanceof Tensor ? finish(output, handles[next++]!, inputs) : output,
    );
    return (single ? results[0] : results) as Outputs;
  }
}

export { CustomFunction as Function };

/** The tensor that the caller gets for what forward returned. */
function finish(output: Tensor, handle: Handle | null, inputs: readonly Tensor[]): Tensor {
  if (handle === null) return output; // an input, changed in place
  if (inputs.includes(output)) return wrap(handle); // an input as it was: the result is a view of it
  rehandle(output, handle);
  return output;
}

/** Made apart from `apply`: closures made together would keep each other's tensors alive. */
function backwardOf(
  cls: FunctionClass<never, unknown>,
  plan: Plan,
): (call: number, handles: (Handle | null)[]) => (Handle | null)[] {
  return (call, handles) => {
    const gradients = wrapAll(handles);
    let next = 0;
    const args = plan.outputs.map((isTensor) => (isTensor ? gradients[next++]! : null));
    // With setMaterializeGrads(false) nulls come too.
    const result = FunctionContext.during(plan.ctx, call, () => cls.backward(plan.ctx, ...(args as Tensor[])));
    return lowerGradients(cls.name, result, plan.inputs);
  };
}

function lowerGradients(name: string, result: unknown, inputs: readonly boolean[]): (Handle | null)[] {
  refuseAsyncResult(result, `${name}.backward()`);
  const gradients: readonly unknown[] = Array.isArray(result) ? result : [result];
  const surplus = gradients.slice(inputs.length).some((gradient) => gradient != null);
  if (gradients.length < inputs.length || surplus) {
    fail(`${name}.backward() gave ${gradients.length} gradients, but apply() had ${inputs.length} arguments.`);
  }
  const handles: (Handle | null)[] = [];
  inputs.forEach((isTensor, i) => {
    const gradient = gradients[i] ?? null;
    if (!isTensor && gradient !== null)
      fail(`${name}.backward() gave a gradient at position ${i}, where apply() had no tensor. Give null there.`);
    if (gradient !== null && !(gradient instanceof Tensor))
      fail(`${name}.backward() must give tensors or nulls, but gave ${describe(gradient)} at position ${i}.`);
    if (isTensor) handles.push(gradient === null ? null : unwrap(gradient, `${name}.backward()`));
  });
  return handles;
}

function checkClass(cls: Partial<FunctionClass<never, unknown>>): void {
  for (const method of ['forward', 'backward'] as const) {
    if (typeof cls[method] !== 'function')
      fail(`${describeClass(cls)} needs a static method '${method}' to be applied as an autograd.Function.`);
  }
}

function describeClass(cls: { name?: string }): string {
  return typeof cls === 'function' && cls.name !== undefined && cls.name !== '' ? cls.name : 'The class';
}

function fail(message: string): never {
  throw new TorchBindError(message, 'ERR_TORCHBIND_AUTOGRAD_FUNCTION');
}
