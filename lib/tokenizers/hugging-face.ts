import { checkOptions, CheckpointCode, CheckpointError, checkText, withPath } from '../errors';
import { jsonBytes } from '../formats/files/json-bytes';
import { parsePythonJson, parseSettings } from '../formats/files/python-json';
import { runInSlices } from '../workers/slices';
import { type ChatMessage, type ChatTemplateOptions, type ChatTemplates, renderChat } from './chat-template';
import { type Engine, makeEngine } from './byte-level-engine';
import { ByteDecoder, decodeAll, tokenBytes } from './decode';
import { ChainDecoder } from './decode-chain';
import { checkEngineParts } from './engine-json';
import { encodeLong, encodesAs } from './encode-async';
import { checkHuggingFaceJson, type CheckedTokenizer, isHuggingFaceJson } from './hugging-face-json';
import type { Json } from './json-checks';
import type { HuggingFaceJson, StreamDecoder, Tokenizer } from './tokenizer';
import { runWithin } from './regex';
import { findRustEngine, makeRustTokenizer, readEncoding, type RustTokenizer, type TokenEncoding } from './rust-engine';
import {
  encodeInWorker,
  encodeWhileWaiting,
  encodeWithOffsetsInWorker,
  type OpenedJson,
  openInWorker,
  type TokenizerSource,
} from './worker-client';

/** Options of `HuggingFaceTokenizer`. */
export interface HuggingFaceTokenizerOptions {
  /** The token that starts a text. Default: an added token with a known name, such as `<|endoftext|>`, or else id 0. */
  startToken?: string;
  /** Name of the file, for errors. Default `tokenizer.json`. */
  where?: string;
  /** Chat template: a Jinja template, or several by name. Default: none. */
  chatTemplate?: ChatTemplates;
  /** Special tokens for chat templates, such as `{ bos_token: '<s>' }`. Default: none. */
  specialTokens?: Readonly<Record<string, string>>;
}

/**
 * A tokenizer of Hugging Face's `tokenizer.json`: byte-level BPE (GPT-2, Llama 3, Qwen), BPE with byte fallback (Llama 2, Mistral,
 * Gemma, Phi-3), Unigram, WordPiece or WordLevel. Encodes as the Python package does with
 * `encode(text, add_special_tokens=False)`, truncating and padding nothing: added tokens that occur in a text are one token
 * each, and a byte that the vocabulary lacks becomes its `unk_token`, or nothing where it has none. Unpaired surrogates become
 * U+FFFD. Decoding shows special tokens.
 *
 * Byte-level BPE is encoded by the \@huggingface/tokenizers package. All others need the optional package
 * \@anush008/tokenizers, Python's own engine, which runs on a worker thread.
 */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly kind = 'hugging-face';
  readonly vocabSize: number;
  readonly startId: number;
  /** The chat template of `chat_template.jinja` or `tokenizer_config.json`. */
  readonly chatTemplate: ChatTemplates | undefined;
  /** The special tokens of `tokenizer_config.json`: `bos_token`, `eos_token` and others. */
  readonly specialTokens: Readonly<Record<string, string>>;
  private readonly state: State;
  private foundEnd: { id: number | undefined } | undefined;

  /**
   * @param json the contents of `tokenizer.json`
   * @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_FORMAT for what is wrong, or would not be computed as in Python;
   *   ERR_TORCHBIND_MISSING_PACKAGE where it needs \@anush008/tokenizers
   */
  constructor(json: unknown, options: HuggingFaceTokenizerOptions = {}) {
    const names = ['startToken', 'where', 'chatTemplate', 'specialTokens'];
    checkOptions(options, names, 'HuggingFaceTokenizer');
    const { startToken, where = 'tokenizer.json', chatTemplate, specialTokens = {} } = options;
    this.chatTemplate = chatTemplate;
    this.specialTokens = specialTokens;
    checkText(where, 'HuggingFaceTokenizer: where');
    if (startToken !== undefined) checkText(startToken, 'HuggingFaceTokenizer: startToken');
    this.state = json instanceof OpenedFile ? json : new ParsedJson(json, where, startToken);
    this.vocabSize = this.state.vocabSize;
    this.startId = this.state.startId;
  }

  /**
   * Encodes a text without adding special tokens.
   *
   * @returns token ids
   * @throws ERR_TORCHBIND_TOKENIZER_TIME if the regular expressions of the file exceed their time limit
   */
  encode(text: string): Int32Array {
    checkText(text, 'encode()');
    const wellFormed = Buffer.from(text).toString();
    if (this.state.chain !== undefined) return encodeWhileWaiting(this.state, () => this.state.source(), wellFormed);
    const { engine, isTimed } = this.state.parsed;
    const run = (): readonly number[] => engine.encode(wellFormed, { add_special_tokens: false }).ids;
    return Int32Array.from(isTimed ? runWithin(timeFor(text.length), run) : run());
  }

  /** The id of `specialTokens.eos_token`; undefined without one. */
  get endId(): number | undefined {
    return (this.foundEnd ??= { id: this.idOf(this.specialTokens.eos_token) }).id;
  }

  private idOf(token: string | undefined): number | undefined {
    if (token === undefined) return undefined;
    const bytes = Buffer.from(token);
    // Special tokens mostly come last.
    for (let id = this.vocabSize - 1; id >= 0; id--) {
      const own = this.state.bytesOf(id);
      if (own?.length === bytes.length && bytes.equals(own)) return id;
    }
    return undefined;
  }

  get isReady(): boolean {
    return this.state.isReady;
  }

  async encodeAsync(text: string): Promise<Int32Array> {
    checkText(text, 'encodeAsync()');
    const { state } = this;
    // What only the worker has ready is encoded there, however short.
    const isThere = encodesAs(this, HuggingFaceTokenizer.prototype) && !state.isReady;
    if (isThere && text === '') return new Int32Array(0);
    const ids = isThere
      ? encodeInWorker(state, () => state.sourceAsync(), text)
      : encodeLong(this, HuggingFaceTokenizer.prototype, () => state.sourceAsync(), text, state);
    return ids ?? this.encodeHere(text);
  }

  /** @internal The same on this thread: the worker, or any thread without a worker. */
  async encodeHere(text: string): Promise<Int32Array> {
    if (this.state.chain === undefined) return this.encode(text);
    const encoding = await this.state.parsed
      .rust()
      .encode(Buffer.from(text).toString(), null, { addSpecialTokens: false });
    return Int32Array.from(encoding.getIds());
  }

  /**
   * Encodes a text into tokens with their positions, like Python's `encode(text)`: with the special tokens of the
   * post-processor, unless `addSpecialTokens` is false. Positions count UTF-16 code units. Needs the optional package
   * \@anush008/tokenizers.
   *
   * @throws ERR_TORCHBIND_MISSING_PACKAGE
   */
  async encodeWithOffsets(text: string, options: EncodeWithOffsetsOptions = {}): Promise<TokenEncoding> {
    checkText(text, 'encodeWithOffsets()');
    checkOptions(options, ['addSpecialTokens'], 'encodeWithOffsets');
    const { addSpecialTokens = true } = options;
    const { state } = this;
    const there = encodeWithOffsetsInWorker(state, () => state.sourceAsync(), text, addSpecialTokens);
    return there ?? this.encodeWithOffsetsHere(text, addSpecialTokens);
  }

  /** @internal */
  async encodeWithOffsetsHere(text: string, addSpecialTokens: boolean): Promise<TokenEncoding> {
    const wellFormed = Buffer.from(text).toString();
    return readEncoding(await this.state.parsed.rust().encode(wellFormed, null, { addSpecialTokens }), wellFormed);
  }

  decode(ids: ArrayLike<number>): string {
    return decodeAll(this.makeDecoder(true), ids);
  }

  decoder(after: ArrayLike<number> = []): StreamDecoder {
    const decoder = this.makeDecoder(false);
    // Only the next token depends on those before, and only on whether there are any and on unfinished characters.
    if (this.state.chain !== undefined) {
      for (let i = Math.max(0, after.length - 8); i < after.length; i++) decoder.push(after[i]!);
    }
    return decoder;
  }

  private makeDecoder(isWhole: boolean): StreamDecoder {
    const { state } = this;
    if (state.chain === undefined) return new ByteDecoder((id) => state.bytesOf(id));
    const tokenOf = (id: number): string | undefined => {
      const bytes = state.bytesOf(id);
      return bytes && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
    };
    return new ChainDecoder(tokenOf, state.chain, isWhole);
  }

  /**
   * Formats a conversation as the text that the model expects (transformers' `apply_chat_template(messages,
   * tokenize=False)`). `encode` makes each special token in it one token.
   *
   * @throws ERR_TORCHBIND_CHAT_TEMPLATE if the tokenizer has no template, or the template rejects the conversation,
   *   takes too long or makes too much text; ERR_TORCHBIND_INVALID_ARGUMENT
   */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    return renderChat(this.chatTemplate, this.specialTokens, messages, options);
  }

  toJson(): HuggingFaceJson {
    return this.state.parsed.json;
  }

  /** @internal The bytes of `tokenizer.json`: of a large file those that it had. */
  async jsonBytes(): Promise<Uint8Array> {
    return (await this.state.sourceAsync()).json;
  }

  /** @internal As `toJson`, without making what encoding on this thread needs. */
  plainJson(): HuggingFaceJson {
    return this.state.json;
  }

  /** @internal Data for decoding on another thread. */
  opened(): OpenedJson {
    return this.state.parsed.pack();
  }
}

/** Options of `encodeWithOffsets`. */
export interface EncodeWithOffsetsOptions {
  /** Whether the post-processor adds its special tokens, such as `<s>`. Default true. */
  addSpecialTokens?: boolean;
}

/** What a tokenizer is made of. */
interface State {
  /** The decoder, if the Rust engine encodes: null without one. Undefined for byte-level BPE. */
  readonly chain: Json | null | undefined;
  readonly vocabSize: number;
  readonly startId: number;
  /** Whether `parsed` is available already. */
  readonly isReady: boolean;
  readonly parsed: ParsedJson;
  /** What the file holds. */
  readonly json: HuggingFaceJson;
  bytesOf(id: number): Uint8Array | undefined;
  source(): FileSource;
  /** The same without holding the event loop. */
  sourceAsync(): Promise<FileSource>;
}

/** A tokenizer.json, parsed and checked. */
class ParsedJson implements State {
  readonly json: HuggingFaceJson;
  readonly vocabSize: number;
  readonly startId: number;
  readonly chain: Json | null | undefined;
  readonly isTimed: boolean;
  readonly isReady: boolean;
  readonly parsed = this;
  private readonly bytes: Uint8Array[];
  private readonly ownEngine: Engine | undefined;
  private madeRust: RustTokenizer | undefined;

  constructor(
    json: unknown,
    private readonly where: string,
    private readonly startToken: string | undefined,
  ) {
    const checked = checkHuggingFaceJson(json, where);
    this.json = checked.json;
    this.chain = checked.chain;
    this.isReady = checked.chain === undefined;
    this.isTimed = checked.hasPatterns;
    this.bytes = bytesOf(checked);
    this.vocabSize = this.bytes.length;
    this.startId = startIdOf(checked, startToken);
    if (checked.chain === undefined) this.ownEngine = makeEngine(checked, where);
    else findRustEngine(where);
  }

  /** The engine of byte-level BPE. */
  get engine(): Engine {
    return this.ownEngine!;
  }

  /** The Rust engine, made at the first call. It encodes on the calling thread. */
  rust(): RustTokenizer {
    if (this.madeRust === undefined) {
      const checked = checkHuggingFaceJson(this.json, this.where);
      const refuse = (reason: string): never => {
        throw new CheckpointError(`${this.where}: ${reason}`, CheckpointCode.format);
      };
      if (checked.chain === undefined) checkEngineParts(this.json, refuse);
      this.madeRust = makeRustTokenizer(checked, this.where);
    }
    return this.madeRust;
  }

  bytesOf(id: number): Uint8Array | undefined {
    return this.bytes[id];
  }

  source(): FileSource {
    const { where, startToken } = this;
    return { kind: 'hugging-face', json: Buffer.from(JSON.stringify(this.json)), where, startToken };
  }

  async sourceAsync(): Promise<FileSource> {
    const { where, startToken } = this;
    return { kind: 'hugging-face', json: await runInSlices(jsonBytes(this.json)), where, startToken };
  }

  pack(): OpenedJson {
    const { vocabSize, startId, bytes, chain } = this;
    const starts = new Uint32Array(vocabSize + 1);
    for (let id = 0; id < vocabSize; id++) starts[id + 1] = starts[id]! + (bytes[id]?.length ?? 0);
    const all = new Uint8Array(starts[vocabSize]!);
    for (let id = 0; id < vocabSize; id++) if (bytes[id] !== undefined) all.set(bytes[id]!, starts[id]);
    const missing = Uint32Array.from(starts.keys()).filter((id) => id < vocabSize && bytes[id] === undefined);
    return { vocabSize, startId, bytes: all, starts, missing, chain };
  }
}

/** A tokenizer.json that a worker thread has parsed and checked. This thread parses it only when needed. */
class OpenedFile implements State {
  private made: ParsedJson | undefined;
  private packed: OpenedJson | undefined;
  private missing: ReadonlySet<number> = new Set();

  constructor(private readonly file: FileSource) {}

  /** @returns false for a file of another kind; undefined where there can be no worker */
  async open(): Promise<boolean | undefined> {
    const opened = await openInWorker(this, this.file);
    if (opened === undefined || opened === null) return opened === null ? false : undefined;
    this.packed = opened;
    this.missing = new Set(opened.missing);
    return true;
  }

  get vocabSize(): number {
    return this.packed!.vocabSize;
  }

  get startId(): number {
    return this.packed!.startId;
  }

  get chain(): Json | null | undefined {
    return this.packed!.chain;
  }

  get isReady(): boolean {
    return this.made !== undefined && this.chain === undefined;
  }

  get json(): HuggingFaceJson {
    return this.made?.json ?? (parseChecked(this.file) as HuggingFaceJson);
  }

  get parsed(): ParsedJson {
    const { where, startToken } = this.file;
    this.made ??= new ParsedJson(parseChecked(this.file), where, startToken);
    return this.made;
  }

  bytesOf(id: number): Uint8Array | undefined {
    const { vocabSize, bytes, starts } = this.packed!;
    return id >= vocabSize || this.missing.has(id) ? undefined : bytes.subarray(starts[id], starts[id + 1]);
  }

  source(): FileSource {
    return this.file;
  }

  sourceAsync(): Promise<FileSource> {
    return Promise.resolve(this.file);
  }
}

function parseJson(file: FileSource): unknown {
  return withPath(file.where, () => parseSettings(textOf(file)));
}

/** The same for a file that the worker has parsed: it takes half the time. */
function parseChecked(file: FileSource): unknown {
  return parsePythonJson(textOf(file));
}

function textOf({ json }: FileSource): string {
  return Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString();
}

type FileSource = Extract<TokenizerSource, { kind: 'hugging-face' }>;

/** The tokenizer of a file's bytes, opened synchronously; null for a file of another kind. */
export function openHuggingFace(file: FileSource): HuggingFaceTokenizer | null {
  const { where, startToken } = file;
  const parsed = parseJson(file);
  return isHuggingFaceJson(parsed) ? new HuggingFaceTokenizer(parsed, { where, startToken }) : null;
}

/** As `openHuggingFace`, on a worker thread; undefined without worker threads. */
export async function openHuggingFaceAsync(
  source: FileSource,
  options: HuggingFaceTokenizerOptions,
): Promise<HuggingFaceTokenizer | null | undefined> {
  const file = new OpenedFile(source);
  const isOpen = await file.open();
  if (isOpen === undefined) return undefined;
  return isOpen ? new HuggingFaceTokenizer(file, options) : null;
}

/** Time limit in milliseconds, more than an honest regular expression needs on a slow and busy machine. */
function timeFor(length: number): number {
  return 5000 + Math.ceil(length / 10);
}

/** The bytes of each token; the token itself if a chain of decoders makes its text. */
function bytesOf({ vocab, addedTokens, chain }: CheckedTokenizer): Uint8Array[] {
  const bytes: Uint8Array[] = [];
  for (const [token, id] of vocab) bytes[id] = chain === undefined ? tokenBytes(token) : Buffer.from(token);
  for (const { id, content } of addedTokens) bytes[id] = Buffer.from(content);
  return bytes;
}

/** Names that programs give the token at the beginning of a text, or the one between two. */
const startTokens = ['<|endoftext|>', '<|begin_of_text|>', '<|startoftext|>', '<|bos|>', '<s>', '<bos>', '[BOS]'];

function startIdOf({ vocab, addedTokens }: CheckedTokenizer, given: string | undefined): number {
  const added = new Map(addedTokens.map(({ content, id }) => [content, id]));
  const names = given === undefined ? startTokens : [given, ...startTokens];
  const name = names.find((token) => added.has(token) || (token === given && vocab.has(token)));
  return name === undefined ? 0 : (added.get(name) ?? vocab.get(name)!);
}
