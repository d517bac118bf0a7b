import { native } from '../native/native';
import { Tensor, wrap } from './core';
import { isDType } from './dtype';
import { mismatch } from './mismatch';
import { bindArguments, gatherFrom, isOptions, Operator, sizesStart } from './operator';
import { overloadNames, unknownOperator } from './overload-names';
import { isScalar } from './schema-types';
import type { Scalar } from './schema-types';

/**
 * How a call finds its overload. `x.add(y)` meets all overloads of `aten::add`; comparing the arguments with their schemas
 * takes longer than adding. So the first call with arguments of certain types compares (`OverloadSet.choose`), and the
 * choice is remembered by these types (`KnownChoices`). Later calls go straight to the operator, those with one or two
 * arguments without making an array:
 *
 *     x.add(y) -> call2 -> KnownChoices.ofTwo -> Operator.call2     every call but the first
 *                       -> call -> choose -> Operator.call          the first
 */

/** The type of an argument as far as overloads tell types apart. Below 16, so that several pack into one number. */
const enum Type {
  /**
   * The argument types do not determine the overload (`[]` is a list of tensors or of sizes): such calls are not
   * cached.
   */
  Unsettled = 0,
  Tensor,
  Integer,
  Fraction,
  Boolean,
  BigInt,
  DType,
  TensorList,
  IntegerList,
  Text,
  Undefined,
  Null,
}

/** Types fit into four bits. */
const TYPES = 16;

function typeOf(value: unknown): Type {
  if (value instanceof Tensor) return Type.Tensor;
  switch (typeof value) {
    case 'number':
      return Number.isInteger(value) ? Type.Integer : Type.Fraction;
    case 'boolean':
      return Type.Boolean;
    case 'bigint':
      return Type.BigInt;
    case 'string':
      return isDType(value) ? Type.DType : Type.Text;
    case 'undefined':
      return Type.Undefined;
    case 'object':
      return value === null ? Type.Null : typeOfList(value);
    default:
      return Type.Unsettled;
  }
}

function typeOfList(value: object): Type {
  if (!Array.isArray(value) || value.length === 0 || value.length > 64) return Type.Unsettled;
  if (value.every((item) => item instanceof Tensor)) return Type.TensorList;
  return value.every((item) => Number.isInteger(item)) ? Type.IntegerList : Type.Unsettled;
}

/** The types of some arguments as one number; 0 where they do not settle the overload. */
type TypeKey = number;
const UNSETTLED: TypeKey = 0;
/** More types than these do not fit a number that V8 keeps without allocating. */
const MOST_TYPES = 8;

/** A leading 1 keeps keys of different lengths apart. */
function keyOf(args: readonly unknown[], count: number): TypeKey {
  if (count > MOST_TYPES) return UNSETTLED;
  let key = 1;
  for (let i = 0; i < count; i++) {
    const type = typeOf(args[i]);
    if (type === Type.Unsettled) return UNSETTLED;
    key = key * TYPES + type;
  }
  return key;
}

/** `keyOf([a, b, c], 3)` without the array. */
function keyOfThree(a: unknown, b: unknown, c: unknown): TypeKey {
  const [first, second, third] = [typeOf(a), typeOf(b), typeOf(c)];
  if (first === Type.Unsettled || second === Type.Unsettled || third === Type.Unsettled) return UNSETTLED;
  return ((TYPES + first) * TYPES + second) * TYPES + third;
}

/** As `keyOf`, for options besides the positional arguments; '' where the types do not settle the overload. */
function keyWithOptions(positional: TypeKey, options: Record<string, unknown>): string {
  if (positional === UNSETTLED) return '';
  let key = String(positional);
  for (const name of Object.keys(options)) {
    const type = typeOf(options[name]);
    if (type === Type.Unsettled) return '';
    key += ` ${name} ${type}`;
  }
  return key;
}

/** A chosen overload, and where the arguments begin that are the items of a list of sizes (`x.view(2, 3)`), or -1. */
interface Choice {
  operator: Operator;
  sizesAt: number;
}

/** The overloads that were chosen for arguments in schema order, by the types of the arguments. */
class KnownChoices {
  private readonly byKey = new Map<TypeKey, Choice>();
  /** Of `byKey`, those that take one or two arguments as they are: an array is read faster than a map. */
  private readonly byType = new Array<Operator | undefined>(TYPES).fill(undefined);
  private readonly byTypes = new Array<Operator | undefined>(TYPES * TYPES).fill(undefined);

  ofOne(a: unknown): Operator | undefined {
    return this.byType[typeOf(a)];
  }

  ofTwo(a: unknown, b: unknown): Operator | undefined {
    return this.byTypes[typeOf(a) * TYPES + typeOf(b)];
  }

  ofThree(a: unknown, b: unknown, c: unknown): Choice | undefined {
    return this.of(keyOfThree(a, b, c));
  }

  of(key: TypeKey): Choice | undefined {
    return key === UNSETTLED ? undefined : this.byKey.get(key);
  }

  add(key: TypeKey, choice: Choice, args: readonly unknown[]): void {
    this.byKey.set(key, choice);
    if (choice.sizesAt >= 0) return;
    if (args.length === 1) this.byType[typeOf(args[0])] = choice.operator;
    if (args.length === 2) this.byTypes[typeOf(args[0]) * TYPES + typeOf(args[1])] = choice.operator;
  }
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

/** Overloads that take tensors are tried before those that take plain numbers, as PyTorch's own argument parser does. */
function rank(operator: Operator): number {
  const numbers = operator.parameters.filter((parameter) => parameter.base === 'scalar' && !parameter.kwargOnly).length;
  return (operator.hasOut ? 1000 : 0) + numbers;
}

/** All overloads of one operator, and the choice among them by the arguments. */
export class OverloadSet {
  private operators: Operator[] | undefined;
  private readonly known = new KnownChoices();
  /** The overloads that were chosen for calls with options, by the types of all arguments and the options' names. */
  private readonly plans = new Map<string, Plan>();
  private readonly takesNumberFirst: boolean;

  constructor(readonly name: string) {
    this.takesNumberFirst = NUMBER_FIRST.has(name);
  }

  get overloads(): Operator[] {
    if (this.operators === undefined) {
      const names = overloadNames(this.name);
      if (names === undefined) throw unknownOperator(this.name);
      this.operators = names.map((overload) => new Operator(this.name, overload)).sort((a, b) => rank(a) - rank(b));
    }
    return this.operators;
  }

  /** A call with one argument. */
  call1(a: unknown): unknown {
    const known = this.known.ofOne(a);
    return known === undefined ? this.call([a]) : known.call1(a);
  }

  /** A call with two arguments. */
  call2(a: unknown, b: unknown): unknown {
    const known = this.known.ofTwo(a, b);
    return known === undefined ? this.call([a, b]) : known.call2(a, b);
  }

  /** A call with three arguments, the last two of which may be sizes: `x.view(2, 3)`. */
  call3(a: unknown, b: unknown, c: unknown): unknown {
    const known = this.known.ofThree(a, b, c);
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
    const key = keyOf(args, args.length);
    const known = this.known.of(key);
    if (known !== undefined) return known.operator.call(gatherFrom(args, known.sizesAt));
    const [operator, bound] = this.choose(args);
    if (key !== UNSETTLED) this.remember(key, args, operator, bound);
    return operator.call(bound);
  }

  private callWithOptions(args: readonly unknown[], options: Record<string, unknown>): unknown {
    const count = args.length - 1;
    const key = keyWithOptions(keyOf(args, count), options);
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
    throw mismatch(this.name, this.overloads, args);
  }

  /** Keeps the choice where the arguments went into the overload as they came, but for sizes that became a list. */
  private remember(key: TypeKey, args: readonly unknown[], operator: Operator, bound: readonly unknown[]): void {
    const sizesAt = sizesStart(operator.parameters, args);
    const sameCount = bound.length === gatherFrom(args, sizesAt).length;
    const asTheyCame = sameCount && startsWith(bound, args, sizesAt < 0 ? args.length : sizesAt);
    if (asTheyCame) this.known.add(key, { operator, sizesAt }, args);
  }
}

/** Whether the first `count` arguments went into an overload as they came. */
function startsWith(bound: readonly unknown[], args: readonly unknown[], count: number): boolean {
  for (let i = 0; i < count; i++) if (bound[i] !== args[i]) return false;
  return true;
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
