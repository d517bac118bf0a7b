import { checkOptions } from '../errors';
import type { Tensor } from './core';
import { overloadSet } from './dispatch';

/** Options of `unique`. */
export interface UniqueOptions {
  /** Return the values in ascending order. Default true. */
  sorted?: boolean;
  /** Also return the position of each element's value. Default false. */
  returnInverse?: boolean;
  /** Also return how often each value occurs. Default false. */
  returnCounts?: boolean;
  /** Compare whole slices along this dimension instead of single elements. */
  dim?: number;
}

/** The distinct values of a tensor (PyTorch's `torch.unique`), then positions and counts if requested. */
export function unique(
  input: Tensor,
  options: UniqueOptions & { returnInverse: true; returnCounts: true },
): [values: Tensor, inverse: Tensor, counts: Tensor];
export function unique(
  input: Tensor,
  options: UniqueOptions & { returnInverse: true },
): [values: Tensor, inverse: Tensor];
export function unique(
  input: Tensor,
  options: UniqueOptions & { returnCounts: true },
): [values: Tensor, counts: Tensor];
export function unique(input: Tensor, options?: UniqueOptions): Tensor;
export function unique(input: Tensor, options: UniqueOptions = {}): Tensor | Tensor[] {
  checkOptions(options, ['sorted', 'returnInverse', 'returnCounts', 'dim'], 'unique()');
  const { sorted = true, returnInverse = false, returnCounts = false, dim } = options;
  const found =
    dim === undefined
      ? overloadSet('aten::_unique2').call([input, sorted, returnInverse, returnCounts])
      : overloadSet('aten::unique_dim').call([input, dim, sorted, returnInverse, returnCounts]);
  return wanted(found as [Tensor, Tensor, Tensor], returnInverse, returnCounts);
}

/** Options of `uniqueConsecutive`. */
export interface UniqueConsecutiveOptions {
  /** Also return the position of each element's value. Default false. */
  returnInverse?: boolean;
  /** Also return the length of each run. Default false. */
  returnCounts?: boolean;
  /** Compare whole slices along this dimension instead of single elements. */
  dim?: number | null;
}

/**
 * The values of a tensor without consecutive repetitions (PyTorch's `torch.unique_consecutive`), then positions and
 * counts if requested.
 */
export function uniqueConsecutive(
  input: Tensor,
  options: UniqueConsecutiveOptions & { returnInverse: true; returnCounts: true },
): [values: Tensor, inverse: Tensor, counts: Tensor];
export function uniqueConsecutive(
  input: Tensor,
  options: UniqueConsecutiveOptions & { returnInverse: true },
): [values: Tensor, inverse: Tensor];
export function uniqueConsecutive(
  input: Tensor,
  options: UniqueConsecutiveOptions & { returnCounts: true },
): [values: Tensor, counts: Tensor];
export function uniqueConsecutive(input: Tensor, options?: UniqueConsecutiveOptions): Tensor;
export function uniqueConsecutive(input: Tensor, options: UniqueConsecutiveOptions = {}): Tensor | Tensor[] {
  checkOptions(options, ['returnInverse', 'returnCounts', 'dim'], 'uniqueConsecutive()');
  const { returnInverse = false, returnCounts = false, dim = null } = options;
  const found = overloadSet('aten::unique_consecutive').call([input, returnInverse, returnCounts, dim]);
  return wanted(found as [Tensor, Tensor, Tensor], returnInverse, returnCounts);
}

/** Leaves out, and frees, what was not asked for. */
function wanted(
  [values, inverse, counts]: [Tensor, Tensor, Tensor],
  withInverse: boolean,
  withCounts: boolean,
): Tensor | Tensor[] {
  const results = [values];
  if (withInverse) results.push(inverse);
  else inverse.dispose();
  if (withCounts) results.push(counts);
  else counts.dispose();
  return results.length === 1 ? values : results;
}
