/** A complex number, as scalars of complex tensors come and go. */
export interface Complex {
  re: number;
  im: number;
}

/**
 * What PyTorch's `Scalar` takes. JavaScript has one number type, so an integral number counts as an int, as its
 * literal in Python would; a bigint is an int, a non-integral number a float.
 */
export type Scalar = number | bigint | boolean | Complex;

/** Nested arrays of a tensor's values; a lone value for a tensor without dimensions. */
export type NestedValues = number | bigint | boolean | Complex | NestedValues[];

/** A device by name (PyTorch's `torch.device`): `cuda` without an index is the current CUDA device, `meta` has shapes and no data. */
export type DeviceName = 'cpu' | 'cuda' | 'meta' | `cuda:${number}`;

/** PyTorch's `torch.layout`. */
export type Layout = 'strided' | 'sparse_coo' | 'sparse_csr' | 'sparse_csc' | 'sparse_bsr' | 'sparse_bsc' | 'mkldnn';

/** PyTorch's `torch.memory_format`. */
export type MemoryFormat = 'contiguous_format' | 'preserve_format' | 'channels_last' | 'channels_last_3d';

export function isComplex(value: unknown): value is Complex {
  if (value === null || typeof value !== 'object') return false;
  const { re, im } = value as Partial<Complex>;
  return typeof re === 'number' && typeof im === 'number';
}

export function isScalar(value: unknown): value is Scalar {
  return typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean' || isComplex(value);
}
