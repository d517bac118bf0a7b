import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  checkArgument,
  checkFlags,
  checkFunction,
  checkOptions,
  describe,
  requireOptions,
  TorchBindError,
} from '../errors';
import { OrderedDict } from '../pickle/types';
import type { DType } from '../tensor/dtype';
import { checkDType, isDType } from '../tensor/dtype';
import { noGrad } from '../tensor/autograd';
import { keep, tidy } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';
import { adoptEntries } from './adopt-state';
import { Parameter, setData } from './parameter';
import { formatModule } from './print';
import { loadEntries } from './state-dict';
import type { IncompatibleKeys, StateEntry } from './state-dict';
import type { DeviceName } from '../tensor/schema-types';

/** Where and as what `Module.to` puts a module. */
export interface ModuleToOptions {
  device?: DeviceName;
  /** Applies to floating-point parameters and buffers only. */
  dtype?: DType;
}

/**
 * Base of all layers and models (PyTorch's `torch.nn.Module`).
 *
 * A property that holds a `Parameter` or a `Module` is registered by that alone; a buffer is registered with
 * `registerBuffer`. Parameters, buffers and children are listed in the order of the object's properties, which for a
 * class with field declarations is the order of the declarations. Subclasses define `forward`.
 */
export class Module {
  /** Whether the module is training: layers such as `Dropout` act only then. Set it with `train()` and `eval()`. */
  training = true;
  /** Names of buffers, and whether each is written to state dicts. */
  readonly #buffers = new Map<string, boolean>();

  /** Direct children with their names. */
  namedChildren(): [string, Module][] {
    return Object.entries(this).filter((entry): entry is [string, Module] => entry[1] instanceof Module);
  }

  /** Direct children. */
  children(): Module[] {
    return this.namedChildren().map(([, child]) => child);
  }

  /** The module itself (named by `prefix`) and all modules below it, parents first; a shared module once. */
  namedModules(prefix = ''): [string, Module][] {
    checkPrefix(prefix, 'namedModules()');
    const found = new Map<Module, string>();
    const visit = (module: Module, name: string): void => {
      if (found.has(module)) return;
      found.set(module, name);
      for (const [child, value] of module.namedChildren()) visit(value, join(name, child));
    };
    visit(this, prefix);
    return Array.from(found, ([module, name]) => [name, module]);
  }

  /** The module itself and all modules below it, parents first; a shared module once. */
  modules(): Module[] {
    return this.namedModules().map(([, module]) => module);
  }

  /** All parameters with their dotted names, in PyTorch's order; a shared parameter once, under its first name. */
  namedParameters(prefix = ''): [string, Parameter][] {
    return unique(this.namedModules(prefix).flatMap(([path, module]) => named(path, module.ownParameters())));
  }

  /** All parameters; a shared one once. */
  parameters(): Parameter[] {
    return this.namedParameters().map(([, parameter]) => parameter);
  }

  /** All buffers with their dotted names; a shared buffer once, under its first name. */
  namedBuffers(prefix = ''): [string, Tensor][] {
    return unique(this.namedModules(prefix).flatMap(([path, module]) => named(path, module.ownBuffers())));
  }

  /** All buffers; a shared one once. */
  buffers(): Tensor[] {
    return this.namedBuffers().map(([, buffer]) => buffer);
  }

  /** Number of elements of all parameters; shared ones count once. */
  numParameters(): number {
    return this.parameters().reduce((sum, parameter) => sum + parameter.numel(), 0);
  }

  /** Sets `this[name]` to a parameter; null keeps the name without one. */
  registerParameter(name: string, parameter: Parameter | null): void {
    const isFine = parameter === null || parameter instanceof Parameter;
    checkArgument(isFine, 'a Parameter or null', parameter, 'registerParameter()');
    this.register(name, parameter);
  }

  /**
   * Sets `this[name]` to a tensor that is part of the module's state but not learned.
   *
   * @param options.persistent whether state dicts hold it; default true
   */
  registerBuffer(name: string, buffer: Tensor | null, options: { persistent?: boolean } = {}): void {
    const isFine = buffer === null || buffer instanceof Tensor;
    checkArgument(isFine, 'a tensor or null', buffer, 'registerBuffer()');
    checkOptions(options, ['persistent'], 'registerBuffer()');
    checkFlags(options, 'registerBuffer()');
    this.register(name, buffer === null ? null : keep(buffer));
    this.#buffers.set(name, options.persistent ?? true);
  }

  /** Sets `this[name]` to a child (PyTorch's `add_module`). */
  registerModule(name: string, module: Module | null): void {
    const isFine = module === null || module instanceof Module;
    checkArgument(isFine, 'a module or null', module, 'registerModule()');
    this.register(name, module);
  }

  private register(name: string, value: Parameter | Tensor | Module | null): void {
    checkArgument(typeof name === 'string', 'a name', name, this.constructor.name);
    if (name === '' || name.includes('.')) {
      throw new TorchBindError(
        `A name in a module must not be empty or hold a dot: '${name}'.`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    if (name in this && Reflect.get(this, name) !== undefined && Reflect.get(this, name) !== null) {
      throw new TorchBindError(
        `${this.constructor.name} already has a property '${name}'.`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    Reflect.set(this, name, value);
  }

  /** Calls `fn` with every module below and then this one (PyTorch's `Module.apply`). */
  apply(fn: (module: Module) => void): this {
    checkFunction(fn, 'apply()');
    for (const child of this.children()) child.apply(fn);
    fn(this);
    return this;
  }

  /** Sets this module and all below it to training (or, with false, to evaluation). */
  train(mode = true): this {
    checkFlags({ mode }, 'train()');
    for (const module of this.modules()) module.training = mode;
    return this;
  }

  /** Sets this module and all below it to evaluation: dropout is off. */
  eval(): this {
    return this.train(false);
  }

  /** Sets `requiresGrad` of all parameters. */
  requiresGrad_(value = true): this {
    checkFlags({ value }, 'requiresGrad_()');
    for (const parameter of this.parameters()) parameter.requiresGrad = value;
    return this;
  }

  /** Drops the gradients of all parameters (PyTorch's `zero_grad(set_to_none=True)`). */
  zeroGrad(): void {
    for (const parameter of this.parameters()) parameter.grad = null;
  }

  /** Moves or casts all parameters, their gradients and buffers, in place: an optimizer over them stays valid. */
  to(target: DType | DeviceName | ModuleToOptions): this {
    const options: ModuleToOptions =
      typeof target !== 'string' ? target : isDType(target) ? { dtype: target } : { device: target };
    requireOptions(options, ['device', 'dtype'], 'to()');
    if (options.dtype !== undefined) checkDType(options.dtype, 'to()');
    if (options.device !== undefined)
      checkArgument(typeof options.device === 'string', 'a device', options.device, 'to()');
    noGrad(() =>
      tidy(() => {
        for (const tensor of [...this.parameters(), ...this.buffers()]) convert(tensor, options);
      }),
    );
    return this;
  }

  /**
   * The values of all parameters and persistent buffers by name, with `_metadata` as PyTorch writes it. The tensors
   * share memory with the module, but where the module holds several of them in one parameter.
   */
  stateDict(prefix = ''): OrderedDict<string, Tensor> {
    checkPrefix(prefix, 'stateDict()');
    return this.stateOf(prefix, ({ tensor, part }) =>
      part === true ? tensor.clone({ memoryFormat: 'contiguous_format' }) : tensor,
    );
  }

  /** @internal A state dict with what `valueOf` gives for each entry. */
  stateOf(prefix: string, valueOf: (entry: StateEntry) => Tensor): OrderedDict<string, Tensor> {
    const state = tidy(() => new OrderedDict(this.stateEntries(prefix).map((entry) => [entry.key, valueOf(entry)])));
    const metadata = new OrderedDict<string, Map<string, number>>();
    for (const path of this.statePaths(prefix)) metadata.set(path, new Map([['version', 1]]));
    state.attributes.set('_metadata', metadata);
    return state;
  }

  /**
   * Copies values into the parameters and buffers, converting dtype and device. Nothing is copied when anything is wrong.
   *
   * @param options.strict default true: missing and unexpected keys are an error; with false they are only returned
   * @throws ERR_TORCHBIND_STATE_DICT listing missing keys, unexpected keys and shapes that differ, in PyTorch's words
   */
  loadStateDict(state: ReadonlyMap<string, unknown>, options: { strict?: boolean } = {}): IncompatibleKeys {
    if (!(state instanceof Map)) {
      throw new TorchBindError(
        `loadStateDict: expected a Map from names to tensors, got ${describe(state)}. An object becomes one with new Map(Object.entries(object)).`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    checkOptions(options, ['strict'], 'loadStateDict()');
    checkFlags(options, 'loadStateDict()');
    return tidy(() => loadEntries(this.constructor.name, this.stateEntries(''), state, options.strict ?? true));
  }

  /**
   * @internal As `loadStateDict`, off the event loop, for a module and a state dict that nobody else holds: its values become
   * the module's own where they can.
   */
  adoptStateDict(state: ReadonlyMap<string, unknown>): Promise<void> {
    return tidy(async () => {
      const entries = this.stateEntries('');
      await nextTurn();
      return adoptEntries(this, entries, state);
    });
  }

  /** What the module's print says of its settings (PyTorch's `extra_repr`). Subclasses override it; several lines are printed one below the other. */
  extraRepr(): string {
    return '';
  }

  /** The tree of the module and its children, as Python's `repr` prints it; `console.log(module)` prints it too. */
  toString(): string {
    return formatModule(this);
  }

  /** What `console.log` prints. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }

  /** Frees all parameters and buffers now. */
  dispose(): void {
    for (const tensor of [...this.parameters(), ...this.buffers()]) tensor.dispose();
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal The tensors that a state dict of this module holds, in order; shared ones under each of their names. */
  stateEntries(prefix: string): StateEntry[] {
    const own = [...this.ownParameters(), ...this.ownBuffers().filter(([name]) => this.#buffers.get(name))];
    const entries: StateEntry[] = own.map(([name, tensor]) => ({
      key: join(prefix, name),
      tensor: tensor.detach(),
      whole: tensor,
    }));
    return entries.concat(this.namedChildren().flatMap(([name, child]) => child.stateEntries(join(prefix, name))));
  }

  /** @internal Paths of the modules that `_metadata` of a state dict lists. */
  statePaths(prefix: string): string[] {
    return [prefix, ...this.namedChildren().flatMap(([name, child]) => child.statePaths(join(prefix, name)))];
  }

  /** @internal Whether the children are numbered, and equal neighbours print as one line. */
  isList(): boolean {
    return false;
  }

  /** @internal Names of own buffers, and whether each is written to state dicts. */
  bufferNames(): ReadonlyMap<string, boolean> {
    return this.#buffers;
  }

  private ownParameters(): [string, Parameter][] {
    return Object.entries(this).filter((entry): entry is [string, Parameter] => entry[1] instanceof Parameter);
  }

  private ownBuffers(): [string, Tensor][] {
    return Object.entries(this).filter(
      (entry): entry is [string, Tensor] => entry[1] instanceof Tensor && this.#buffers.has(entry[0]),
    );
  }
}

/** A module of one input and one output, as `Sequential` takes it. */
export interface Layer extends Module {
  forward(input: Tensor): Tensor;
}

function checkPrefix(prefix: unknown, where: string): void {
  checkArgument(typeof prefix === 'string', 'a prefix of names', prefix, where);
}

function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}

function named<T>(path: string, entries: [string, T][]): [string, T][] {
  return entries.map(([name, value]) => [join(path, name), value]);
}

/** The entries without those whose value came before under another name. */
function unique<T>(entries: [string, T][]): [string, T][] {
  const names = new Map<T, string>();
  for (const [name, value] of entries) if (!names.has(value)) names.set(value, name);
  return Array.from(names, ([value, name]) => [name, value]);
}

/** Gives a tensor, and its gradient, new data under the same identity. */
function convert(tensor: Tensor, { device, dtype }: ModuleToOptions): void {
  const floating = tensor.dtype.includes('float');
  const converted = tensor.detach().to({ device, dtype: floating ? dtype : undefined });
  const gradient = tensor.grad;
  tensor.grad = null;
  setData(tensor, converted);
  if (gradient !== null) tensor.grad = gradient.to({ device, dtype });
}
