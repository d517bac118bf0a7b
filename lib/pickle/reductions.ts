import { GlobalName, type Tuple } from './types';

/** An object that is written as a call of a known function: Python's `__reduce__`. */
export class Reduction {
  constructor(
    readonly callee: GlobalName,
    readonly args: Tuple,
    /** What BUILD completes the object with, if anything. */
    readonly state?: unknown,
  ) {}
}

/** An object that is written as a reference to something outside of the pickle. */
export class PersistentId {
  constructor(readonly id: Tuple) {}
}

/** An object that cannot be written, and why. */
export class Unwritable {
  /** @param what for the message: `a sparse tensor` */
  constructor(readonly what: string) {}
}

export type Reduced = Reduction | GlobalName | PersistentId | Unwritable;

/** Whether a value says itself how it is written. */
export function isReduced(value: object): value is Reduction | GlobalName | PersistentId {
  return value instanceof Reduction || value instanceof GlobalName || value instanceof PersistentId;
}
