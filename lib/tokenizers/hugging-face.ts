import { createRequire } from 'node:module';
import { checkOptions, CheckpointCode, CheckpointError, checkText, describe, TorchBindError } from '../errors';

import { ByteDecoder, decodeAll, tokenBytes } from './decode';
import { checkHuggingFaceJson, type CheckedTokenizer, type Json } from './hugging-face-json';
import { escapePattern } from './special-tokens';
import type { HuggingFaceJson, StreamDecoder, Tokenizer } from './tokenizer';
import { exactWhiteSpace, runWithin } from './regex';

export interface HuggingFaceTokenizerOptions {
  /** The token that begins a text. Default: an added token of a known name for it, as `<|endoftext|>`, or else id 0. */
  startToken?: string;
  /** Name of the file, for errors. Default `tokenizer.json`. */
  where?: string;
}

/**
 * A tokenizer of Hugging Face's `tokenizer.json`: byte-level byte-pair encoding, as GPT-2, Llama 3 and Qwen have it. Encodes
 * as the Python package does with `encode(text, add_special_tokens=False)`, truncating and padding nothing: added tokens that
 * occur in a text are one token each, and a byte that the vocabulary lacks becomes its `unk_token`, or nothing where it has
 * none. Unpaired surrogates become U+FFFD. Decoding shows special tokens.
 *
 * Encoding is done by the \@huggingface/tokenizers package, which is loaded when the first such tokenizer is made.
 */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly kind = 'hugging-face';
  readonly vocabSize: number;
  readonly startId: number;
  private readonly json: HuggingFaceJson;
  private readonly engine: Engine;
  private readonly bytes: Uint8Array[];
  private readonly isTimed: boolean;

  /**
   * @param json the contents of `tokenizer.json`
   * @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_FORMAT for what is wrong, or would not be computed as in Python
   */
  constructor(json: unknown, options: HuggingFaceTokenizerOptions = {}) {
    checkOptions(options, ['startToken', 'where'], 'HuggingFaceTokenizer');
    const { startToken, where = 'tokenizer.json' } = options;
    checkText(where, 'HuggingFaceTokenizer: where');
    if (startToken !== undefined) checkText(startToken, 'HuggingFaceTokenizer: startToken');
    const checked = checkHuggingFaceJson(json, where);
    this.json = checked.json;
    this.isTimed = checked.hasPatterns;
    this.bytes = bytesOf(checked);
    this.vocabSize = this.bytes.length;
    this.startId = startIdOf(checked, startToken);
    this.engine = makeEngine(checked, where);
  }

  /** @throws ERR_TORCHBIND_TOKENIZER_TIME where the regular expressions of the file take beyond all measure */
  encode(text: string): Int32Array {
    checkText(text, 'encode()');
    const wellFormed = Buffer.from(text).toString();
    const run = (): readonly number[] => this.engine.encode(wellFormed, { add_special_tokens: false }).ids;
    return Int32Array.from(this.isTimed ? runWithin(timeFor(text.length), run) : run());
  }

  decode(ids: ArrayLike<number>): string {
    return decodeAll(this.decoder(), ids);
  }

  decoder(): StreamDecoder {
    return new ByteDecoder(this.bytes);
  }

  toJson(): HuggingFaceJson {
    return this.json;
  }
}

/** Milliseconds that no honest regular expression needs for a text, on a slow and busy machine. */
function timeFor(length: number): number {
  return 5000 + Math.ceil(length / 10);
}

function bytesOf({ vocab, addedTokens }: CheckedTokenizer): Uint8Array[] {
  const bytes: Uint8Array[] = [];
  for (const [token, id] of vocab) bytes[id] = tokenBytes(token);
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

/** What is used of the package. */
interface Engine {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  pre_tokenizer: EngineSplitter;
}

interface EngineSplitter {
  config?: Json;
  pattern?: RegExp;
  tokenizers?: EngineSplitter[];
}

function makeEngine({ json }: CheckedTokenizer, where: string): Engine {
  const { Tokenizer: EngineClass } = createRequire(__filename)('@huggingface/tokenizers') as {
    Tokenizer: new (json: object, config: object) => Engine;
  };
  try {
    const engine = new EngineClass(
      {
        added_tokens: json.added_tokens ?? [],
        normalizer: json.normalizer ?? null,
        pre_tokenizer: exact(json.pre_tokenizer as Json),
        post_processor: null,
        decoder: null,
        model: { ...(json.model as object), type: 'BPE' },
      },
      {},
    );
    useExactPattern(engine.pre_tokenizer);
    return engine;
  } catch (error) {
    const reason = error instanceof Error ? error.message : describe(error);
    throw new CheckpointError(`${where}: ${reason}`, CheckpointCode.format, { cause: error });
  }
}

/**
 * The same in regular expressions, which the package applies as Python does. Its own Digits knows those of ASCII only, and its
 * Split by a text keeps what should be removed.
 */
function exact(part: Json): Json {
  if (part.type === 'Sequence') return { ...part, pretokenizers: (part.pretokenizers as Json[]).map(exact) };
  if (part.type === 'Digits') return split(part.individual_digits === true ? '\\p{N}' : '\\p{N}+');
  const text = part.type === 'Split' ? (part.pattern as Json).String : undefined;
  return typeof text === 'string' ? { ...part, pattern: { Regex: escapePattern(text) } } : part;
}

function split(regex: string): Json {
  return { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false };
}

/** The package splits by JavaScript's white space, which is not Unicode's: see `exactWhiteSpace`. */
function useExactPattern(splitter: EngineSplitter): void {
  splitter.tokenizers?.forEach(useExactPattern);
  if (splitter.config?.type !== 'ByteLevel') return;
  if (!(splitter.pattern instanceof RegExp)) {
    throw new TorchBindError('@huggingface/tokenizers is of another version than this one was written for.');
  }
  splitter.pattern = exactWhiteSpace(splitter.pattern.source);
}
