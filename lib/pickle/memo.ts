import { Cost, type Spend } from './budget';
import type { MemoIndices } from './steps';

/**
 * The objects that a pickle refers to again, by index. What is put under an index that is never recalled is counted and not
 * kept.
 */
export class Memo<Item = unknown> {
  /** Writers count up from 0: all indices below this were put. */
  private dense = 0;
  /** The others that were put. */
  private readonly far = new Set<number>();
  private readonly kept = new Map<number, Item>();

  /** @param recalled indices that will be asked for */
  constructor(private readonly recalled: MemoIndices) {}

  /** How many indices something was put under. */
  get size(): number {
    return this.dense + this.far.size;
  }

  /** Undefined where nothing was put. */
  get(index: number): Item | undefined {
    return this.kept.get(index);
  }

  /** Gives whether the value is kept. */
  put(index: number, value: Item, spend: Spend): boolean {
    if (index === this.dense && !this.far.has(index)) this.dense++;
    else if (index >= this.dense && !this.far.has(index)) {
      spend(Cost.entry);
      this.far.add(index);
    }
    if (!this.recalled.has(index)) return false;
    if (!this.kept.has(index)) spend(Cost.entry);
    this.kept.set(index, value);
    return true;
  }
}
