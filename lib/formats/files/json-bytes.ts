/** Entries of a list or an object that are written in one go: about a millisecond's work. */
const entriesAtOnce = 1000;

/**
 * The bytes of `JSON.stringify(value)`, for values of many entries such as a vocabulary: made in slices, between which the event loop
 * may turn (`runInSlices`).
 */
export function* jsonBytes(value: unknown): Generator<void, Buffer, void> {
  const parts: Buffer[] = [];
  yield* write(value, parts);
  return Buffer.concat(parts);
}

type Entries = Readonly<Record<string | number, unknown>>;

function* write(value: unknown, parts: Buffer[]): Generator<void, void, void> {
  const add = (text: string): void => void parts.push(Buffer.from(text));
  if (typeof value !== 'object' || value === null) return add(JSON.stringify(value) ?? 'null');
  const isList = Array.isArray(value);
  const keys = isList ? undefined : Object.keys(value);
  yield;
  const count = keys?.length ?? (value as unknown[]).length;
  add(isList ? '[' : '{');
  let isFirst = true;
  for (let start = 0; start < count; start += entriesAtOnce) {
    const end = start + entriesAtOnce;
    const some = keys?.slice(start, end).map((key) => [key, (value as Entries)[key]] as const);
    const part = some === undefined ? (value as unknown[]).slice(start, end) : (Object.fromEntries(some) as Entries);
    if (count <= entriesAtOnce) yield* writeEach(part, parts);
    else {
      // The entries of a large list or object are small.
      const text = JSON.stringify(part).slice(1, -1);
      if (text !== '') add(isFirst ? text : `,${text}`);
      isFirst &&= text === '';
      yield;
    }
  }
  add(isList ? ']' : '}');
}

function* writeEach(value: Entries | unknown[], parts: Buffer[]): Generator<void, void, void> {
  const isList = Array.isArray(value);
  let separator = '';
  for (const [key, item] of Object.entries(value)) {
    if (!isList && item === undefined) continue; // as JSON.stringify does
    parts.push(Buffer.from(isList ? separator : `${separator}${JSON.stringify(key)}:`));
    yield* write(item, parts);
    separator = ',';
  }
}
