import { checkOptions, describe, TorchBindError } from '../errors';
import { randperm } from '../tensor/creation';
import { Generator } from '../tensor/random';
import { tidy } from '../tensor/scope';
import { encodeText, type Tokenizer } from '../tokenizers';
import { type Separator, separatorIds } from './documents';
import { wrongData } from './token-file';
import type { Tokens } from './token-stream';

/** A sequence of texts, for example a Readable. Bytes are UTF-8. */
export type TextPieces = AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>;

/**
 * Source of a stream: texts, which can be read only once; or a function that always returns the same texts, starting at
 * index `position`. With a function, a run can resume exactly, and training starts over when the texts end.
 */
export type TextSource = TextPieces | ((position: number) => TextPieces | Promise<TextPieces>);

/** Options of `TextStream`. */
export interface TextStreamOptions {
  /** Separator after each text: a token's id, or its text. Default: none; the texts are pieces of one. */
  separator?: Separator;
  /** Number of windows to shuffle at a time, which bounds memory. Default 0: windows in the order of the text. */
  shuffleBuffer?: number;
  /** Validation tokens, which must not be in the stream. Default: none. */
  validation?: Tokens;
}

/** A stream of training text, read during training: `fit({ data: new TextStream(source) })`. */
export class TextStream {
  readonly validation: Tokens;

  constructor(
    readonly source: TextSource,
    readonly options: TextStreamOptions = {},
  ) {
    checkOptions(options, ['separator', 'shuffleBuffer', 'validation'], 'TextStream');
    const { shuffleBuffer = 0, validation = new Int32Array(0) } = options;
    if (typeof source !== 'function' && !isPieces(source)) {
      throw invalid(`the source must be texts that can be iterated over, or a function, got ${describe(source)}`);
    }
    if (!Number.isSafeInteger(shuffleBuffer) || shuffleBuffer < 0)
      throw invalid(`shuffleBuffer must be an integer of at least 0, got ${describe(shuffleBuffer)}`);
    this.validation = validation;
  }

  /** Whether the source can be reopened. */
  get canReopen(): boolean {
    return typeof this.source === 'function';
  }
}

function isPieces(source: unknown): boolean {
  if (typeof source !== 'object' || source === null) return false;
  return Symbol.asyncIterator in source || Symbol.iterator in source;
}

/** Position in the windows of a stream, from which it can be reopened. */
export interface StreamPosition {
  /** Number of times that the stream has ended. */
  epoch: number;
  /** Index of the text in which the current block of windows starts, and number of its tokens before that. */
  piece: number;
  offset: number;
  /** Number of blocks before this one, which seeds the order. */
  block: number;
  /** Number of its windows used. */
  given: number;
}

interface Block {
  start: StreamPosition;
  /** Each of T + 1 ids. */
  windows: Int32Array[];
  given: number;
}

/** Windows of T + 1 ids of a stream, in blocks that are shuffled; each window begins with the last id of the one before. */
export class StreamWindows {
  private blocks: Block[] = [];
  /** Ids that were read but are in no window yet, by their text. */
  private waiting: { piece: number; offset: number; ids: Int32Array }[] = [];
  private pieces: AsyncIterator<string | Uint8Array> | Iterator<string | Uint8Array> | undefined;
  private next: StreamPosition = { epoch: 0, piece: 0, offset: 0, block: 0, given: 0 };
  private piece = 0;
  private decoder = new TextDecoder();
  private isOver = false;
  /** Number of windows in the epoch so far: a stream without windows would start over forever. */
  private windowsInEpoch = 0;
  private startedAtZero = true;
  private readonly separator: Int32Array;

  constructor(
    private readonly stream: TextStream,
    private readonly tokenizer: Tokenizer,
    private readonly options: { blockSize: number; seed: number },
  ) {
    this.separator = separatorIds(tokenizer, stream.options.separator);
  }

  /** Reads until `count` windows can be taken; false if the stream ends before. Drops used blocks. */
  async fill(count: number): Promise<boolean> {
    this.blocks = this.blocks.filter(({ windows, given }) => given < windows.length);
    const available = (): number => this.blocks.reduce((sum, { windows, given }) => sum + windows.length - given, 0);
    while (available() < count && !this.isOver) await this.readBlock();
    return available() >= count;
  }

  /** The next windows, which `fill` has read. */
  take(count: number): Int32Array[] {
    const taken: Int32Array[] = [];
    for (const block of this.blocks) {
      while (taken.length < count && block.given < block.windows.length) taken.push(block.windows[block.given++]!);
    }
    return taken;
  }

  getState(): StreamPosition {
    const block = this.blocks.find(({ windows, given }) => given < windows.length);
    return block === undefined ? { ...this.next } : { ...block.start, given: block.given };
  }

  /** Continues at a position: in the current block, or by reopening the source there. */
  setState(position: StreamPosition): void {
    const held = this.blocks.findIndex(({ start }) => start.block === position.block);
    if (held >= 0) {
      this.blocks = this.blocks.slice(held);
      this.blocks.forEach((block, i) => (block.given = i === 0 ? position.given : 0));
      return;
    }
    if (!this.stream.canReopen) throw invalid('the source can be read once only, and gives nothing again');
    this.blocks = [];
    this.next = { ...position };
    this.close();
    this.isOver = false;
  }

  /** Closes the source. */
  close(): void {
    const { pieces } = this;
    this.pieces = undefined;
    this.waiting = [];
    // A source that is left early may have a file to close.
    Promise.resolve(pieces?.return?.()).catch(() => undefined);
  }

  private async readBlock(): Promise<void> {
    const { blockSize, seed } = this.options;
    const size = Math.max(1, this.stream.options.shuffleBuffer ?? 0);
    if (this.pieces === undefined) await this.open();
    const { given, ...start } = this.next;
    const windows: Int32Array[] = [];
    while (windows.length < size && (await this.readTokens(blockSize + 1))) windows.push(this.cutWindow(blockSize));
    this.windowsInEpoch += windows.length;
    if (windows.length > 0) {
      const order = size === 1 ? [0] : permutation(windows.length, seed + start.block);
      const shuffled = order.map((i) => windows[i]!);
      this.blocks.push({ start: { ...start, given: 0 }, windows: shuffled, given });
    }
    const head = this.waiting[0];
    const place = head === undefined ? { piece: this.piece, offset: 0 } : { piece: head.piece, offset: head.offset };
    this.next = { epoch: start.epoch, ...place, block: start.block + 1, given: 0 };
    if (windows.length < size) this.endEpoch();
  }

  private endEpoch(): void {
    if (this.windowsInEpoch === 0 && this.startedAtZero) {
      throw wrongData(
        `the stream holds no window: a window and its targets are ${this.options.blockSize + 1} tokens. Give more text, or a ` +
          'model with a smaller blockSize',
      );
    }
    this.close();
    this.isOver = !this.stream.canReopen;
    this.next = { epoch: this.next.epoch + 1, piece: 0, offset: 0, block: this.next.block, given: 0 };
  }

  private async open(): Promise<void> {
    const { source } = this.stream;
    const { piece, offset } = this.next;
    const pieces = typeof source === 'function' ? await source(piece) : source;
    if (!isPieces(pieces))
      throw invalid(`the source must give texts that can be iterated over, got ${describe(pieces)}`);
    this.pieces = Symbol.asyncIterator in pieces ? pieces[Symbol.asyncIterator]() : pieces[Symbol.iterator]();
    this.piece = piece;
    this.windowsInEpoch = 0;
    this.startedAtZero = piece === 0 && offset === 0;
    this.decoder = new TextDecoder();
    if (offset > 0 && (await this.readPiece())) this.drop(offset);
  }

  /** Reads until `count` ids are waiting; false if the stream ends before. */
  private async readTokens(count: number): Promise<boolean> {
    const have = (): number => this.waiting.reduce((sum, { ids }) => sum + ids.length, 0);
    let total = have();
    while (total < count) {
      if (!(await this.readPiece())) return false;
      total = have();
    }
    return true;
  }

  private async readPiece(): Promise<boolean> {
    const next = await this.pieces!.next();
    if (next.done === true) return false;
    const ids = await this.encode(this.textOf(next.value));
    if (ids.length > 0) this.waiting.push({ piece: this.piece, offset: 0, ids });
    this.piece++;
    return true;
  }

  /** Bytes may end in the middle of a character. A run could then not resume at the start of a text, so only sources that are read once may give bytes. */
  private textOf(value: unknown): string {
    if (typeof value === 'string') return value;
    if (value instanceof Uint8Array && !this.stream.canReopen) return this.decoder.decode(value, { stream: true });
    throw invalid(
      `expected texts, got ${describe(value)}` +
        (value instanceof Uint8Array ? '. A source that is a function must return strings' : ''),
    );
  }

  private async encode(text: string): Promise<Int32Array> {
    const ids = await encodeText(this.tokenizer, text);
    if (this.separator.length === 0) return ids;
    const all = new Int32Array(ids.length + this.separator.length);
    all.set(ids);
    all.set(this.separator, ids.length);
    return all;
  }

  /** T + 1 ids. The last one is also the first of the next window. */
  private cutWindow(blockSize: number): Int32Array {
    const window = new Int32Array(blockSize + 1);
    let filled = 0;
    for (const { ids } of this.waiting) {
      const part = ids.subarray(0, window.length - filled);
      window.set(part, filled);
      filled += part.length;
      if (filled === window.length) break;
    }
    this.drop(blockSize);
    return window;
  }

  private drop(count: number): void {
    for (let left = count; left > 0;) {
      const head = this.waiting[0];
      if (head === undefined) return;
      const part = Math.min(left, head.ids.length);
      left -= part;
      head.ids = head.ids.subarray(part);
      head.offset += part;
      if (head.ids.length === 0) this.waiting.shift();
    }
  }
}

function permutation(length: number, seed: number): number[] {
  return tidy(() => {
    const order = randperm(length, { generator: new Generator().manualSeed(seed) });
    return Array.from(order.toTypedArray() as BigInt64Array, Number);
  });
}

function invalid(reason: string): TorchBindError {
  return new TorchBindError(`TextStream: ${reason}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
