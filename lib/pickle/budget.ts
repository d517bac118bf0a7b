import { checkOptions, CheckpointCode, CheckpointError, describe, TorchBindError } from '../errors';

/**
 * Memory that what a file makes may take besides the bytes of its tensors: honest checkpoints stay far below, and a file
 * that is made to exhaust the memory goes past it long before the process does.
 */
export const defaultMemory = 48 * 2 ** 20;

/**
 * About what things take in V8, in bytes: nearly twice their size for small ones, as the part of the heap that new ones are in has
 * up to 32 MB of its own, and with the copies that growing arrays and maps leave behind. A budget that is kept must hold for
 * the resident memory.
 */
export const Cost = {
  /** A place on the stack. */
  slot: 22,
  /** A number outside of the small integers. */
  number: 60,
  string: 84,
  /** An array of its own, without its items. */
  array: 100,
  /** The first item makes room for 17; whoever walks through the value remembers where it was. */
  firstItem: 420,
  item: 24,
  /** An item of an array that grows by and by. */
  laterItem: 40,
  /** A tuple that is not empty, without its items. */
  tuple: 180,
  /** A Map or Set, with room for the first entries. */
  map: 480,
  entry: 140,
  /** A typed array with an ArrayBuffer of its own. */
  bytes: 420,
  object: 100,
  /** A tensor: the JavaScript object, its shape and strides, libtorch's own objects. */
  tensor: 1250,
  dimension: 100,
} as const;

/** What a tuple takes. */
export function tupleCost(length: number): number {
  return length === 0 ? Cost.array : Cost.tuple + length * Cost.item;
}

/** Takes memory from a budget, before it is allocated; throws if there is too little left. */
export type Spend = (bytes: number) => void;

/**
 * What a tensor with a storage of its own may take, beyond the limit: a file that holds many is as large as a checkpoint of so
 * many is, and so is what it takes.
 */
const storageAllowance = 2000;

/** Tensors with their own storages may together take this multiple of the file's size beyond the limit. */
const largestAllowance = 15;

/** Counts what is made against a limit. */
export class MemoryBudget {
  private spent = 0;
  private allowed = 0;

  constructor(
    readonly limit: number = defaultMemory,
    /** Of the file whose storages it makes room for, in bytes. */
    private readonly fileSize = 0,
  ) {}

  /** For a file of `size` bytes; a limit that was asked for holds, whatever the file has. */
  static ofFile(size: number, limit: number | undefined): MemoryBudget {
    return new MemoryBudget(limit, limit === undefined ? size : 0);
  }

  /** Whether there is room for `bytes` more; it is taken. */
  take(bytes: number): boolean {
    this.spent += bytes;
    return this.spent <= this.limit + this.allowed;
  }

  /** Releases what was taken for something that has been freed. */
  give(bytes: number): void {
    this.spent -= bytes;
  }

  /** Makes room for a storage that the file holds. */
  allowStorage(): void {
    this.allowed = Math.min(this.allowed + storageAllowance, largestAllowance * this.fileSize);
  }

  get message(): string {
    const megabytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MB`;
    return (
      `what the file makes besides the bytes of its tensors would take more than ${megabytes(this.limit + this.allowed)} of ` +
      'memory, as that of a file which is made to exhaust it; if you trust the file, allow more with load(path, { limits: { ' +
      `memory: ${(this.limit + this.allowed) * 4} } })`
    );
  }
}

/** Limits on what a file may make `load` allocate. */
export interface LoadLimits {
  /** Bytes. */
  memory?: number | undefined;
}

/** @throws TorchBindError ERR_TORCHBIND_INVALID_ARGUMENT where it is not a number of bytes */
export function memoryLimit(limits: LoadLimits = {}): number | undefined {
  checkOptions(limits, ['memory'], 'load: limits');
  const { memory } = limits;
  if (memory === undefined || (typeof memory === 'number' && memory >= 0)) return memory;
  throw new TorchBindError(
    `load: expected a number of bytes for the option 'limits.memory', got ${describe(memory)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** @throws CheckpointError where the budget has too little left for `bytes` more */
export function spend(budget: MemoryBudget, bytes: number, record?: string): void {
  if (!budget.take(bytes)) throw new CheckpointError(budget.message, CheckpointCode.limit, { record });
}
