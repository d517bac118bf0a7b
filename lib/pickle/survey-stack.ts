/**
 * An item of a `SurveyStack`, encoded as a number: the position of a text in the pickle, the number of a name, a mark,
 * or anything else.
 */
export type Item = number;

export const other: Item = 0;
const mark: Item = -(2 ** 31);

export function textItem(offset: number): Item {
  return offset + 1;
}

/** Where the text is; undefined where the item is something else. */
export function textOffset(item: Item): number | undefined {
  return item > 0 ? item - 1 : undefined;
}

export function nameItem(index: number): Item {
  return -index - 1;
}

/** The number of the name; undefined where the item is something else. */
export function nameIndex(item: Item): number | undefined {
  return item < 0 && item !== mark ? -item - 1 : undefined;
}

/** 8 MB: a pickle that holds more at a time is not followed. */
const maxHeight = 2 ** 21;

/** The stack of a pickle that is only looked at. It takes as much memory as it is high; what is not there is `other`. */
export class SurveyStack {
  /** No opcode is shorter than what it pushes; the system gives memory where it is written to. */
  private readonly items: Int32Array;
  private height = 0;

  constructor(pickleLength: number) {
    this.items = new Int32Array(Math.min(pickleLength, maxHeight));
  }

  /** Whether there was room. */
  push(item: Item): boolean {
    if (this.height === this.items.length) return false;
    this.items[this.height++] = item;
    return true;
  }

  pushMark(): boolean {
    return this.push(mark);
  }

  top(): Item {
    return this.height === 0 ? other : this.items[this.height - 1]!;
  }

  pop(): Item {
    return this.height === 0 ? other : this.items[--this.height]!;
  }

  /** Takes all down to the last mark, and the mark. Gives what was just above it. */
  popMark(): Item {
    let first = other;
    for (let item = this.pop(); item !== mark; item = this.pop()) {
      first = item;
      if (this.height === 0) break;
    }
    return first;
  }
}
