/** Cuts a stream of text before the first of several stop texts, wherever the pieces are cut. */
export class StopText {
  private held = '';
  private found = false;

  constructor(private readonly stops: readonly string[]) {}

  /** Whether a stop text came: no more text follows. */
  get done(): boolean {
    return this.found;
  }

  /** The text that can be given out: what may be the beginning of a stop text is held back. */
  push(piece: string): string {
    this.held += piece;
    const starts = this.stops.map((stop) => this.held.indexOf(stop)).filter((start) => start >= 0);
    if (starts.length > 0) {
      this.found = true;
      return this.release(Math.min(...starts));
    }
    return this.release(this.held.length - this.longestBeginning());
  }

  /** The rest, when no more text comes. */
  end(): string {
    return this.found ? '' : this.release(this.held.length);
  }

  private release(length: number): string {
    const text = this.held.slice(0, length);
    this.held = this.held.slice(length);
    return text;
  }

  /** Length of the longest end of the held text that a stop text begins with. */
  private longestBeginning(): number {
    const longest = Math.max(0, ...this.stops.map((stop) => stop.length - 1));
    for (let length = Math.min(longest, this.held.length); length > 0; length--) {
      const ending = this.held.slice(-length);
      if (this.stops.some((stop) => stop.startsWith(ending))) return length;
    }
    return 0;
  }
}
