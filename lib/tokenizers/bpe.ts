/**
 * Byte-pair encoding of one piece of text: the adjacent pair that makes the token of lowest rank is merged, until no
 * pair makes a token. A heap finds that pair, so that a piece of n bytes takes O(n log n) and a long run of one letter
 * cannot stall a server.
 *
 * `piece` has one character for each byte (latin1); `ranks` maps the tokens in the same form to their ids.
 */
export function bytePairEncode(piece: string, ranks: ReadonlyMap<string, number>): number[] {
  const whole = ranks.get(piece);
  if (whole !== undefined) return [whole];

  const parts = new Parts(piece, ranks);
  const heap = new MinHeap();
  for (let start = 0; start + 1 < piece.length; start++) heap.push(parts.pairKey(start));
  for (let key = heap.pop(); key !== undefined; key = heap.pop()) {
    const start = key % positions;
    if (parts.pairKey(start) !== key) continue; // One of the two has been merged meanwhile: the pair is gone.
    parts.mergeWithNext(start);
    heap.push(parts.pairKey(start));
    heap.push(parts.pairKey(parts.previous[start]!));
  }
  return parts.tokens();
}

/** A heap key is rank * positions + start: ordered by rank, then leftmost first, and exact below 2^53. */
const positions = 2 ** 32;
const noPair = Infinity;

/** A piece cut into parts: a doubly linked list, where a part is named by the position of its first byte. */
class Parts {
  private readonly next: Int32Array;
  readonly previous: Int32Array;

  constructor(
    private readonly piece: string,
    private readonly ranks: ReadonlyMap<string, number>,
  ) {
    this.next = Int32Array.from({ length: piece.length }, (_, i) => i + 1);
    this.previous = Int32Array.from({ length: piece.length }, (_, i) => i - 1);
  }

  /** The heap key of the part at `start` and the one after it; `noPair` where these make no token. */
  pairKey(start: number): number {
    const second = this.next[start] ?? 0; // 0: no part, or one that was merged into another.
    if (second === 0 || second === this.piece.length) return noPair;
    const rank = this.ranks.get(this.piece.slice(start, this.next[second]));
    return rank === undefined ? noPair : rank * positions + start;
  }

  mergeWithNext(start: number): void {
    const second = this.next[start]!;
    const third = this.next[second]!;
    this.next[start] = third;
    this.next[second] = 0;
    if (third < this.piece.length) this.previous[third] = start;
  }

  tokens(): number[] {
    const tokens: number[] = [];
    for (let start = 0; start < this.piece.length; start = this.next[start]!) {
      tokens.push(this.ranks.get(this.piece.slice(start, this.next[start]))!);
    }
    return tokens;
  }
}

class MinHeap {
  private readonly keys: number[] = [];

  push(key: number): void {
    if (key === noPair) return;
    let child = this.keys.push(key) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (this.keys[parent]! <= key) break;
      this.keys[child] = this.keys[parent]!;
      child = parent;
    }
    this.keys[child] = key;
  }

  pop(): number | undefined {
    const least = this.keys[0];
    const last = this.keys.pop();
    if (this.keys.length > 0) this.sink(last!);
    return least;
  }

  private sink(key: number): void {
    const size = this.keys.length;
    let parent = 0;
    for (let child = 1; child < size; child = 2 * parent + 1) {
      if (child + 1 < size && this.keys[child + 1]! < this.keys[child]!) child++;
      if (this.keys[child]! >= key) break;
      this.keys[parent] = this.keys[child]!;
      parent = child;
    }
    this.keys[parent] = key;
  }
}
