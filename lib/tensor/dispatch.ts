import { closest, describe, TorchBindError } from '../errors';
import { native } from '../native/native';
import { Tensor, wrap } from './core';
import { bindArguments, gatherFrom, isOptions, Operator, sizesStart } from './operator';
import { isDType } from './dtype';
import { isScalar } from './schema-types';
import type { Scalar } from './schema-types';

/** Overload names by operator: `aten::add` -> ['Tensor', 'Scalar', 'out', ...]. */
let overloadNames: Map<string, string[]> | undefined;

function namesOf(name: string): string[] | undefined {
  if (overloadNames === undefined) {
    overloadNames = new Map();
    for (const full of native().operatorNames()) {
      const dot = full.indexOf('.');
      const base = dot < 0 ? full : full.slice(0, dot);
      const overload = dot < 0 ? '' : full.slice(dot + 1);
      const known = overloadNames.get(base);
      if (known === undefined) overloadNames.set(base, [overload]);
      else known.push(overload);
    }
  }
  return overloadNames.get(name);
}

/** Overloads that take tensors are tried before those that take plain numbers, as PyTorch's own argument parser does. */
function rank(operator: Operator): number {
  const numbers = operator.parameters.filter((parameter) => parameter.base === 'scalar' && !parameter.kwargOnly).length;
  return (operator.hasOut ? 1000 : 0) + numbers;
}

/** Where options of certain names go among the arguments of an overload. */
class Plan {
  private readonly positions: readonly number[];

  constructor(
    readonly operator: Operator,
    private readonly keys: readonly string[],
  ) {
    this.positions = keys.map((key) => operator.indexOf(key));
  }

  place(args: readonly unknown[], options: Record<string, unknown>): unknown[] {
    const bound = args.slice(0, -1);
    for (let i = 0; i < this.keys.length; i++) {
      const position = this.positions[i]!;
      while (bound.length < position) bound.push(undefined);
      bound[position] = options[this.keys[i]!];
    }
    return bound;
  }
}

/** Operators of two tensors that take a number in place of the first, as PyTorch's functions do: `sub(1, x)`. */
const NUMBER_FIRST = new Set(
  'add sub subtract mul multiply div divide true_divide floor_divide fmod atan2 arctan2 eq ne lt le gt ge not_equal less less_equal greater greater_equal maximum minimum fmax fmin copysign hypot logaddexp logaddexp2 logical_and logical_or logical_xor'
    .split(' ')
    .map((name) => `aten::${name}`),
);

/** NumPy's names of arguments, which Python's functions take too. */
const NUMPY_NAMES: ReadonlyMap<string, string> = new Map([
  ['axis', 'dim'],
  ['keepdims', 'keepdim'],
]);

/** An overload for arguments of certain types, and where those begin that are the items of a list of sizes, or -1. */
interface Choice {
  operator: Operator;
  sizesAt: number;
}

/** All overloads of one operator, and the choice among them by the arguments. */
export class OverloadSet {
  private operators: Operator[] | undefined;
  /** Overloads that were chosen, by the types of the arguments: choosing costs more than the call. */
  private readonly chosen = new Map<number, Choice>();
  private readonly plans = new Map<string, Plan>();
  private readonly ofOne: (Operator | undefined)[] = new Array<Operator | undefined>(16).fill(undefined);
  private readonly ofTwo: (Operator | undefined)[] = new Array<Operator | undefined>(256).fill(undefined);

  private readonly takesNumberFirst: boolean;

  constructor(readonly name: string) {
    this.takesNumberFirst = NUMBER_FIRST.has(name);
  }

  get overloads(): Operator[] {
    if (this.operators === undefined) {
      const names = namesOf(this.name);
      if (names === undefined) this.unknown();
      this.operators = names.map((overload) => new Operator(this.name, overload)).sort((a, b) => rank(a) - rank(b));
    }
    return this.operators;
  }

  /** A call with one argument: the overload is found without arrays where it was found before. */
  call1(a: unknown): unknown {
    const known = this.ofOne[typeCode(a)];
    return known === undefined ? this.call([a]) : known.call1(a);
  }

  /** A call with two arguments. */
  call2(a: unknown, b: unknown): unknown {
    const known = this.ofTwo[typeCode(a) * 16 + typeCode(b)];
    return known === undefined ? this.call([a, b]) : known.call2(a, b);
  }

  /** A call with three arguments, the last two of which may be sizes: `x.view(2, 3)`. */
  call3(a: unknown, b: unknown, c: unknown): unknown {
    const [first, second, third] = [typeCode(a), typeCode(b), typeCode(c)];
    const settled = first !== 0 && second !== 0 && third !== 0;
    const known = settled ? this.chosen.get(((16 + first) * 16 + second) * 16 + third) : undefined; // as `signature`
    if (known === undefined || known.sizesAt === 0) return this.call([a, b, c]);
    if (known.sizesAt === 1) return known.operator.call2(a, [b, c]);
    return known.sizesAt < 0 ? known.operator.call3(a, b, c) : known.operator.call([a, b, [c]]);
  }

  call(args: readonly unknown[]): unknown {
    if (this.takesNumberFirst && isScalar(args[0]) && args[1] instanceof Tensor) return this.callNumberFirst(args);
    const last = args[args.length - 1];
    return isOptions(last) ? this.callWithOptions(args, last) : this.callPositional(args);
  }

  /** `sub(1, x)`, with the number as a tensor that is promoted as a number. */
  private callNumberFirst([first, ...rest]: readonly unknown[]): unknown {
    const number = wrap(native().wrappedNumber(first as Scalar));
    try {
      return this.call([number, ...rest]);
    } finally {
      number.dispose();
    }
  }

  private callPositional(args: readonly unknown[]): unknown {
    const key = signature(args, args.length);
    const known = key === 0 ? undefined : this.chosen.get(key);
    if (known !== undefined) return known.operator.call(gatherFrom(args, known.sizesAt));
    const [operator, bound] = this.choose(args);
    if (key !== 0) this.remember(key, args, operator, bound);
    return operator.call(bound);
  }

  private callWithOptions(args: readonly unknown[], options: Record<string, unknown>): unknown {
    const count = args.length - 1;
    const key = optionsKey(signature(args, count), options);
    const plan = key === '' ? undefined : this.plans.get(key);
    if (plan !== undefined) return plan.operator.call(plan.place(args, options));
    const [operator, bound] = this.choose(args);
    if (key !== '' && !Array.isArray(options['out']) && startsWith(bound, args, count))
      this.plans.set(key, new Plan(operator, Object.keys(options)));
    return operator.call(bound);
  }

  /** The first overload that takes the arguments, and the arguments in its order. */
  private choose(args: readonly unknown[]): [Operator, unknown[]] {
    // `hsplit(x, 2)` is two parts; only where no overload takes a number do numbers stand for a list: `x.view(2)`.
    for (const gather of [false, true]) {
      for (const operator of this.overloads) {
        const bound = bindArguments(operator, args, gather);
        if (bound !== undefined) return [operator, bound];
      }
    }
    this.mismatch(args);
  }

  private remember(key: number, args: readonly unknown[], operator: Operator, bound: readonly unknown[]): void {
    const sizesAt = sizesStart(operator.parameters, args);
    const asTheyCame = gatherFrom(args, sizesAt);
    const settled = bound.length === asTheyCame.length && startsWith(bound, args, sizesAt < 0 ? args.length : sizesAt);
    if (!settled) return;
    this.chosen.set(key, { operator, sizesAt });
    if (sizesAt >= 0) return;
    if (args.length === 1) this.ofOne[typeCode(args[0])] = operator;
    if (args.length === 2) this.ofTwo[typeCode(args[0]) * 16 + typeCode(args[1])] = operator;
  }

  private mismatch(args: readonly unknown[]): never {
    const got = args.map(describeArgument).join(', ');
    const candidates = this.overloads
      .filter((operator) => !operator.hasOut)
      .map((operator) => ` * ${operator.declaration}`);
    throw new TorchBindError(
      `${this.name.replace(/^aten::/, '')}() received an invalid combination of arguments: got (${got}), but expected one of:\n${candidates.join('\n')}${this.hint(args)}`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }

  /** What to do about arguments that no overload takes. */
  private hint(args: readonly unknown[]): string {
    const last = args[args.length - 1];
    if (!isOptions(last)) return this.positionalHint(args);
    const keys = new Set(this.overloads.flatMap((operator) => operator.parameters.map((parameter) => parameter.key)));
    const stray = Object.keys(last).find((key) => !keys.has(key));
    if (stray === undefined) return '';
    const near = NUMPY_NAMES.get(stray) ?? closest(stray, [...keys]);
    return `\nUnknown option '${stray}'.${near === undefined ? '' : ` Did you mean '${near}'?`}`;
  }

  private positionalHint(args: readonly unknown[]): string {
    const wanted = (i: number): Set<string | undefined> =>
      new Set(this.overloads.filter((operator) => !operator.hasOut).map((operator) => operator.parameters[i]?.base));
    for (const [i, value] of args.entries()) {
      const bases = wanted(i);
      const only = bases.size === 1 ? [...bases][0] : undefined;
      if (only === 'int' && typeof value === 'number' && !Number.isInteger(value)) {
        return `\nAn index, a dimension or a size is a whole number, not ${value}.`;
      }
      const takesList = this.overloads.some((operator) => operator.parameters[i]?.list === true);
      if (only === 'tensor' && takesList && value instanceof Tensor) return '\nThe tensors come in one array: [a, b].';
      if (only === 'tensor' && (typeof value === 'number' || Array.isArray(value))) {
        return '\nNumbers become a tensor with tensor(...).';
      }
    }
    return '';
  }

  private unknown(): never {
    const name = this.name;
    const near = closest(name, [...(overloadNames?.keys() ?? [])]);
    throw new TorchBindError(
      `libtorch has no operator ${name}.${near === undefined ? '' : ` Did you mean ${near}?`}`,
      'ERR_TORCHBIND_UNKNOWN_OPERATOR',
    );
  }
}

function describeArgument(value: unknown): string {
  if (value instanceof Tensor) return 'Tensor';
  if (Array.isArray(value))
    return `[${value.slice(0, 8).map(describeArgument).join(', ')}${value.length > 8 ? ', ...' : ''}]`;
  if (isOptions(value)) return `{ ${Object.keys(value).join(', ')} }`.replace('{  }', '{}');
  return describe(value);
}

/** Whether the first `count` arguments went into an overload as they came. */
function startsWith(bound: readonly unknown[], args: readonly unknown[], count: number): boolean {
  for (let i = 0; i < count; i++) if (bound[i] !== args[i]) return false;
  return true;
}

/** A number that is equal for equal types of the first `count` arguments; 0 where types do not settle the overload. */
function signature(args: readonly unknown[], count: number): number {
  if (count > 8) return 0;
  let key = 1;
  for (let i = 0; i < count; i++) {
    const code = typeCode(args[i]);
    if (code === 0) return 0;
    key = key * 16 + code;
  }
  return key;
}

/** As `signature`, for options beside the positional arguments; '' where types do not settle the overload. */
function optionsKey(positional: number, options: Record<string, unknown>): string {
  if (positional === 0) return '';
  let key = String(positional);
  for (const name of Object.keys(options)) {
    const code = typeCode(options[name]);
    if (code === 0) return '';
    key += ` ${name} ${code}`;
  }
  return key;
}

/** The type of an argument as overloads distinguish it, below 16; 0 for any other. */
function typeCode(value: unknown): number {
  if (value instanceof Tensor) return 1;
  switch (typeof value) {
    case 'number':
      return Number.isInteger(value) ? 2 : 3;
    case 'boolean':
      return 4;
    case 'bigint':
      return 5;
    case 'string':
      return isDType(value) ? 6 : 9;
    case 'undefined':
      return 10;
    case 'object':
      return value === null ? 11 : listCode(value);
    default:
      return 0;
  }
}

function listCode(value: object): number {
  if (!Array.isArray(value) || value.length === 0 || value.length > 64) return 0;
  if (value.every((item) => item instanceof Tensor)) return 7;
  return value.every((item) => Number.isInteger(item)) ? 8 : 0;
}

const sets = new Map<string, OverloadSet>();

export function overloadSet(name: string): OverloadSet {
  let set = sets.get(name);
  if (set === undefined) {
    set = new OverloadSet(name);
    sets.set(name, set);
  }
  return set;
}

/** @internal A function that calls an aten operator by its base name. `F` is its type, from the schemas. */
export function bindFunction<F>(name: string): F {
  let set: OverloadSet | undefined;
  const call = (...args: unknown[]): unknown => {
    set ??= overloadSet(`aten::${name}`);
    if (args.length === 1) return set.call1(args[0]);
    if (args.length === 2) return set.call2(args[0], args[1]);
    return args.length === 3 ? set.call3(args[0], args[1], args[2]) : set.call(args);
  };
  return call as F;
}

/** @internal A method that calls an aten operator with the tensor as its first argument. */
export function bindMethod(name: string): (this: Tensor, ...args: unknown[]) => unknown {
  let set: OverloadSet | undefined;
  return function (...args) {
    set ??= overloadSet(`aten::${name}`);
    if (args.length === 0) return set.call1(this);
    if (args.length === 1) return set.call2(this, args[0]);
    return args.length === 2 ? set.call3(this, args[0], args[1]) : set.call([this, ...args]);
  };
}

/** One overload of an operator, with arguments in schema order or named in trailing options. */
export type RawOverload = <Result = Tensor>(...args: unknown[]) => Result;

/** An operator: call it to have the overload chosen, or name the overload: `ops.aten.add.Tensor(a, b)`. */
export type RawOperator = RawOverload & Readonly<Record<string, RawOverload>>;

/** Operators of one namespace by PyTorch's own names. */
export type OperatorNamespace = Readonly<Record<string, RawOperator>>;

function rawOverload(name: string, overload: string): RawOverload {
  const known = namesOf(name) ?? [];
  if (!known.includes(overload)) {
    throw new TorchBindError(
      `${name} has no overload '${overload}'. It has: ${known.map((other) => (other === '' ? 'default' : other)).join(', ')}.`,
      'ERR_TORCHBIND_UNKNOWN_OPERATOR',
    );
  }
  const operator = new Operator(name, overload);
  return (<Result>(...args: unknown[]) => {
    const bound = bindArguments(operator, args);
    if (bound === undefined) {
      throw new TorchBindError(
        `${name}: got (${args.map(describeArgument).join(', ')}), but expected ${operator.declaration}`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    return operator.call(bound) as Result;
  }) as RawOverload;
}

/** An object whose properties are made when they are first asked for. */
function lazy<T extends object>(target: T, make: (key: string) => unknown): T {
  return new Proxy(target, {
    get(object, key, receiver): unknown {
      if (typeof key !== 'string' || key === 'then' || Reflect.has(object, key))
        return Reflect.get(object, key, receiver);
      const value = make(key);
      Reflect.set(object, key, value);
      return value;
    },
  });
}

function rawOperator(name: string): RawOperator {
  const set = overloadSet(name);
  void set.overloads; // an unknown name is refused here, not at the call
  const call = (...args: unknown[]): unknown => set.call(args);
  // Function has properties of its own (`name`, `length`) that would hide overloads.
  Object.setPrototypeOf(call, null);
  return lazy(call, (overload) => rawOverload(name, overload === 'default' ? '' : overload)) as unknown as RawOperator;
}

function namespace(space: string): OperatorNamespace {
  return lazy(Object.create(null) as Record<string, RawOperator>, (name) => rawOperator(`${space}::${name}`));
}

interface OperatorTools {
  loadLibrary(path: string): void;
  allowUnsafe(name: string): void;
}

/**
 * Every operator that libtorch has registered, under PyTorch's own names: `ops.aten.add.Tensor(a, b)`,
 * `ops.aten.add(a, b)`. The overload without a name is `default`. PyTorch's `torch.ops`.
 */
export const ops = lazy(
  {
    /** Loads a library that registers operators of its own (PyTorch's `torch.ops.load_library`). */
    loadLibrary(path: string): void {
      native().loadLibrary(path);
      overloadNames = undefined;
    },
    /**
     * Lets an operator be called, in this thread, that is refused with `ERR_TORCHBIND_UNSAFE_OPERATOR`: libtorch's kernel
     * trusts its arguments, and wrong ones end the process.
     *
     * @param name without overload: `aten::_stack`
     */
    allowUnsafe(name: string): void {
      native().allowUnsafe(name);
    },
  } as OperatorTools & Readonly<Record<string, OperatorNamespace>>,
  namespace,
);
