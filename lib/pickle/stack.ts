import { Cost, type Spend } from './budget';
import { Tuple } from './types';

/** The stack of a pickle, with the marks that it sets on it. */
export class PickleStack {
  private readonly values: unknown[] = [];
  /** Heights at the open MARKs; nothing below the last one can be popped. */
  private readonly marks: number[] = [];
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
    if (this.values.length <= (this.marks.at(-1) ?? 0)) throw this.fail('the pickle takes an object that is not there');
    return this.values.pop();
  }

  top(): unknown {
    if (this.values.length <= (this.marks.at(-1) ?? 0)) throw this.fail('the pickle uses an object that is not there');
    return this.values[this.values.length - 1];
  }

  replaceTop(value: unknown): void {
    this.values[this.values.length - 1] = value;
  }

  mark(): true {
    this.spend(Cost.slot);
    this.marks.push(this.values.length);
    return true;
  }

  /** As in Python: directly after MARK, POP takes the mark. */
  drop(): true {
    if (this.values.length === this.marks.at(-1)) this.marks.pop();
    else this.pop();
    return true;
  }

  /** What was pushed since the last mark, which goes with it. */
  popMark(): unknown[] {
    return this.values.splice(this.lastMark());
  }

  /** The same as a tuple, of just its length: a splice makes room for more. */
  popTuple(): Tuple {
    const mark = this.lastMark();
    return this.tuple(this.values.length - mark);
  }

  /** The last values as a tuple. */
  tuple(length: number): Tuple {
    this.spend(Cost.array + length * Cost.item);
    // With one argument, the constructor takes a length.
    const tuple = new Tuple(length);
    for (let i = length - 1; i >= 0; i--) tuple[i] = this.pop();
    return tuple;
  }

  private lastMark(): number {
    const mark = this.marks.pop();
    if (mark === undefined) throw this.fail('the pickle closes a group that was never opened');
    return mark;
  }
}
