/**
 * JavaScript values for the Python values that a checkpoint can hold and that JavaScript has no exact twin of.
 *
 * The others need no class: dict is `Map`, list is `Array`, set is `Set`, str is `string`, bytes is `Uint8Array`, None
 * is `null`, int is `number`, or `bigint` beyond 2^53 - 1, and float is `number` (see `Float`).
 */

/** Python's `collections.OrderedDict`: a dict that also carries attributes, such as the `_metadata` of a state_dict. */
export class OrderedDict<K = unknown, V = unknown> extends Map<K, V> {
  /** Instance attributes, inert: they are kept and written back, and mean nothing here. */
  readonly attributes = new Map<string, unknown>();
}

/** Python's `collections.Counter`. */
export class Counter<K = unknown> extends Map<K, unknown> {}

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
export class Complex {
  constructor(
    readonly re: number,
    readonly im: number,
  ) {}
}

/**
 * A Python float that a plain number could not be told from an int: `new Float(1)` is written as 1.0, `1` as 1.
 * It computes like the number that it holds.
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
