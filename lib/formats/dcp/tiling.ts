/** A part of a tensor: where it begins in each dimension, and how long it is there. */
export interface Box {
  offsets: readonly number[];
  sizes: readonly number[];
}

/** Meshes of devices have two or three dimensions. */
export const maxSplitDimensions = 8;

/** The dimensions along which a tensor was cut into parts. */
export function splitDimensions(shape: readonly number[], parts: readonly Box[]): number[] {
  return [...shape.keys()].filter((dim) =>
    parts.some(({ offsets, sizes }) => offsets[dim] !== 0 || sizes[dim] !== shape[dim]),
  );
}

/**
 * Whether parts cover every element of a tensor once. What a box covers follows from its corners, each counted plus or minus
 * one by turns: the parts cover what the whole does where the counts of all corners are equal. Takes time in proportion to
 * the number of parts.
 *
 * @param parts lie within the shape
 */
export function coversOnce(shape: readonly number[], parts: readonly Box[]): boolean {
  if (shape.includes(0)) return true;
  const dimensions = splitDimensions(shape, parts);
  if (dimensions.length > maxSplitDimensions) return false;
  const counts = new Map<string, number>();
  const add = ({ offsets, sizes }: Box, sign: number): void => {
    for (let corner = 0; corner < 2 ** dimensions.length; corner++) {
      let place = '';
      let count = sign;
      dimensions.forEach((dim, i) => {
        const isEnd = ((corner >> i) & 1) === 1;
        place += `${offsets[dim]! + (isEnd ? sizes[dim]! : 0)},`;
        if (isEnd) count = -count;
      });
      counts.set(place, (counts.get(place) ?? 0) + count);
    }
  };
  for (const part of parts) add(part, 1);
  add({ offsets: shape.map(() => 0), sizes: shape }, -1);
  for (const count of counts.values()) if (count !== 0) return false;
  return true;
}
