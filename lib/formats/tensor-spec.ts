import { GlobalError } from '../pickle/globals';
import type { FileDType } from './dtypes';

/** A storage as a pickle names it: a record of the container, and what the pickle claims of it. */
export class StorageRef {
  constructor(
    /** `0` for the record `data/0`. */
    readonly key: string,
    readonly dtype: FileDType,
    /** Whether it is an UntypedStorage: bytes, whose dtype only the tensors over it know. */
    readonly untyped: boolean,
    /** Size in bytes. */
    readonly nbytes: number,
  ) {}
}

/** A tensor as a pickle describes it, checked against its storage. */
export interface TensorSpec {
  storage: StorageRef;
  dtype: FileDType;
  /** In elements, as are the strides. */
  offset: number;
  shape: number[];
  strides: number[];
  requiresGrad: boolean;
  /** The elements are the complex conjugates of the bytes; the negatives of them. */
  conj: boolean;
  neg: boolean;
}

/** libtorch keeps sizes of up to 64 dimensions in every operator. */
const maxDimensions = 64;

/**
 * Checks that a strided tensor lies within a storage, in arithmetic that cannot overflow.
 *
 * @throws GlobalError where it does not
 */
export function checkGeometry(
  dtype: FileDType,
  nbytes: number,
  offset: number,
  shape: number[],
  strides: number[],
): void {
  if (shape.length !== strides.length) throw new GlobalError(`${shape.length} sizes and ${strides.length} strides`);
  if (shape.length > maxDimensions)
    throw new GlobalError(`${shape.length} dimensions; at most ${maxDimensions} are possible`);
  const itemSize = BigInt(dtype.itemSize);
  const numel = shape.reduce((product, size) => product * BigInt(size), 1n);
  if (numel * itemSize > BigInt(Number.MAX_SAFE_INTEGER))
    throw new GlobalError(`shape [${shape.join(', ')}] has too many elements`);
  let end = BigInt(offset);
  if (numel > 0n) {
    shape.forEach((size, dim) => (end += BigInt(size - 1) * BigInt(strides[dim]!)));
    end += 1n;
  }
  if (end * itemSize <= BigInt(nbytes)) return;
  const tensor = `a ${dtype.name} tensor of shape [${shape.join(', ')}], strides [${strides.join(', ')}]`;
  throw new GlobalError(
    `${tensor} and offset ${offset} ends at byte ${end * itemSize} of a storage of ${nbytes} bytes`,
  );
}

/** Row-major strides in elements. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    strides[dim] = stride;
    stride *= Math.max(shape[dim]!, 1);
  }
  return strides;
}
