import { checkArgument } from '../../errors';

/** One number for all dimensions, or one for each. */
export type Sizes = number | readonly number[];

/** A size for each of `count` dimensions. */
export function sizesOf(value: Sizes, count: number, where: string): number[] {
  const sizes = typeof value === 'number' ? new Array<number>(count).fill(value) : value;
  const isFine = Array.isArray(sizes) && sizes.length === count && sizes.every(Number.isSafeInteger);
  checkArgument(isFine, `an integer, or ${count} of them`, value, where);
  return [...sizes];
}
