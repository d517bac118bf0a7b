import { createRequire } from 'node:module';
import { CheckpointCode, CheckpointError, TorchBindError } from '../errors';
import { checkIds } from './engine-json';
import type { CheckedTokenizer } from './hugging-face-json';

/** The Rust library behind Python's `tokenizers`, an optional package. */
export interface RustTokenizer {
  encode(text: string, pair: null, options: { addSpecialTokens: boolean }): Promise<RustEncoding>;
  tokenToId(token: string): number | null;
}

export interface RustEncoding {
  getIds(): number[];
  getTokens(): string[];
  getTypeIds(): number[];
  getSpecialTokensMask(): number[];
  /** Places in the text, in code points. */
  getOffsets(): [start: number, end: number][];
}

const packageName = '@anush008/tokenizers';

/** @throws ERR_TORCHBIND_MISSING_PACKAGE */
export function findRustEngine(where: string): string {
  try {
    return createRequire(__filename).resolve(packageName);
  } catch (error) {
    throw new TorchBindError(
      `${where}: this tokenizer is not byte-level BPE, and needs the package ${packageName}: run 'npm install ${packageName}'. ` +
        'Or open the model without a tokenizer, with { tokenizer: null }, and encode elsewhere.',
      'ERR_TORCHBIND_MISSING_PACKAGE',
      { cause: error },
    );
  }
}

/** @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_FORMAT for what the engine refuses */
export function makeRustTokenizer({ json, addedTokens }: CheckedTokenizer, where: string): RustTokenizer {
  const { Tokenizer } = createRequire(__filename)(findRustEngine(where)) as {
    Tokenizer: { fromString(json: string): RustTokenizer };
  };
  const refuse = (reason: string, cause?: unknown): never => {
    throw new CheckpointError(`${where}: ${reason}`, CheckpointCode.format, { cause });
  };
  let made: RustTokenizer;
  try {
    made = Tokenizer.fromString(JSON.stringify({ ...json, truncation: null, padding: null }));
  } catch (error) {
    return refuse((error as Error).message, error);
  }
  checkIds(addedTokens, (token) => made.tokenToId(token), refuse);
  return made;
}

/** The tokens of a text, and where in it they are. All lists are of one length. */
export interface TokenEncoding {
  ids: Int32Array;
  tokens: string[];
  /** Where each token begins and ends in the text, so that `text.slice(start, end)` is what it stands for; [0, 0] for added ones. */
  offsets: [start: number, end: number][];
  typeIds: number[];
  /** 1 for tokens that the post-processor added. */
  specialTokensMask: number[];
}

export function readEncoding(encoding: RustEncoding, text: string): TokenEncoding {
  const offsets = encoding.getOffsets();
  return {
    ids: Int32Array.from(encoding.getIds()),
    tokens: encoding.getTokens(),
    offsets: /[\ud800-\udfff]/.test(text) ? inCodeUnits(offsets, text) : offsets,
    typeIds: encoding.getTypeIds(),
    specialTokensMask: encoding.getSpecialTokensMask(),
  };
}

/** Python counts code points, a JavaScript string code units. */
function inCodeUnits(offsets: [number, number][], text: string): [number, number][] {
  const starts = new Uint32Array(text.length + 1);
  let count = 0;
  let place = 0;
  for (const char of text) {
    place += char.length;
    starts[++count] = place;
  }
  return offsets.map(([start, end]) => [starts[start]!, starts[end]!]);
}
