import { TorchBindError } from '../../errors';
import type { Handle } from '../../native/binding';
import { native } from '../../native/native';
import { contiguousStrides } from './tensor-spec';

/** Offset and strides in elements. */
export interface SavedGeometry {
  offset: number;
  shape: number[];
  strides: number[];
}

/**
 * Where a tensor is in its storage, as files can say it. The offset of a tensor without elements, and the strides along dimensions
 * without a second element, may be any number, also beyond 2^53 - 1; they mean nothing, and the usual ones take their place.
 *
 * @throws TorchBindError ERR_TORCHBIND_UNSUPPORTED_VALUE for sizes beyond that
 */
export function geometryOf(handle: Handle): SavedGeometry {
  const shape = native().shape(handle);
  if (!shape.every(Number.isSafeInteger))
    throw new TorchBindError(
      `cannot save a tensor of shape [${shape.join(', ')}]: expected sizes up to 2^53 - 1`,
      'ERR_TORCHBIND_UNSUPPORTED_VALUE',
    );
  const strides = native().strides(handle);
  const offset = native().storageOffset(handle);
  const usual = strides.every(Number.isSafeInteger) ? strides : contiguousStrides(shape);
  return {
    shape,
    strides: strides.map((stride, dim) => (Number.isSafeInteger(stride) ? stride : usual[dim]!)),
    offset: Number.isSafeInteger(offset) ? offset : 0,
  };
}
