import { checkIterable, checkOptions, describe, requireOptions, TorchBindError } from '../errors';
import { canAdopt } from '../nn/adopt-state';
import { Parameter } from '../nn/parameter';
import { noGrad } from '../tensor/autograd';
import { full } from '../tensor/creation';
import { emptyLike } from '../tensor/generated/functions';
import { copyTensors, isDense, type TensorPair } from '../tensor/off-loop';
import { keep, tidy } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';
import { findOutOfRange, floatsIn, optionNames, pack, unpack } from './hyperparameters';
import type { Hyperparameter } from './hyperparameters';
import { checkState, readStateDict, stateDictError, stepValue } from './state-dict';
import type { FileGroup, ParameterState, StatePart } from './state-dict';

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

/** Parameters with hyperparameters of their own, as a constructor takes them. */
export interface GroupOptions {
  params: Parameters;
}

/** What sets one class of optimizers apart. */
export interface OptimizerRule {
  /** PyTorch's name of the class. */
  name: string;
  /** In the order in which PyTorch writes them. */
  hyperparameters: readonly Hyperparameter[];
}

/** A parameter, and its state. */
type OwnedState = readonly [Parameter, ParameterState];

/** A parameter of a loaded state dict. */
interface Match<Group> {
  parameter: Parameter;
  /** The group with the file's hyperparameters. */
  group: Group;
  /** For messages: its number in the file, and its name if it has one. */
  where: string;
}

/**
 * What all optimizers share: parameter groups, and state dicts in the exact form of `torch.optim`.
 *
 * State lives outside `tidy()` scopes.
 */
export abstract class Optimizer<
  Group extends ParameterGroup = ParameterGroup,
  Options extends GroupOptions = GroupOptions,
> {
  readonly paramGroups: Group[] = [];
  /** State of each parameter that was ever stepped (PyTorch's `Optimizer.state`). */
  readonly state = new Map<Parameter, ParameterState>();
  readonly #name: string;
  readonly #hyperparameters: readonly Hyperparameter[];
  /** Keys whose number was a float in the state dict that was loaded, to be written back as one. */
  readonly #floats = new WeakMap<Group, ReadonlySet<string>>();

  protected constructor(rule: OptimizerRule, params: Parameters | readonly Options[], options: object) {
    if (!Array.isArray((rule as Partial<OptimizerRule> | undefined)?.hyperparameters)) {
      throw new TorchBindError(
        'Optimizer is what all optimizers share: make an AdamW, Adam, SGD or Adagrad.',
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    checkOptions(options, optionNames(rule.hyperparameters), rule.name);
    const given = options as Readonly<Record<string, unknown>>;
    this.#name = rule.name;
    this.#hyperparameters = rule.hyperparameters.map((entry) => ({
      ...entry,
      default: given[entry.name] ?? entry.default,
    }));
    if (isGroups(params)) params.forEach((group) => this.addParamGroup(group));
    else this.addParamGroup({ params } as unknown as Options);
    if (this.paramGroups.every((group) => group.params.length === 0)) {
      throw new TorchBindError(
        'An optimizer got an empty list of parameters. Pass model.parameters().',
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
  }

  /**
   * Adds parameters with hyperparameters of their own, for instance of layers that were frozen until now; what is left
   * out takes the optimizer's defaults (PyTorch's `add_param_group`). A group of several may be empty: Hugging Face's Trainer
   * makes one for the biases that an adapter does not have.
   */
  addParamGroup(group: Options): void {
    requireOptions(group, ['params', ...optionNames(this.#hyperparameters)], `${this.#name}: parameter group`);
    const given = group as unknown as Readonly<Record<string, unknown>>;
    const { tensors, names } = collect(group.params);
    const known = new Set(this.paramGroups.flatMap(({ params }) => params));
    for (const parameter of tensors) {
      if (known.has(parameter)) {
        throw new TorchBindError(
          'A parameter appears more than once among the parameter groups.',
          'ERR_TORCHBIND_INVALID_ARGUMENT',
        );
      }
      known.add(parameter);
    }
    const values = this.#hyperparameters.map(({ name, default: value }) => [name, ownCopy(given[name] ?? value)]);
    const made = { params: tensors, extra: new Map(), ...Object.fromEntries(values) } as Group;
    if (names !== undefined) made.paramNames = names;
    this.#check(made);
    this.paramGroups.push(made);
  }

  /**
   * Updates all parameters that have a gradient.
   *
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT when a hyperparameter was set to a value that makes no sense
   */
  step(): void {
    noGrad(() =>
      tidy(() => {
        for (const group of this.paramGroups) {
          this.#check(group);
          this.stepGroup(group);
        }
      }),
    );
  }

  #check(group: Group): void {
    const problem =
      findOutOfRange(this.#hyperparameters, group as unknown as Record<string, unknown>) ?? this.findConflict(group);
    if (problem !== undefined) throw new TorchBindError(`${this.#name}: ${problem}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
  }

  /** What is wrong with hyperparameters that are in range each but do not go together. */
  protected findConflict(_group: Group): string | undefined {
    return undefined;
  }

  /** Updates one group; runs without autograd, in a scope of its own. */
  protected abstract stepGroup(group: Group): void;

  /** What the state of each parameter of a group consists of once it was stepped. */
  protected abstract stateParts(group: Group): readonly StatePart[];

  /** Drops the gradients of all parameters (PyTorch's `zero_grad(set_to_none=True)`). */
  zeroGrad(): void {
    for (const { params } of this.paramGroups) for (const parameter of params) parameter.grad = null;
  }

  /**
   * `{ state, param_groups }` as `torch.optim` writes it; parameters are numbered over all groups. Tensors are shared
   * with the optimizer, but for step counters on other devices: as PyTorch's default writes it, they are on the CPU.
   */
  stateDict(): Map<string, unknown> {
    const indices = new Map(
      this.paramGroups.flatMap((group) => group.params).map((parameter, index) => [parameter, index]),
    );
    const state = Array.from(
      this.state,
      ([parameter, values]) => [indices.get(parameter)!, new Map(values)] as const,
    ).sort(([a], [b]) => a - b);
    for (const [, values] of state) {
      const step = values.get('step');
      if (step instanceof Tensor && step.device !== 'cpu') values.set('step', step.to('cpu'));
    }
    return new Map<string, unknown>([
      ['state', new Map(state)],
      ['param_groups', this.paramGroups.map((group) => this.#packGroup(group, indices))],
    ]);
  }

  #packGroup(group: Group, indices: ReadonlyMap<Parameter, number>): Map<string, unknown> {
    const values = group as unknown as Readonly<Record<string, unknown>>;
    const floats = this.#floats.get(group);
    const packed = new Map(
      this.#hyperparameters.map(({ file, name, kind }) => [
        file,
        pack(values[name], kind === 'number' && floats?.has(file) === true ? 'float' : kind),
      ]),
    );
    for (const [key, value] of group.extra) packed.set(key, value);
    if (group.paramNames !== undefined) packed.set('param_names', [...group.paramNames]);
    return packed.set(
      'params',
      group.params.map((parameter) => indices.get(parameter)),
    );
  }

  /**
   * Loads state and hyperparameters, including the learning rate, from a state dict of `torch.optim`. Parameters are
   * matched by their order within the groups. Tensors are copied. If anything is invalid, nothing changes.
   *
   * @throws ERR_TORCHBIND_OPTIMIZER_STATE if groups or their sizes differ, or if a parameter's state lacks a part or
   *   has one of another shape or kind of number; the message names the parameter and the part
   */
  loadStateDict(stateDict: ReadonlyMap<string, unknown>): void {
    const { state, commit } = this.#checkState(stateDict);
    const copies = tidy(() =>
      noGrad(() => state.map(([parameter, values]) => [parameter, copyState(parameter, values)] as const)),
    );
    commit(copies);
  }

  /**
   * @internal As `loadStateDict`, in two parts. The first works off the event loop, from a state dict that nobody else holds:
   * tensors that are as the optimizer needs them become its own, without a copy. The caller disposes the state dict all the same.
   *
   * @returns the second part, which puts the state into the optimizer
   */
  async prepareStateDict(stateDict: ReadonlyMap<string, unknown>): Promise<() => void> {
    const { state, commit } = this.#checkState(stateDict);
    const adoption = new Adoption(state.flatMap(([, values]) => [...values.values()]));
    const taken = tidy(() =>
      noGrad(() => state.map(([parameter, values]) => [parameter, adoptState(parameter, values, adoption)] as const)),
    );
    await copyTensors(adoption.copies);
    return () => commit(taken);
  }

  /** The state of each parameter in a state dict that fits, and what puts it into the optimizer. */
  #checkState(stateDict: ReadonlyMap<string, unknown>): {
    state: OwnedState[];
    commit: (state: readonly OwnedState[]) => void;
  } {
    const { state, groups } = readStateDict(stateDict);
    this.#checkSizes(groups);
    const loadedGroups = groups.map((group, i) => this.#unpackGroup(group, i));
    const matches = this.#match(groups, loadedGroups);
    const checked = [...state]
      .filter(([, values]) => values.size > 0)
      .map(([index, values]): OwnedState => {
        const match = matches.get(index);
        if (match === undefined)
          throw stateDictError(`it holds state for parameter ${String(index)}, which is in none of its groups.`);
        checkState(values, match.parameter, this.stateParts(match.group), match.where);
        return [match.parameter, values];
      });
    const commit = (loaded: readonly OwnedState[]): void => {
      this.state.clear();
      for (const [parameter, values] of loaded) this.state.set(parameter, keep(values));
      this.paramGroups.forEach((group, i) => {
        Object.assign(group, loadedGroups[i]);
        this.#floats.set(group, floatsIn(groups[i]!.values));
      });
    };
    return { state: checked, commit };
  }

  #checkSizes(groups: readonly FileGroup[]): void {
    if (groups.length !== this.paramGroups.length) {
      throw stateDictError(`it has ${groups.length} parameter group(s), the optimizer ${this.paramGroups.length}.`);
    }
    groups.forEach(({ params }, i) => {
      const own = this.paramGroups[i]!.params.length;
      if (params.length !== own)
        throw stateDictError(`its parameter group ${i} has ${params.length} parameter(s), the optimizer's has ${own}.`);
    });
  }

  /** A group as it is after loading. */
  #unpackGroup({ values }: FileGroup, index: number): Group {
    const where = `parameter group ${index}`;
    const unpacked = this.#hyperparameters.map((entry) => [
      entry.name,
      values.has(entry.file) ? unpack(values.get(entry.file), entry, where) : entry.default,
    ]);
    const known = new Set([...this.#hyperparameters.map(({ file }) => file), 'params', 'param_names']);
    const group = { ...this.paramGroups[index]!, ...Object.fromEntries(unpacked) } as Group;
    group.extra = new Map([...values].filter(([key]) => !known.has(key)));
    const names = values.get('param_names');
    if (Array.isArray(names)) group.paramNames = names.map(String);
    const problem = findOutOfRange(this.#hyperparameters, group as unknown as Record<string, unknown>);
    if (problem !== undefined) throw stateDictError(`${where}: ${problem}.`);
    return group;
  }

  /** The parameter for each number in the file. */
  #match(groups: readonly FileGroup[], loadedGroups: readonly Group[]): Map<unknown, Match<Group>> {
    const matches = new Map<unknown, Match<Group>>();
    groups.forEach(({ params }, i) => {
      const group = loadedGroups[i]!;
      params.forEach((index, j) => {
        const name = group.paramNames?.[j];
        const where = `parameter ${String(index)}${name === undefined ? '' : ` ('${name}')`}`;
        matches.set(index, { parameter: group.params[j]!, group, where });
      });
    });
    return matches;
  }
}

/** What tensors of a state dict that nobody else holds become. */
class Adoption {
  /** Tensors that are copied off the event loop, and what into. */
  readonly copies: TensorPair[] = [];
  private readonly seen = new Set<unknown>();
  /** Tensors that several parameters have. */
  private readonly shared = new Set<unknown>();

  constructor(values: readonly unknown[]) {
    for (const value of values) (this.seen.has(value) ? this.shared : this.seen).add(value);
  }

  /** The tensor itself in a handle of its own, or one that it will be copied into. */
  take(value: Tensor, parameter: Parameter): Tensor {
    if (!this.shared.has(value) && parameter.isContiguous() && canAdopt(parameter, value)) {
      const own = value.detach();
      value.dispose();
      return own;
    }
    const copy = emptyLike(parameter);
    if (isDense(value)) this.copies.push([copy, value]);
    else copy.copy_(value);
    return copy;
  }
}

function adoptState(parameter: Parameter, values: ParameterState, adoption: Adoption): ParameterState {
  const take = (key: string, value: unknown): unknown =>
    key !== 'step' && value instanceof Tensor ? adoption.take(value, parameter) : copyValue(parameter, key, value);
  return new Map(Array.from(values, ([key, value]) => [key, take(key, value)]));
}

function copyState(parameter: Parameter, values: ParameterState): ParameterState {
  return new Map(Array.from(values, ([key, value]) => [key, copyValue(parameter, key, value)]));
}

/** A value of a loaded state as it is kept: tensors copied, in the parameter's dtype, on its device, with its strides. */
function copyValue(parameter: Parameter, key: string, value: unknown): unknown {
  if (key === 'step') return makeStep(parameter, stepValue(value));
  return value instanceof Tensor ? emptyLike(parameter).copy_(value) : value;
}

/** A step counter, float32 (): where the parameter is, because the fused kernels read it there. */
export function makeStep(parameter: Parameter, value: number): Tensor {
  return keep(full([], value, { dtype: 'float32', device: parameter.device }));
}

/** Whether an optimizer's first argument is a list of groups. */
function isGroups<G extends GroupOptions>(params: Parameters | readonly G[]): params is readonly G[] {
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
        `An optimizer: expected Parameters, got ${describe(tensor)}. Make it one: new nn.Parameter(tensor).`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
  }
  const tensors = pairs.map(([, tensor]) => tensor);
  const names = pairs.map(([name]) => name).filter((name) => name !== undefined);
  if (names.length === 0) return { tensors };
  if (names.length === tensors.length) return { tensors, names };
  throw new TorchBindError(
    'Either all parameters of an optimizer have names or none.',
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** Betas as an array of the group's own: changing one group's changes no other's, nor the defaults. Other arrays are refused later. */
function ownCopy(value: unknown): unknown {
  return Array.isArray(value) && value.length === 2 ? Array.from(value as unknown[]) : value;
}
