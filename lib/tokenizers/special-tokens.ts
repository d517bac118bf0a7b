import { describe, TorchBindError } from '../errors';

/** The largest accepted id. It bounds the size of the id table that a file can cause. */
export const maxId = 2 ** 24;

/** As many special tokens as any program has; each place of a text is compared with all of them. */
const maxCount = 4096;

/** Tokens that stand for a text as a whole, such as `<user>`, and their ids past those of the vocabulary. */
export class SpecialTokens {
  readonly texts: ReadonlyMap<number, string>;
  private readonly pattern: RegExp | undefined;

  /** @param ids what each text's id is; all are at least `firstId` */
  constructor(
    private readonly ids: ReadonlyMap<string, number>,
    firstId: number,
  ) {
    if (ids.size > maxCount) throw invalid(`got ${ids.size} special tokens; the maximum is ${maxCount}`);
    this.texts = new Map(Array.from(ids, ([text, id]) => [checkId(id, text, firstId), text]));
    if (this.texts.size !== ids.size) throw invalid('two special tokens have the same id');
    if (ids.has('')) throw invalid('a special token is the empty string');
    // The longest that fits counts: an alternation takes the first.
    const longestFirst = [...ids.keys()].sort((a, b) => b.length - a.length);
    this.pattern = ids.size === 0 ? undefined : new RegExp(longestFirst.map(escapePattern).join('|'), 'gu');
  }

  /** -1 where there are none. */
  get highestId(): number {
    return Math.max(-1, ...this.texts.keys());
  }

  /** The ids of a text, of which the parts between special tokens are encoded by `ordinary`. */
  encode(text: string, ordinary: (part: string, ids: number[]) => void): number[] {
    const ids: number[] = [];
    let end = 0;
    for (const match of this.pattern === undefined ? [] : text.matchAll(this.pattern)) {
      ordinary(text.slice(end, match.index), ids);
      ids.push(this.ids.get(match[0])!);
      end = match.index + match[0].length;
    }
    ordinary(text.slice(end), ids);
    return ids;
  }
}

/** A regular expression for a text as it is. */
export function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
}

function checkId(id: unknown, text: string, firstId: number): number {
  if (typeof id === 'number' && Number.isInteger(id) && id >= firstId && id < maxId) return id;
  throw invalid(
    `the special token ${JSON.stringify(text)} must have an id of at least ${firstId}, got ${describe(id)}`,
  );
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(`tokenizer: ${message}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
