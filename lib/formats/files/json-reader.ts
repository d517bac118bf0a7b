import { Cost, MemoryBudget } from '../../pickle/budget';
import { CheckpointCode, CheckpointError } from '../../errors';

const quote = 0x22;
const backslash = 0x5c;
const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** How deep values that nobody asked for may nest. */
const maxSkippedDepth = 64;

/**
 * Reads JSON in order, as the caller expects it, with what `JSON.parse` lets pass refused: names that come twice, and
 * where an integer is due, any other form of number. No tree is built, so that memory and depth are the caller's.
 */
export class JsonReader {
  private position = 0;

  constructor(
    private readonly bytes: Buffer,
    /** Where in the file the text begins. */
    private readonly fileOffset = 0,
    /** What the names of objects and the text of strings may take of memory. */
    private readonly budget = new MemoryBudget(),
  ) {}

  /** The place of the next token in the file. */
  get offset(): number {
    this.skipSpace();
    return this.fileOffset + this.position;
  }

  error(message: string, offset = this.offset): CheckpointError {
    return new CheckpointError(message, CheckpointCode.container, { offset });
  }

  /** @throws CheckpointError where too little memory is left */
  spend(bytes: number): void {
    if (!this.budget.take(bytes)) throw new CheckpointError(this.budget.message, CheckpointCode.limit);
  }

  /** Calls `visit` for each name, which must read the value. */
  object(visit: (name: string, offset: number) => void): void {
    this.expect('{');
    if (this.accept('}')) return;
    const seen = new Set<string>();
    do {
      const { offset } = this;
      const name = this.string();
      if (seen.has(name)) throw this.error(`the name ${JSON.stringify(name.slice(0, 100))} occurs twice`, offset);
      this.spend(Cost.entry);
      seen.add(name);
      this.expect(':');
      visit(name, offset);
    } while (this.accept(','));
    this.expect('}');
  }

  /** Calls `visit` for each item, which must read it. */
  array(visit: () => void): void {
    this.expect('[');
    if (this.accept(']')) return;
    do visit();
    while (this.accept(','));
    this.expect(']');
  }

  string(): string {
    this.expect('"');
    const { bytes } = this;
    const start = this.position;
    let plain = true;
    for (let i = start; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (byte === quote) {
        this.position = i + 1;
        this.spend(Cost.string + i - start);
        return plain ? bytes.toString('latin1', start, i) : this.decode(start, i);
      }
      if (byte < 0x20) throw this.error('a control character in a string', this.fileOffset + i);
      if (byte < 0x80 && byte !== backslash) continue;
      plain = false;
      if (byte === backslash) i++;
    }
    throw this.error('a string has no end', this.fileOffset + start - 1);
  }

  /** A whole number from 0 to 2^53 - 1, in digits alone. */
  integer(): number {
    const { bytes } = this;
    this.skipSpace();
    const start = this.position;
    let value = 0;
    let at = start;
    for (; isDigit(bytes[at]); at++) value = value * 10 + bytes[at]! - 0x30;
    if (at === start || (bytes[start] === 0x30 && at > start + 1) || isNumberPart(bytes[at]))
      throw this.error('expected a whole number, 0 or more, in digits alone');
    if (value > Number.MAX_SAFE_INTEGER) throw this.error('a number beyond 2^53 - 1');
    this.position = at;
    return value;
  }

  /** Reads past any value. */
  skip(depth = 0): void {
    this.skipSpace();
    if (depth > maxSkippedDepth) throw this.error(`values nest deeper than ${maxSkippedDepth}`);
    const first = this.bytes[this.position];
    if (first === 0x7b) this.object(() => this.skip(depth + 1));
    else if (first === 0x5b) this.array(() => this.skip(depth + 1));
    else if (first === quote) this.string();
    else this.word();
  }

  /** Nothing but white space may follow. */
  end(): void {
    this.skipSpace();
    if (this.position < this.bytes.length) throw this.error('text follows the end of the JSON value');
  }

  /** A number, true, false or null. */
  private word(): void {
    const start = this.position;
    while (isWordPart(this.bytes[this.position])) this.position++;
    const text = this.bytes.toString('latin1', start, this.position);
    if (text.length > 400 || !/^(true|false|null|-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?)$/.test(text))
      throw this.error('expected a JSON value', this.fileOffset + start);
  }

  private decode(start: number, end: number): string {
    const offset = this.fileOffset + start;
    let text: string;
    try {
      text = strictUtf8.decode(this.bytes.subarray(start, end));
      // Control characters and quotes are excluded already: what is left to refuse are wrong escapes.
      if (text.includes('\\')) text = JSON.parse(`"${text}"`) as string;
    } catch (error) {
      throw new CheckpointError('a string is not UTF-8, or holds a wrong escape', CheckpointCode.container, {
        offset,
        cause: error,
      });
    }
    if (/\p{Surrogate}/u.test(text)) throw this.error('a string holds half a surrogate pair', offset);
    return text;
  }

  private expect(token: string): void {
    if (this.accept(token)) return;
    throw this.error(`expected '${token}'${this.position < this.bytes.length ? '' : ' where the text ends'}`);
  }

  private accept(token: string): boolean {
    this.skipSpace();
    if (this.bytes[this.position] !== token.charCodeAt(0)) return false;
    this.position++;
    return true;
  }

  private skipSpace(): void {
    for (;;) {
      const byte = this.bytes[this.position];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
      this.position++;
    }
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

/** `.`, `e` or `E`: the number is not written as an integer. */
function isNumberPart(byte: number | undefined): boolean {
  return byte === 0x2e || byte === 0x65 || byte === 0x45;
}

function isWordPart(byte: number | undefined): boolean {
  return byte !== undefined && /[\w.+-]/.test(String.fromCharCode(byte));
}
