import type { PickleReaderOptions } from '../../pickle/reader';
import { Cost, type MemoryBudget, spend } from '../../pickle/budget';
import { GlobalError, nameOf, PickleGlobal, RefusedName, Unfinished } from '../../pickle/globals';
import type { ByteSource } from '../files/byte-source';
import { type FileDType, fileDTypes, isDifferentiable } from './dtypes';
import { CheckpointCode, CheckpointError } from '../../errors';
import {
  type ArraySpec,
  type MetaSpec,
  type Quantizer,
  type SparseSpec,
  StorageRef,
  StorageView,
  type TensorBuilder,
  type TensorSpec,
} from './tensor-spec';
import { changeValues } from './walk';

/** Where the bytes of a storage are. */
export interface StoredBytes {
  /** What the container calls them, for messages: `data/0`. */
  record: string;
  size: number;
  /** Where they begin in the file; undefined where they are compressed. */
  offset: number | undefined;
  /** All of them, verified. */
  read(): Promise<Buffer>;
  /** @throws CheckpointError where the checksum is not what the file states */
  verify(crc32: number): void;
}

/** How the pickle's values are given. */
export interface ValueOptions extends Pick<PickleReaderOptions, 'exact' | 'inert'> {
  /** What may be made of memory besides the bytes of the tensors; default `defaultMemory`. */
  memory?: number;
  /** The budget itself, in place of one with the limit `memory`. */
  budget?: MemoryBudget;
}

/** Text of the pickle becomes strings, of which none can be longer than this in JavaScript. */
export const maxPickleSize = 2 ** 29 - 1024;

/** What makes the tensors of a file in this byte order, while its pickle is read. */
export type MakeBuilder = (bigEndian: boolean) => TensorBuilder;

/**
 * A checkpoint file, opened: its pickle was read to its end, with all that it claims of tensors checked, before anything is read
 * of its storages.
 */
export interface TensorArchive {
  readonly source: ByteSource;
  readonly bigEndian: boolean;
  /** The storages that the pickle refers to, by key. */
  readonly storages: ReadonlyMap<string, StorageRef>;
  /** What the pickle holds, with what the builder made in the place of tensors. */
  readonly value: unknown;
  /** How messages call the pickle. */
  readonly pickleName: string;
  /** What is unusual about the file, though it can be read: bytes after its end, classes that are read as dicts. */
  readonly notes: readonly string[];
  bytesOf(storage: StorageRef): StoredBytes;
}

/** What `inspect` says of a class whose instances are read as dicts. */
export function noteOfDict(name: string): string {
  return `objects of ${name}, a subclass of dict, are read as dicts`;
}

/** Stands for a tensor. */
export class NotedTensor {
  constructor(
    readonly dtype: FileDType,
    readonly shape: readonly number[],
  ) {}
}

/** Makes nothing, and refuses what could not be made. */
export class TensorChecker implements TensorBuilder {
  constructor(private readonly bigEndian: boolean) {}

  tensor({ dtype, storage, shape }: TensorSpec): NotedTensor {
    if (this.bigEndian && dtype.swapSize !== storage.dtype.swapSize) {
      throw new GlobalError(
        `a ${dtype.name} tensor over a ${storage.dtype.name} storage in big-endian order is not supported`,
      );
    }
    return new NotedTensor(dtype, shape);
  }

  parameter(tensor: NotedTensor, requiresGrad: boolean): NotedTensor {
    if (requiresGrad && !isDifferentiable(tensor.dtype.name))
      throw new GlobalError(`a ${tensor.dtype.name} parameter that requires gradients`);
    return tensor;
  }

  isTensor(value: unknown): boolean {
    return value instanceof NotedTensor;
  }

  quantized(spec: TensorSpec, quantizer: Quantizer): NotedTensor {
    if ('axis' in quantizer) {
      const length = spec.shape[quantizer.axis]!;
      for (const part of [quantizer.scales, quantizer.zeroPoints] as NotedTensor[]) {
        if (part.shape.length !== 1 || part.shape[0] !== length)
          throw new GlobalError(`expected ${length} scales and zero points along axis ${quantizer.axis}`);
      }
    }
    return this.tensor(spec);
  }

  sparse({ indices, values, shape }: SparseSpec): NotedTensor {
    const { dtype } = values as NotedTensor;
    for (const part of indices as NotedTensor[]) {
      if (part.dtype.name !== 'int64' && part.dtype.name !== 'int32')
        throw new GlobalError(`indices of dtype ${part.dtype.name}`);
    }
    return new NotedTensor(dtype, shape);
  }

  meta({ dtype, shape }: MetaSpec): NotedTensor {
    return new NotedTensor(dtype, shape);
  }

  array({ dtype, shape }: ArraySpec): NotedTensor {
    return new NotedTensor(dtype, shape);
  }

  storage({ storage: { dtype }, nbytes }: StorageView): NotedTensor {
    if (!fileDTypes.has(dtype.name)) throw new GlobalError(`a bare storage of ${dtype.name} is not supported`);
    return new NotedTensor(dtype, [nbytes / dtype.itemSize]);
  }
}

/**
 * Puts values in the place of what only stands for one: bare storages become tensors, classes and functions their names.
 *
 * @throws CheckpointError for what the pickle left unfinished
 */
export function* resolveReferences(
  root: unknown,
  builder: TensorBuilder,
  record: string,
  { inert = false }: ValueOptions,
  budget: MemoryBudget,
): Generator<void, unknown, void> {
  const resolved = new Map<unknown, unknown>();
  const resolve = (value: unknown): unknown => {
    if (value instanceof StorageRef) return storage(new StorageView(value, 0, value.nbytes));
    if (value instanceof StorageView) return storage(value);
    if (value instanceof PickleGlobal) return nameOf(value);
    if (value instanceof RefusedName) throw value.refusal;
    if (!(value instanceof Unfinished)) return value;
    const data = inert === false ? undefined : value.asData?.();
    if (data !== undefined) return data;
    const hint = value.asData === undefined ? '' : ". load(path, { unknown: 'inert' }) gives it as data";
    throw new GlobalError(`the file holds ${value.what} as a value, which torchbind does not read${hint}`);
  };
  const storage = (view: StorageView): unknown => {
    spend(budget, Cost.tensor + Cost.dimension, record);
    return builder.storage(view);
  };
  try {
    return yield* changeValues(root, (value) => {
      if (typeof value !== 'object' || value === null) return value;
      const known = resolved.get(value);
      if (known !== undefined) return known;
      const found = resolve(value);
      if (found !== value) {
        spend(budget, Cost.entry, record);
        resolved.set(value, found);
      }
      return found;
    });
  } catch (error) {
    if (!(error instanceof GlobalError)) throw error;
    throw new CheckpointError(error.message, CheckpointCode.unsupported, { record, cause: error });
  }
}
