import { TorchBindError } from '../errors';
import type { ArgumentSchema, Handle, OperatorId } from '../native/binding';
import { native, slots } from '../native/native';
import { Tensor, unwrap } from './core';
import { dtypeFromCode, isDType } from './dtype';
import { tupleClass } from './named-tuple';
import { Generator } from './random';
import { isComplex, isScalar } from './schema-types';
import { isPlainObject } from '../objects';
import { place, takeOwnFlag } from './ownership';

/** One argument of an operator: how to recognise values for it, and its name in JavaScript. */
export interface Parameter {
  name: string;
  /** camelCase: the key in an options object. */
  key: string;
  /** `Tensor`, `int`, ... without `?`, `[]` and sizes; SymInt counts as int. */
  base: string;
  list: boolean;
  /** Elements of the list may be null (`Tensor?[]`). */
  optionalItems: boolean;
  optional: boolean;
  /** `int[2]`: one value stands for all. */
  fixedSize: boolean;
  hasDefault: boolean;
  kwargOnly: boolean;
  isOut: boolean;
  /** Holds handles when it crosses to C++. */
  isTensor: boolean;
  isGenerator: boolean;
}

/** `scaled_dot_product_attention` -> `scaledDotProductAttention`; leading and trailing underscores stay. */
export function camelCase(name: string): string {
  return name.replace(/([a-z0-9])_+([a-z0-9])/gi, (_, before: string, letter: string) => before + letter.toUpperCase());
}

function parseParameter(schema: ArgumentSchema): Parameter {
  const optional = schema.type.endsWith('?');
  const type = optional ? schema.type.slice(0, -1) : schema.type;
  const list = /^(.*)\[(\d*)\]$/.exec(type);
  const element = list === null ? type : list[1]!;
  const optionalItems = element.endsWith('?');
  const base = (optionalItems ? element.slice(0, -1) : element).replace(/^Sym/, '').toLowerCase();
  return {
    name: schema.name,
    key: camelCase(schema.name),
    base,
    list: list !== null,
    optionalItems,
    optional,
    fixedSize: list !== null && list[2] !== '',
    hasDefault: schema.hasDefault,
    kwargOnly: schema.kwargOnly,
    isOut: schema.isOut,
    isTensor: base === 'tensor' || base === 'storage',
    isGenerator: base === 'generator',
  };
}

/** What an operator of a common signature takes, which the addon's `callDirect` calls without boxing (see binding.ts). */
const enum Direct {
  Tensor = 1,
  TwoTensors,
  TensorAndSizes,
  TensorAndNumber,
}
const MOST_SIZES = 8;

/** One overload of an operator, looked up once. */
export class Operator {
  readonly id: OperatorId;
  readonly declaration: string;
  readonly parameters: readonly Parameter[];
  private readonly returns: readonly string[];
  /** The class of several results that have names. */
  private readonly tuple: (new () => unknown[]) | undefined;
  private readonly aliases: readonly number[];
  /** The usual case: one new tensor. */
  private readonly givesTensor: boolean;
  private readonly direct: Direct;
  private readonly callDirect: () => void;

  constructor(
    readonly name: string,
    readonly overload: string,
  ) {
    this.id = native().findOperator(name, overload);
    const schema = native().schema(this.id);
    this.declaration = schema.declaration;
    this.parameters = schema.arguments.map(parseParameter);
    this.returns = schema.returns;
    const named = schema.returns.length > 1 && schema.returnNames.every((name) => name !== '');
    this.tuple = named ? tupleClass(schema.returnNames.map(camelCase)) : undefined;
    this.aliases = schema.aliases;
    this.givesTensor = schema.returns.length === 1 && schema.returns[0] === 'Tensor' && schema.aliases[0] === -1;
    this.direct = schema.direct;
    this.callDirect = native().callDirect;
  }

  /** Whether it writes into tensors given as `out`. */
  get hasOut(): boolean {
    return this.parameters.some((parameter) => parameter.isOut);
  }

  /** Index of the argument with this name (PyTorch's or camelCase), or -1. */
  indexOf(name: string): number {
    return this.parameters.findIndex((parameter) => parameter.key === name || parameter.name === name);
  }

  /** Where the tensors stand that it writes into. */
  get outputs(): readonly number[] {
    return this.parameters.flatMap((parameter, i) => (parameter.isOut ? [i] : []));
  }

  /** Calls it with arguments in schema order; tensors as tensors, `undefined` for a default. */
  call(args: readonly unknown[]): unknown {
    if (args.length > this.parameters.length) this.tooMany(args.length);
    if (args.length === 1) return this.call1(args[0]);
    if (args.length === 2) return this.call2(args[0], args[1]);
    return this.results(native().call(this.id, ...args.map((value, i) => lower(this.parameters[i]!, value))), args);
  }

  /** `call` for one argument, without arrays: these three are what most code runs, the first two often directly. */
  call1(a: unknown): unknown {
    if (this.direct === Direct.Tensor) return this.directly(unwrap(a as Tensor, this.parameters[0]!.name));
    const raw = native().call(this.id, lower(this.parameters[0]!, a));
    return this.givesTensor ? lift(raw as number, takeOwnFlag()) : this.results(raw, [a]);
  }

  /** `call` for two arguments. */
  call2(a: unknown, b: unknown): unknown {
    if (this.direct >= Direct.TwoTensors && this.leave(b)) {
      return this.directly(unwrap(a as Tensor, this.parameters[0]!.name));
    }
    const raw = native().call(this.id, lower(this.parameters[0]!, a), lower(this.parameters[1]!, b));
    return this.givesTensor ? lift(raw as number, takeOwnFlag()) : this.results(raw, [a, b]);
  }

  /** `call` for three arguments. */
  call3(a: unknown, b: unknown, c: unknown): unknown {
    const [first, second, third] = this.parameters as readonly [Parameter, Parameter, Parameter];
    const raw = native().call(this.id, lower(first, a), lower(second, b), lower(third, c));
    return this.givesTensor ? lift(raw as number, takeOwnFlag()) : this.results(raw, [a, b, c]);
  }

  /** Leaves the second argument for `callDirect`, where it can take it. */
  private leave(value: unknown): boolean {
    if (value instanceof Tensor) {
      if (this.direct !== Direct.TwoTensors) return false;
      slots[2] = unwrap(value, this.parameters[1]!.name);
      return true;
    }
    if (this.direct === Direct.TensorAndNumber && typeof value === 'number') {
      slots[2] = value;
      return true;
    }
    return this.direct === Direct.TensorAndSizes && leaveSizes(value);
  }

  private directly(handle: Handle): Tensor {
    slots[0] = this.id;
    slots[1] = handle;
    this.callDirect();
    return lift(slots[0], takeOwnFlag());
  }

  private tooMany(count: number): never {
    throw new TorchBindError(
      `${this.name}: ${count} arguments given, at most ${this.parameters.length} expected: ${this.declaration}`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }

  private results(raw: unknown, args: readonly unknown[]): unknown {
    if (this.returns.length === 0) return undefined;
    const own = takeOwnFlag();
    if (this.returns.length === 1) return this.result(raw, 0, args, own);
    const results = this.tuple === undefined ? [] : new this.tuple();
    for (let i = 0; i < this.returns.length; i++) results.push(this.result((raw as unknown[])[i], i, args, own));
    return results;
  }

  private result(raw: unknown, index: number, args: readonly unknown[], own: boolean): unknown {
    const alias = this.aliases[index]!;
    if (alias >= 0) return args[alias];
    if (raw === null) return null;
    const type = this.returns[index]!;
    if (type === 'Tensor') return lift(raw as number, own);
    if (type === 'Tensor[]') return (raw as number[]).map((handle) => lift(handle, own));
    if (type === 'ScalarType') return dtypeFromCode(raw as number);
    return raw;
  }
}

function leaveSizes(value: unknown): boolean {
  if (!Array.isArray(value) || value.length > MOST_SIZES) return false;
  for (let i = 0; i < value.length; i++) {
    const size: unknown = value[i];
    if (typeof size !== 'number') return false;
    slots[3 + i] = size;
  }
  slots[2] = value.length;
  return true;
}

function lift(handle: number, own: boolean): Tensor {
  const tensor = new Tensor(handle);
  place(tensor, own);
  return tensor;
}

/** A value as it crosses to C++: tensors become handles, generators their native object. */
function lower(parameter: Parameter, value: unknown): unknown {
  if (value instanceof Tensor) {
    if (parameter.isTensor && !parameter.list) return unwrap(value, parameter.name);
    throw new TorchBindError(
      `Expected ${parameter.base}${parameter.list ? '[]' : ''} for '${parameter.name}', got a Tensor.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  if (parameter.isTensor) {
    if (parameter.list && Array.isArray(value) && value.length <= LONGEST_LIST)
      return value.map((item: unknown) => lowerItem(parameter, item));
    // A number here must not pass for a handle.
    return value === undefined || value === null ? value : unwrap(value as Tensor, parameter.name);
  }
  if (parameter.isGenerator && value instanceof Generator) return value.native;
  return value;
}

function lowerItem(parameter: Parameter, item: unknown): number | null {
  if (parameter.optionalItems && (item === null || item === undefined)) return null;
  return unwrap(item as Tensor, parameter.name);
}

function isInteger(value: unknown): boolean {
  return typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
}

function matchesItem(base: string, value: unknown): boolean {
  switch (base) {
    case 'tensor':
    case 'storage':
      return value instanceof Tensor;
    case 'int':
    case 'qscheme':
      return isInteger(value);
    case 'float':
      return typeof value === 'number' || typeof value === 'bigint';
    case 'bool':
      return typeof value === 'boolean';
    case 'scalar':
      return isScalar(value);
    case 'scalartype':
      return isDType(value);
    case 'generator':
      return value instanceof Generator;
    case 'device':
      return typeof value === 'string' && !isDType(value);
    default:
      return typeof value === 'string';
  }
}

/** A sparse array may claim 2^32 - 1 elements: longer lists than this are a mistake, and are not walked through. */
const LONGEST_LIST = 2 ** 20;

/** Whether a value fits an argument, by its JavaScript type. */
export function matches(parameter: Parameter, value: unknown): boolean {
  if (value === undefined) return parameter.hasDefault || parameter.optional;
  if (value === null) return parameter.optional;
  if (!parameter.list) return matchesItem(parameter.base, value);
  if (!Array.isArray(value)) return parameter.fixedSize && matchesItem(parameter.base, value);
  if (value.length > LONGEST_LIST) return false;
  return value.every((item) => (item === null && parameter.optionalItems) || matchesItem(parameter.base, item));
}

/** Whether a last argument is meant as options: a plain object, but not a complex number. */
export function isOptions(value: unknown): value is Record<string, unknown> {
  return isPlainObject(value) && !isComplex(value);
}

/**
 * Puts positional and named arguments into schema order.
 *
 * @returns the arguments, or undefined where they do not fit this overload
 */
export function bindArguments(operator: Operator, args: readonly unknown[], gather = true): unknown[] | undefined {
  const parameters = operator.parameters;
  const last = args[args.length - 1];
  const options = args.length > 0 && isOptions(last) ? last : undefined;
  let positional = options === undefined ? args : args.slice(0, -1);
  if (gather) positional = gatherFrom(positional, sizesStart(parameters, positional));
  const limit = parameters.findIndex((parameter) => parameter.kwargOnly);
  if (positional.length > (limit < 0 ? parameters.length : limit)) return undefined;

  const bound: unknown[] = [...positional];
  if (options !== undefined) {
    for (const [key, value] of Object.entries(options)) {
      const index = operator.indexOf(key);
      const places = index < 0 && key === 'out' ? outputPlaces(operator, value) : [[index, value] as const];
      for (const [place, item] of places) {
        if (place < positional.length) return undefined;
        while (bound.length < place) bound.push(undefined);
        bound[place] = item;
      }
    }
  }
  for (let i = 0; i < parameters.length; i++) {
    if (!matches(parameters[i]!, bound[i])) return undefined;
  }
  return bound;
}

/** `out` of an operator that gives its outputs names: one tensor, or an array of them in order, as in Python. */
function outputPlaces(operator: Operator, value: unknown): (readonly [number, unknown])[] {
  const outputs = operator.outputs;
  const values = Array.isArray(value) ? (value as unknown[]) : [value];
  if (outputs.length === 0 || outputs.length !== values.length) return [[-1, value]];
  return outputs.map((place, i) => [place, values[i]]);
}

/**
 * Where `x.view(2, 3)` for `x.view([2, 3])` begins its sizes, which are the last positional arguments; -1 where the
 * arguments are none such.
 */
export function sizesStart(parameters: readonly Parameter[], args: readonly unknown[]): number {
  const at = parameters.findIndex((parameter) => parameter.list && parameter.base === 'int' && !parameter.fixedSize);
  if (at < 0 || typeof args[at] !== 'number') return -1;
  const next = parameters[at + 1];
  return next !== undefined && !next.kwargOnly ? -1 : at;
}

/** The arguments with those from `at` on as one list; as they are where `at` is -1. */
export function gatherFrom(args: readonly unknown[], at: number): readonly unknown[] {
  return at < 0 ? args : [...args.slice(0, at), args.slice(at)];
}
