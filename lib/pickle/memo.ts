import { nextOpcode, Op } from './opcodes';
import { Cost, type Spend } from './budget';

/** Indices of the memo, one bit for each index that a pickle of this size can have. */
export class MemoIndices {
  private readonly bits: Uint8Array;

  constructor(private readonly pickleLength: number) {
    this.bits = new Uint8Array((pickleLength >>> 3) + 1);
  }

  /** One beyond the length of the pickle is not noted: nothing can be there. */
  add(index: number): void {
    if (index >= 0 && index <= this.pickleLength) this.bits[index >>> 3]! |= 1 << (index & 7);
  }

  has(index: number): boolean {
    return index >= 0 && index <= this.pickleLength && (this.bits[index >>> 3]! & (1 << (index & 7))) !== 0;
  }
}

/** Opcodes that are read in a slice: well under a millisecond of work, once it is compiled. */
export const sliceOfOpcodes = 256;

/**
 * The indices of the memo that a pickle refers to again, as far as it can be followed: writers remember nearly everything, and
 * need little of it. Yields between slices of the work.
 */
export function* recalledIndices(bytes: Buffer): Generator<void, MemoIndices, void> {
  const indices = new MemoIndices(bytes.length);
  let opcodes = 0;
  for (let at: number | undefined = 0; at !== undefined && at < bytes.length; at = nextOpcode(bytes, at)) {
    if (++opcodes % sliceOfOpcodes === 0) yield;
    const op = bytes[at];
    if (op === Op.STOP) break;
    if (op === Op.BINGET && at + 1 < bytes.length) indices.add(bytes[at + 1]!);
    else if (op === Op.LONG_BINGET && at + 4 < bytes.length) indices.add(bytes.readUInt32LE(at + 1));
    else if (op === Op.GET)
      indices.add(Number(bytes.toString('latin1', at + 1, Math.min(bytes.indexOf(0x0a, at), at + 12))));
  }
  return indices;
}

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
