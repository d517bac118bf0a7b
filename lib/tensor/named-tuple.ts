/** PyTorch's named tuples: arrays whose elements have names too. */

/** An array of `Values` that also has them by name: `const [values, indices] = x.max(1)` or `x.max(1).values`. */
export type NamedTuple<Values extends readonly unknown[], Names> = Omit<Values, keyof Names> & Names;

type TupleClass = new () => unknown[];

const classes = new Map<string, TupleClass>();

/** The class of tuples whose elements have these names; made once, so that making a tuple costs what an array costs. */
export function tupleClass(names: readonly string[]): TupleClass {
  const key = names.join();
  let found = classes.get(key);
  if (found === undefined) {
    found = makeClass(names);
    classes.set(key, found);
  }
  return found;
}

function makeClass(names: readonly string[]): TupleClass {
  class NamedTuple extends Array<unknown> {
    /** What `map`, `slice` and the like make of it has other elements, and so no names. */
    static override get [Symbol.species](): ArrayConstructor {
      return Array;
    }

    [Symbol.for('nodejs.util.inspect.custom')](): Record<string, unknown> {
      return Object.fromEntries(names.map((name, i) => [name, this[i]]));
    }
  }
  names.forEach((name, i) => {
    Object.defineProperty(NamedTuple.prototype, name, {
      get(this: unknown[]) {
        return this[i];
      },
    });
  });
  return NamedTuple;
}
