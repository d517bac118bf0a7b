import { type PathLike, toPath, TorchBindError } from '../errors';
import { native } from '../native/native';
import type { Tensor } from './core';
import { overloadSet } from './dispatch';
import type { AtenOverloads } from './generated/overloads';
import { describeArgument } from './mismatch';
import { bindArguments, Operator } from './operator';
import { forgetOverloadNames, overloadNames } from './overload-names';

/** One overload of an operator, with arguments in schema order or named in trailing options. */
export type RawOverload = <Result = Tensor>(...args: unknown[]) => Result;

/** An operator: call it to have the overload chosen, or name the overload: `ops.aten.add.Tensor(a, b)`. */
export type RawOperator = RawOverload & Readonly<Record<string, RawOverload>>;

/** Operators of one namespace by PyTorch's own names. */
export type OperatorNamespace = Readonly<Record<string, RawOperator>>;

/** The operators of `aten`, each with its overloads. Names that libtorch does not have are errors of the compiler. */
export type AtenOperators = {
  readonly [Name in keyof AtenOverloads]: RawOverload & Readonly<Record<AtenOverloads[Name], RawOverload>>;
};

function rawOverload(name: string, overload: string): RawOverload {
  const known = overloadNames(name) ?? [];
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
  readonly aten: AtenOperators;
  loadLibrary(path: PathLike): void;
  allowUnsafe(name: string): void;
}

/**
 * Every operator that libtorch has registered, under PyTorch's own names: `ops.aten.add.Tensor(a, b)`,
 * `ops.aten.add(a, b)`. The overload without a name is `default`. PyTorch's `torch.ops`. Names in other namespaces than
 * `aten` are not known to TypeScript: with `noUncheckedIndexedAccess` write `ops.quantized!.add!(...)`.
 */
export const ops = lazy(
  {
    /** Loads a library that registers operators of its own (PyTorch's `torch.ops.load_library`). */
    loadLibrary(path: PathLike): void {
      native().loadLibrary(path instanceof URL ? toPath(path, 'ops.loadLibrary') : path);
      forgetOverloadNames();
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
