/** Entries of a list or an object that are written in one go: a few milliseconds. */
const entriesAtOnce = 2000;

/**
 * The bytes of `JSON.stringify(value)`, for values of many entries such as a vocabulary: made in slices, between which the event loop
 * may turn (`runInSlices`).
 */
export function* jsonBytes(value: unknown): Generator<void, Buffer, void> {
  const parts: Buffer[] = [];
  yield* write(value, parts);
  return Buffer.concat(parts);
}

function* write(value: unknown, parts: Buffer[]): Generator<void, void, void> {
  const add = (text: string): void => void parts.push(Buffer.from(text));
  if (typeof value !== 'object' || value === null) return add(JSON.stringify(value) ?? 'null');
  const isList = Array.isArray(value);
  const keys = isList ? value.keys() : Object.keys(value);
  const count = isList ? value.length : (keys as string[]).length;
  add(isList ? '[' : '{');
  if (count > entriesAtOnce) yield* writeMany(value, parts);
  else {
    let isFirst = true;
    for (const key of keys) {
      const item = (value as Record<string | number, unknown>)[key];
      if (!isList && item === undefined) continue; // as JSON.stringify does
      add(`${isFirst ? '' : ','}${isList ? '' : `${JSON.stringify(key)}:`}`);
      isFirst = false;
      yield* write(item, parts);
    }
  }
  add(isList ? ']' : '}');
}

/** Entries of a large list or object, each small. */
function* writeMany(value: object, parts: Buffer[]): Generator<void, void, void> {
  const isList = Array.isArray(value);
  const keys = isList ? [] : Object.keys(value);
  const count = isList ? value.length : keys.length;
  let isFirst = true;
  for (let start = 0; start < count; start += entriesAtOnce) {
    const some: unknown = isList
      ? value.slice(start, start + entriesAtOnce)
      : Object.fromEntries(
          keys.slice(start, start + entriesAtOnce).map((key) => [key, (value as Record<string, unknown>)[key]]),
        );
    const text = JSON.stringify(some).slice(1, -1);
    if (text !== '') parts.push(Buffer.from(isFirst ? text : `,${text}`));
    isFirst &&= text === '';
    yield;
  }
}
