/**
 * Memory that what a file makes may take beside the bytes of its tensors: honest checkpoints stay far below, and a file
 * that is made to exhaust the memory goes past it long before the process does.
 */
export const defaultMemory = 48 * 2 ** 20;

/**
 * About what things take in V8, in bytes, with room for how arrays and maps grow. They are meant to be a little high: a
 * budget that is kept must hold for the resident memory.
 */
export const Cost = {
  /** A place on the stack or in the memo. */
  slot: 30,
  /** A place in the memo that nothing recalls. */
  emptySlot: 24,
  /** A number outside of the small integers. */
  number: 36,
  string: 72,
  /** An array of its own, without its items. */
  array: 100,
  /** The first item makes room for 17. */
  firstItem: 144,
  item: 16,
  /** A Map or Set, with room for the first entries. */
  map: 300,
  entry: 80,
  /** A typed array with an ArrayBuffer of its own. */
  bytes: 380,
  object: 100,
  /** A tensor: the JavaScript object, its shape and strides, libtorch's own objects. */
  tensor: 1050,
  dimension: 64,
} as const;

/** Takes memory from a budget, before it is allocated; throws where there is too little left. */
export type Spend = (bytes: number) => void;

/** Counts what is made against a limit. */
export class MemoryBudget {
  private spent = 0;

  constructor(readonly limit: number = defaultMemory) {}

  /** Whether there is room for `bytes` more; it is taken. */
  take(bytes: number): boolean {
    this.spent += bytes;
    return this.spent <= this.limit;
  }

  /** Gives back what was taken for something that is no longer there. */
  give(bytes: number): void {
    this.spent -= bytes;
  }

  /** Another with as much left: what is taken from it is not taken here. */
  fork(): MemoryBudget {
    const fork = new MemoryBudget(this.limit);
    fork.spent = this.spent;
    return fork;
  }

  get message(): string {
    const megabytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MB`;
    return (
      `what the file makes beside the bytes of its tensors would take more than ${megabytes(this.limit)} of memory, ` +
      'as that of a file which is made to exhaust it; if you trust the file, allow more with load(path, { limits: { memory: ' +
      `${this.limit * 4} } })`
    );
  }
}
