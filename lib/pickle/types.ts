/**
 * Classes for Python values in checkpoints without an exact JavaScript counterpart.
 *
 * The others need no class: dict is `Map`, list is `Array`, set is `Set`, str is `string`, bytes is `Uint8Array`, None
 * is `null`, int is `number`, or `bigint` beyond 2^53 - 1, and float is `number` (see `Float`).
 */

/** Python's `collections.OrderedDict`: a dict that also carries attributes, such as the `_metadata` of a state_dict. */
export class OrderedDict<K = unknown, V = unknown> extends Map<K, V> {
  private ownAttributes: Map<string, unknown> | undefined;

  /** Instance attributes: kept and written back, without a meaning here. */
  get attributes(): Map<string, unknown> {
    // Every tensor of a file has an OrderedDict of hooks, and few have attributes.
    return (this.ownAttributes ??= new Map());
  }
}

/** Python's `collections.Counter`. */
export class Counter<K = unknown> extends Map<K, unknown> {}

/** Python's `collections.defaultdict`: a Map that knows its factory. It does not create missing keys. */
export class DefaultDict<K = unknown, V = unknown> extends Map<K, V> {
  constructor(
    /** The function that Python calls for a missing key, such as `builtins.list`; null without one. */
    readonly factory: GlobalName | null,
    entries?: Iterable<readonly [K, V]>,
  ) {
    super(entries ?? []);
  }
}

/** Python's frozenset. */
export class FrozenSet<T = unknown> extends Set<T> {}

/** A Python class or function, by name only. It cannot be called. */
export class GlobalName {
  constructor(
    readonly module: string,
    readonly name: string,
  ) {}

  toString(): string {
    return `${this.module}.${this.name}`;
  }
}

/**
 * An object of a Python class that torchbind does not know, as the file describes it: read by
 * `load(path, { unknown: 'inert' })`, and written back as it came. Its class is never looked up or called.
 */
export class InertObject {
  /** The instance's attributes as the class gave them to pickle, usually a Map by name; null where it gave none. */
  state: unknown = null;
  /** Members of an instance of a subclass of list. */
  readonly members: unknown[] = [];
  /** Items of an instance of a subclass of dict that is made with arguments. */
  readonly items = new Map<unknown, unknown>();

  constructor(
    /** Module of its class, or of the function that makes it. */
    readonly module: string,
    readonly name: string,
    /** What the class or function is called with. */
    readonly args: Tuple,
    /** Whether it is made by calling (an enum's member, say) and not as a bare instance. */
    readonly called: boolean,
  ) {}
}

/**
 * An instance of a subclass of dict that torchbind does not know, such as Lightning's `AttributeDict`: a dict that knows its class,
 * so that `save` writes it back as it was.
 */
export class DictSubclass<K = unknown, V = unknown> extends Map<K, V> {
  /** As that of an `InertObject`: attributes besides the items, if the class has any. */
  state: unknown = null;

  constructor(
    readonly module: string,
    readonly name: string,
  ) {
    super();
  }
}

/** Whether an object is of a class that is known to be a dict, although it may be empty: Lightning's own. */
export function isKnownDict({ module, name, args }: InertObject): boolean {
  return (
    name === 'AttributeDict' && /^(pytorch_lightning|lightning|lightning_fabric)\b/.test(module) && args.length === 0
  );
}

/**
 * A NumPy scalar, read with `exact: true` so that `save` writes it back as one. It computes like the number that it
 * holds.
 */
export class NumpyScalar {
  constructor(
    /** NumPy's code of the type, as `f8`, `i4`, `b1`. */
    readonly code: string,
    readonly value: number | bigint | boolean | ComplexValue,
    /** Its bytes, the least significant first. */
    readonly bytes: Uint8Array,
    /** The module that the file named for it: `numpy.core.multiarray` before NumPy 2. */
    readonly module: string,
  ) {}

  valueOf(): unknown {
    return this.value;
  }

  toJSON(): unknown {
    return this.value;
  }
}

/** A real number of Python or NumPy as a plain one; undefined for any other value. */
export function plainNumber(value: unknown): number | undefined {
  if (typeof value === 'number' || value instanceof Float) return Number(value);
  if (!(value instanceof NumpyScalar)) return undefined;
  return typeof value.value === 'number' || typeof value.value === 'bigint' ? Number(value.value) : undefined;
}

/** Python's tuple. Make one with `Tuple.of(1, 2)` or `Tuple.from(items)`. */
export class Tuple<T = unknown> extends Array<T> {
  static override of<T>(...items: T[]): Tuple<T> {
    return super.of(...items) as Tuple<T>;
  }
}

/** `torch.Size`. */
export class Size extends Array<number> {}

/** Python's bytearray, told apart from bytes (`Uint8Array`) so that it is written back as one. */
export class ByteArray extends Uint8Array {}

/** Python's complex number. */
export class ComplexValue {
  constructor(
    readonly re: number,
    readonly im: number,
  ) {}
}

/**
 * A Python float that a plain number cannot distinguish from an int: `new Float(1)` is written as 1.0, `1` as 1. It
 * computes like the number that it holds.
 */
export class Float {
  constructor(readonly value: number) {}

  valueOf(): number {
    return this.value;
  }

  toJSON(): number {
    return this.value;
  }
}

/** Whether a plain number is written as a Python int; all others are written as float. */
export function isPythonInt(value: number): boolean {
  return Number.isSafeInteger(value) && !Object.is(value, -0);
}

/** A `torch.dtype` as a value, as `torch.float32`. */
export class DTypeValue {
  /** @param name without the `torch.` prefix: `float32` */
  constructor(readonly name: string) {}

  toString(): string {
    return `torch.${this.name}`;
  }
}

/** A layout or a way to quantize as a value, as `torch.strided` or `torch.per_tensor_affine`. */
export class TorchConstant {
  constructor(
    readonly kind: 'layout' | 'qscheme',
    /** Without the `torch.` prefix: `strided`. */
    readonly name: string,
  ) {}

  toString(): string {
    return `torch.${this.name}`;
  }
}

/** A `torch.device` as a value. */
export class Device {
  constructor(
    readonly type: string,
    readonly index: number | null = null,
  ) {}

  toString(): string {
    return this.index === null ? this.type : `${this.type}:${this.index}`;
  }
}
