import { refuseSurplus, TorchBindError } from '../errors';
import { isPlainObject } from '../objects';

/** The optional arguments of a function in Python's order; null for one that Python has and this function does not. */
export type Places = readonly (string | null)[];

type Value<O, Name> = Name extends keyof O ? O[Name] | undefined : null | undefined;
// With a name for each: TypeScript 5.0 refuses tuples in which only some have one.
type Values<O, Names extends Places> = Names extends readonly [infer Name, ...infer Rest extends Places]
  ? [argument: Value<O, Name>, ...rest: Values<O, Rest>]
  : [];
type WithOptions<List, O> = List extends unknown[] ? [...values: List, options: O] : never;
type Others<O, Names extends Places> = Omit<O, Exclude<Names[number], null>>;

/** Some of the first arguments by position, the others in options. */
type Prefixes<O, Names extends Places> =
  | (Names extends readonly []
      ? [options?: O]
      : keyof Others<O, Names> extends never
        ? never
        : WithOptions<Values<O, Names>, Others<O, Names>>)
  | (Names extends readonly [...infer Head extends Places, unknown] ? Prefixes<O, Head> : never);

/** Optional arguments by position in Python's order, by name in trailing options, or the first ones by position and the rest by name. */
export type Positional<O, Names extends Places> = Partial<Values<O, Names>> | Prefixes<O, Names>;

/**
 * The options that a call gives by position and by name.
 *
 * @param given how many arguments came before them
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT for too many arguments, one given twice, or one that only Python has
 */
export function optionsFrom<O extends object>(
  rest: readonly unknown[],
  names: Places,
  where: string,
  given: number,
): O {
  const last = rest[rest.length - 1];
  const named = isPlainObject(last) ? last : undefined;
  const places = named === undefined ? rest : rest.slice(0, -1);
  refuseSurplus(where, given + places.length, given + names.length);
  const options: Record<string, unknown> = { ...named };
  places.forEach((value, i) => {
    const name = names[i] ?? null;
    if (value === undefined || (name === null && value === null)) return;
    if (name === null) throw invalid(`argument ${given + i + 1} is one of Python's that must be null here`, where);
    if (Object.hasOwn(options, name)) throw invalid(`'${name}' is given by position and by name`, where);
    options[name] = value;
  });
  return options as O;
}

function invalid(reason: string, where: string): TorchBindError {
  return new TorchBindError(
    `${where}: ${reason}. Pass optional arguments by name: { name: value }.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

type Options<F extends (...args: never[]) => unknown> =
  Required<Parameters<F>> extends [...unknown[], infer O] ? O : never;
type Given<F extends (...args: never[]) => unknown> =
  Required<Parameters<F>> extends [...infer G extends unknown[], unknown] ? G : never;

type Joined<A, B> = A extends unknown[] ? (B extends unknown[] ? [...A, ...B] : never) : never;

/** A function of required arguments and options, whose options may also come by position, in the order of `names`. */
export function byPosition<F extends (...args: never[]) => unknown, const Names extends Places>(
  names: Names,
  fn: F,
  name = fn.name,
): (...args: Joined<Given<F>, Positional<Options<F>, Names>>) => ReturnType<F> {
  const given = fn.length;
  const called = (...args: never[]): unknown => {
    const isPlain = args.length === given || (args.length === given + 1 && isPlainObject(args[given]));
    if (isPlain) return fn(...args);
    const options = optionsFrom(args.slice(given), names, name, given) as never;
    return fn(...args.slice(0, given), ...new Array<never>(Math.max(0, given - args.length)), options);
  };
  Object.defineProperty(called, 'name', { value: name });
  return called as never;
}
