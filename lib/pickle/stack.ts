import { Cost, type Spend, tupleCost } from './budget';
import { Tuple } from './types';

const pieceBits = 10;
const pieceSize = 2 ** pieceBits;

/**
 * A stack that grows by pieces: an array that grows is copied, and leaves garbage of several times its size. Pieces that were needed
 * once stay.
 */
export class TallStack<T> {
  private readonly pieces: T[][] = [];
  private height = 0;

  get length(): number {
    return this.height;
  }

  push(value: T): void {
    const index = this.height >> pieceBits;
    if (index === this.pieces.length) this.pieces.push(new Array<T>(pieceSize));
    this.pieces[index]![this.height & (pieceSize - 1)] = value;
    this.height++;
  }

  /** Only if there is something. */
  pop(): T {
    this.height--;
    const piece = this.pieces[this.height >> pieceBits]!;
    const index = this.height & (pieceSize - 1);
    const value = piece[index]!;
    // What was taken off must not stay in memory.
    piece[index] = undefined as T;
    return value;
  }

  /** The top element; undefined if the stack is empty. */
  get top(): T | undefined {
    const last = this.height - 1;
    return last < 0 ? undefined : this.pieces[last >> pieceBits]![last & (pieceSize - 1)];
  }

  set top(value: T) {
    const last = this.height - 1;
    this.pieces[last >> pieceBits]![last & (pieceSize - 1)] = value;
  }
}

/** The stack of a pickle, with the marks that it sets on it. */
export class PickleStack {
  private readonly values = new TallStack<unknown>();
  /** Heights at the open MARKs; nothing below the last one can be popped. */
  private readonly marks = new TallStack<number>();
  private highest = 0;

  constructor(
    private readonly spend: Spend,
    /** Makes the error for the opcode that is being read. */
    private readonly fail: (message: string) => Error,
  ) {}

  get isEmpty(): boolean {
    return this.values.length === 0 && this.marks.length === 0;
  }

  push(value: unknown): true {
    // Only a new height takes memory.
    if (this.values.length >= this.highest) {
      this.highest++;
      this.spend(Cost.slot);
    }
    this.values.push(value);
    return true;
  }

  pop(): unknown {
    if (this.values.length <= (this.marks.top ?? 0)) throw this.fail('the pickle takes an object that is not there');
    return this.values.pop();
  }

  top(): unknown {
    if (this.values.length <= (this.marks.top ?? 0)) throw this.fail('the pickle uses an object that is not there');
    return this.values.top;
  }

  replaceTop(value: unknown): void {
    this.values.top = value;
  }

  mark(): true {
    this.spend(Cost.slot);
    this.marks.push(this.values.length);
    return true;
  }

  /** As in Python: directly after MARK, POP takes the mark. */
  drop(): true {
    if (this.values.length === this.marks.top) this.marks.pop();
    else this.pop();
    return true;
  }

  /** What was pushed since the last mark, which goes with it. */
  popMark(): unknown[] {
    const mark = this.lastMark();
    const items = new Array<unknown>(this.values.length - mark);
    for (let i = items.length - 1; i >= 0; i--) items[i] = this.values.pop();
    return items;
  }

  /** The same as a tuple. */
  popTuple(): Tuple {
    const mark = this.lastMark();
    return this.tuple(this.values.length - mark);
  }

  /** The last values as a tuple. */
  tuple(length: number): Tuple {
    this.spend(tupleCost(length));
    // With one argument, the constructor takes a length.
    const tuple = new Tuple(length);
    for (let i = length - 1; i >= 0; i--) tuple[i] = this.pop();
    return tuple;
  }

  private lastMark(): number {
    if (this.marks.length === 0) throw this.fail('the pickle closes a group that was never opened');
    return this.marks.pop();
  }
}
