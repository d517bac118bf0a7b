import { checkIterable, describe, TorchBindError } from '../errors';
import { Parameter } from '../nn/parameter';
import { sameShape, size } from '../nn/state-dict';
import { Float, isPythonInt, Tuple } from '../pickle/types';
import { noGrad } from '../tensor/autograd';
import { emptyLike } from '../tensor/generated/functions';
import { keep, tidy } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';

/** Parameters for an optimizer, alone or with their names as `Module.namedParameters()` gives them. */
export type Parameters = Iterable<Parameter> | Iterable<[string, Parameter]>;

/** Parameters that share their hyperparameters. All hyperparameters may be changed between steps. */
export interface ParameterGroup {
  params: Parameter[];
  /** Names of the parameters, when the optimizer was made from named parameters (PyTorch's `param_names`). */
  paramNames?: string[];
  /** Entries that a loaded state dict had and this optimizer has no use for: kept, and written back. */
  extra: Map<string, unknown>;
}

/** What a group may hold under each key: how it is named here, and how PyTorch writes and reads it. */
export interface Hyperparameter {
  /** Key in PyTorch's `param_groups`. */
  file: string;
  /** Property of the group here. */
  name: string;
  /** Value when neither the caller nor a loaded file gives one. */
  default: unknown;
  /** `float` is written as a Python float even where it is integral, `number` as what it is. */
  kind: 'float' | 'floats' | 'number' | 'plain';
}

/** State of one parameter, by PyTorch's keys. */
export type ParameterState = Map<string, unknown>;

/**
 * What all optimizers share: parameter groups, and state dicts in the exact form of `torch.optim`.
 *
 * State lives outside `tidy()` scopes.
 */
export abstract class Optimizer<Group extends ParameterGroup = ParameterGroup> {
  readonly paramGroups: Group[] = [];
  /** State of each parameter that was ever stepped (PyTorch's `Optimizer.state`). */
  readonly state = new Map<Parameter, ParameterState>();

  /** @param hyperparameters in the order in which PyTorch writes them */
  protected constructor(private readonly hyperparameters: readonly Hyperparameter[]) {}

  /**
   * Updates all parameters that have a gradient.
   *
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT when a hyperparameter was set to a value that makes no sense
   */
  step(): void {
    noGrad(() =>
      tidy(() => {
        for (const group of this.paramGroups) {
          this.checkGroup(group);
          this.stepGroup(group);
        }
      }),
    );
  }

  /** Updates one group; runs without autograd, in a scope of its own. */
  protected abstract stepGroup(group: Group): void;

  /** Refuses hyperparameters out of range. */
  protected abstract checkGroup(group: Group): void;

  /** Drops the gradients of all parameters (PyTorch's `zero_grad(set_to_none=True)`). */
  zeroGrad(): void {
    for (const { params } of this.paramGroups) for (const parameter of params) parameter.grad = null;
  }

  /** Adds parameters with hyperparameters of their own; what is left out takes the optimizer's defaults. */
  protected addGroup(params: Parameters, values: Readonly<Record<string, unknown>>): void {
    const { tensors, names } = collect(params);
    const known = new Set(this.paramGroups.flatMap((group) => group.params));
    for (const parameter of tensors) {
      if (known.has(parameter)) {
        throw new TorchBindError(
          'A parameter appears more than once among the parameter groups.',
          'ERR_TORCHBIND_INVALID_ARGUMENT',
        );
      }
      known.add(parameter);
    }
    const defaults = this.hyperparameters.map(({ name, default: value }) => [name, values[name] ?? value]);
    const group = { params: tensors, extra: new Map(), ...Object.fromEntries(defaults) } as Group;
    if (names !== undefined) group.paramNames = names;
    this.checkGroup(group);
    this.paramGroups.push(group);
  }

  /**
   * `{ state, param_groups }` as `torch.optim` writes it; parameters are numbered over all groups. Tensors are shared
   * with the optimizer.
   */
  stateDict(): Map<string, unknown> {
    const indices = new Map(
      this.paramGroups.flatMap((group) => group.params).map((parameter, index) => [parameter, index]),
    );
    const state = Array.from(this.state, ([parameter, values]) => [indices.get(parameter)!, new Map(values)] as const);
    return new Map<string, unknown>([
      ['state', new Map(state.sort(([a], [b]) => a - b))],
      ['param_groups', this.paramGroups.map((group) => this.packGroup(group, indices))],
    ]);
  }

  private packGroup(group: Group, indices: ReadonlyMap<Parameter, number>): Map<string, unknown> {
    const values = group as unknown as Readonly<Record<string, unknown>>;
    const packed = new Map(this.hyperparameters.map(({ file, name, kind }) => [file, pack(values[name], kind)]));
    for (const [key, value] of group.extra) packed.set(key, value);
    if (group.paramNames !== undefined) packed.set('param_names', [...group.paramNames]);
    return packed.set(
      'params',
      group.params.map((parameter) => indices.get(parameter)),
    );
  }

  /**
   * Takes over state and hyperparameters, the learning rate included, from a state dict of `torch.optim`. Parameters
   * are matched by their order within the groups. Tensors are copied. Nothing changes when anything is wrong.
   *
   * @throws ERR_TORCHBIND_OPTIMIZER_STATE when groups, their sizes or the shapes of tensors differ
   */
  loadStateDict(stateDict: ReadonlyMap<string, unknown>): void {
    const { state, groups } = readStateDict(stateDict);
    const parameters = this.matchParameters(groups);
    const loaded = Array.from(state, ([index, values]) => {
      const parameter = parameters.get(index);
      if (parameter === undefined)
        throw refuse(`it holds state for parameter ${String(index)}, which is in none of its groups.`);
      return [parameter, values, index] as const;
    });
    for (const [parameter, values, index] of loaded) checkShapes(parameter, values, index);
    const copies = tidy(() =>
      noGrad(() => loaded.map(([parameter, values]) => [parameter, this.copyState(parameter, values)] as const)),
    );
    this.state.clear();
    for (const [parameter, values] of copies) this.state.set(parameter, keep(values));
    this.paramGroups.forEach((group, i) => this.unpackGroup(group, groups[i]!));
  }

  /** The parameter for each number in the file. */
  private matchParameters(groups: readonly FileGroup[]): Map<unknown, Parameter> {
    if (groups.length !== this.paramGroups.length) {
      throw refuse(`it has ${groups.length} parameter group(s), the optimizer ${this.paramGroups.length}.`);
    }
    const matched = new Map<unknown, Parameter>();
    groups.forEach(({ params }, i) => {
      const own = this.paramGroups[i]!.params;
      if (params.length !== own.length) {
        throw refuse(`its parameter group ${i} has ${params.length} parameter(s), the optimizer's has ${own.length}.`);
      }
      params.forEach((index, j) => matched.set(index, own[j]!));
    });
    return matched;
  }

  /** A value of a loaded state as it is kept: tensors copied, in the parameter's dtype, on its device, with its strides. */
  protected copyValue(parameter: Parameter, _key: string, value: unknown): unknown {
    return value instanceof Tensor ? emptyLike(parameter).copy_(value) : value;
  }

  private copyState(parameter: Parameter, values: ParameterState): ParameterState {
    return new Map(Array.from(values, ([key, value]) => [key, this.copyValue(parameter, key, value)]));
  }

  private unpackGroup(group: Group, { values }: FileGroup): void {
    const target = group as unknown as Record<string, unknown>;
    for (const { file, name, kind, default: initial } of this.hyperparameters) {
      target[name] = values.has(file) ? unpack(values.get(file), kind, file) : initial;
    }
    const known = new Set([...this.hyperparameters.map(({ file }) => file), 'params', 'param_names']);
    group.extra = new Map([...values].filter(([key]) => !known.has(key)));
    const names = values.get('param_names');
    if (Array.isArray(names)) group.paramNames = names.map(String);
  }
}

/** @internal Whether an optimizer's first argument is a list of groups. */
export function isGroups<G extends { params: Parameters }>(params: Parameters | readonly G[]): params is readonly G[] {
  if (!Array.isArray(params)) return false;
  const [first] = params as unknown[];
  return typeof first === 'object' && first !== null && !(first instanceof Tensor) && !Array.isArray(first);
}

function collect(params: Parameters): { tensors: Parameter[]; names?: string[] } {
  checkIterable(params, 'parameters', 'Optimizer');
  const pairs = Array.from<Parameter | [string, Parameter], [string | undefined, Parameter]>(params, (item) =>
    Array.isArray(item) ? item : [undefined, item],
  );
  for (const [, tensor] of pairs) {
    if (!(tensor instanceof Parameter)) {
      throw new TorchBindError(
        `An optimizer takes Parameters, but received ${describe(tensor)}. Make it one: new nn.Parameter(tensor).`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
  }
  const tensors = pairs.map(([, tensor]) => tensor);
  const names = pairs.map(([name]) => name).filter((name) => name !== undefined);
  if (tensors.length === 0)
    throw new TorchBindError(
      'An optimizer got an empty list of parameters. Pass model.parameters().',
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  if (names.length === 0) return { tensors };
  if (names.length === tensors.length) return { tensors, names };
  throw new TorchBindError(
    'Either all parameters of an optimizer have names or none.',
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** A parameter group as it is in a state dict. */
export interface FileGroup {
  params: unknown[];
  values: ReadonlyMap<string, unknown>;
}

/**
 * The two halves of a `torch.optim` state dict, checked for their form.
 *
 * @throws ERR_TORCHBIND_OPTIMIZER_STATE
 */
export function readStateDict(stateDict: ReadonlyMap<string, unknown>): {
  state: Map<unknown, ParameterState>;
  groups: FileGroup[];
} {
  if (!(stateDict instanceof Map))
    throw refuse(`expected a Map with 'state' and 'param_groups' but received ${describe(stateDict)}.`);
  const state: unknown = stateDict.get('state');
  const groups: unknown = stateDict.get('param_groups');
  if (!(state instanceof Map)) throw refuse(`its 'state' should be a dict but is ${describe(state)}.`);
  if (!Array.isArray(groups)) throw refuse(`its 'param_groups' should be a list but is ${describe(groups)}.`);
  for (const [index, values] of state) {
    if (!(values instanceof Map))
      throw refuse(`its state of parameter ${String(index)} should be a dict but is ${describe(values)}.`);
  }
  return {
    state: state as Map<unknown, ParameterState>,
    groups: groups.map((group: unknown, i) => {
      const params: unknown = group instanceof Map ? group.get('params') : undefined;
      if (!(group instanceof Map) || !Array.isArray(params))
        throw refuse(`its parameter group ${i} should be a dict with a list 'params'.`);
      return { params, values: group as Map<string, unknown> };
    }),
  };
}

/** The step count of a state entry: a tensor with one element, or the plain number of torch before 1.12. */
export function stepValue(step: unknown): number {
  if (step instanceof Tensor && step.numel() === 1) return Number(step.item());
  if (typeof step === 'number' || step instanceof Float) return Number(step);
  throw refuse(`a 'step' should be a number or a tensor with one element but is ${describe(step)}.`);
}

/** An error about an optimizer's state dict. */
export function refuse(reason: string): TorchBindError {
  return new TorchBindError(`The optimizer's state dict does not fit: ${reason}`, 'ERR_TORCHBIND_OPTIMIZER_STATE');
}

function checkShapes(parameter: Parameter, values: ParameterState, index: unknown): void {
  for (const [key, value] of values) {
    if (key === 'step') stepValue(value);
    else if (value instanceof Tensor && !sameShape(value.shape, parameter.shape)) {
      throw refuse(
        `'${key}' of parameter ${String(index)} has shape ${size(value.shape)}, the parameter ${size(parameter.shape)}. ` +
          'The state belongs to another model, or to parameters in another order.',
      );
    }
  }
}

function pack(value: unknown, kind: Hyperparameter['kind']): unknown {
  if (kind === 'plain' || kind === 'number') return value;
  if (kind === 'float') return pythonFloat(value as number);
  return Tuple.from(value as number[], pythonFloat);
}

/** A number that Python must read as a float. */
function pythonFloat(value: number): number | Float {
  return isPythonInt(value) ? new Float(value) : value;
}

function unpack(value: unknown, kind: Hyperparameter['kind'], key: string): unknown {
  if (kind === 'plain') return value;
  if (kind === 'float' || kind === 'number') return numberOf(value, key);
  if (!Array.isArray(value)) throw refuse(`'${key}' should be a pair of numbers but is ${describe(value)}.`);
  return value.map((item) => numberOf(item, key));
}

function numberOf(value: unknown, key: string): number {
  if (typeof value === 'number' || value instanceof Float) return Number(value);
  if (value instanceof Tensor && value.numel() === 1) return Number(value.item());
  throw refuse(`'${key}' should be a number but is ${describe(value)}.`);
}
