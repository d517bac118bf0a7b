import type { PickleReaderOptions } from '../../pickle/reader';
import { GlobalError, PickleGlobal, Unfinished } from '../../pickle/globals';
import type { ByteSource } from '../files/byte-source';
import { type FileDType, isDifferentiable } from './dtypes';
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
  /** Lets values through that are bare storages, classes or functions: for who only looks. */
  references?: boolean;
  /** What may be made of memory beside the bytes of the tensors; default `defaultMemory`. */
  memory?: number;
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
  bytesOf(storage: StorageRef): StoredBytes;
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
}

/** A bare storage or class is of no use to JavaScript, and its bytes would be lost on the way: refused. */
export function checkNoReferences(root: unknown, record: string, { references }: ValueOptions): void {
  if (references === true) return;
  changeValues(root, (value) => {
    const what = referenceText(value);
    if (what === undefined) return value;
    throw new CheckpointError(
      `the file holds ${what} as a value, which torchbind does not read`,
      CheckpointCode.unsupported,
      { record },
    );
  });
}

function referenceText(node: unknown): string | undefined {
  if (node instanceof StorageRef) return `the bare storage '${node.key}'`;
  if (node instanceof StorageView) return `the bare storage '${node.storage.key}'`;
  if (node instanceof PickleGlobal) return `the class or function ${node.name}`;
  if (node instanceof Unfinished) return node.what;
  return undefined;
}
