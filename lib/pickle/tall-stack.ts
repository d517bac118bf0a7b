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

  /** Only where there is something. */
  pop(): T {
    this.height--;
    const piece = this.pieces[this.height >> pieceBits]!;
    const index = this.height & (pieceSize - 1);
    const value = piece[index]!;
    // What was taken off must not stay in memory.
    piece[index] = undefined as T;
    return value;
  }

  /** The one on top; undefined where there is none. */
  get top(): T | undefined {
    const last = this.height - 1;
    return last < 0 ? undefined : this.pieces[last >> pieceBits]![last & (pieceSize - 1)];
  }

  set top(value: T) {
    const last = this.height - 1;
    this.pieces[last >> pieceBits]![last & (pieceSize - 1)] = value;
  }
}
