const ERASE_BELOW = '\u001b[J';
const NO_WRAP = '\u001b[?7l';
const WRAP = '\u001b[?7h';
const tokens = new RegExp(String.raw`\u001b\[(J|\?7[lh])|[\s\S]`, 'gu');

/**
 * What a terminal shows of a command's output. It knows text, line ends, "erase below" and switching wrapping off and on;
 * it wraps long lines, and wraps them anew when it is resized, as today's terminals do. Other escape sequences throw:
 * torchbind needs none.
 */
export class Screen {
  /** Characters of each line; a line that is longer than the terminal takes several rows. */
  private readonly text: string[][] = [[]];
  private line = 0;
  /** Place of the cursor in its line. */
  private offset = 0;
  /** The last column was written: the cursor is still there, and wraps with the next character. */
  private isFull = false;
  private wraps = true;

  constructor(private columns: number) {}

  get lines(): string[] {
    return this.text.map((line) => line.join('').trimEnd());
  }

  /** The cursor's line and its place in it. */
  get cursor(): [line: number, offset: number] {
    return [this.line, this.offset];
  }

  resize(columns: number): void {
    this.columns = columns;
  }

  write(output: string): void {
    for (const { 0: token, index } of output.matchAll(tokens)) {
      if (token === ERASE_BELOW) this.eraseBelow();
      else if (token === NO_WRAP || token === WRAP) this.wraps = token === WRAP;
      else if (token === '\r') this.offset = this.rowStart();
      else if (token === '\n') this.nextRow();
      else if (token >= ' ') this.put(token);
      else throw new Error(`the screen does not know ${JSON.stringify(output.slice(index, index + 8))}`);
      if (token.length === 1) this.isFull = token >= ' ' && this.wraps && this.offset % this.columns === 0;
    }
  }

  private rowStart(): number {
    const column = this.isFull ? this.columns : this.offset % this.columns;
    return this.offset - column;
  }

  private put(character: string): void {
    const line = this.text[this.line]!;
    while (line.length < this.offset) line.push(' ');
    line[this.offset] = character;
    if (this.wraps || (this.offset + 1) % this.columns !== 0) this.offset++;
  }

  private nextRow(): void {
    const start = this.rowStart();
    if (start + this.columns < this.text[this.line]!.length) {
      this.offset += this.columns;
      return;
    }
    this.line++;
    this.text[this.line] ??= [];
    this.offset -= start;
  }

  private eraseBelow(): void {
    this.text[this.line]!.length = Math.min(this.text[this.line]!.length, this.offset);
    this.text.length = this.line + 1;
  }
}
