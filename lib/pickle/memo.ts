import { Cost } from './budget';

/**
 * The objects that a pickle refers to again, by index. Writers count up from 0, and an array then holds them. What is put under
 * an index that is never recalled is counted and not kept.
 */
export class Memo {
  private readonly dense: unknown[] = [];
  private readonly far = new Map<number, unknown>();

  /** @param recalled indices that will be asked for; undefined: perhaps all */
  constructor(private readonly recalled: ReadonlySet<number> | undefined) {}

  get size(): number {
    return this.dense.length + this.far.size;
  }

  keeps(index: number): boolean {
    return this.recalled === undefined || this.recalled.has(index);
  }

  /** What it takes to put something there. */
  costOf(index: number): number {
    if (index > this.size) return Cost.entry;
    return this.keeps(index) ? Cost.slot : Cost.emptySlot;
  }

  /** Undefined where nothing was put; no value of a pickle is undefined. */
  get(index: number): unknown {
    return index < this.dense.length ? this.dense[index] : this.far.get(index);
  }

  set(index: number, value: unknown): void {
    const kept = this.keeps(index) ? value : undefined;
    if (index < this.dense.length) this.dense[index] = kept;
    else if (index === this.dense.length && !this.far.has(index)) this.dense.push(kept);
    else this.far.set(index, kept);
  }
}
