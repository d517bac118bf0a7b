import path from 'node:path';
import {
  checkIterable,
  checkOptions,
  checkText,
  describe,
  isAbove,
  type PathLike,
  toPath,
  TorchBindError,
} from '../errors';
import { makeDirectory, writeFileAtomically } from '../formats/files/atomic-file';
import { CharTokenizer, charToMetaPickle, encodeText, type Tokenizer } from '../tokenizers';
import { runInSlices } from '../workers/slices';
import { checkTokenizer, type Separator, separatorIds } from './documents';
import { sizeOf, type TokenDType, wrongData } from './token-file';

/** Options of `writeTokens`. */
export interface WriteTokensOptions {
  /** Tokenizer for texts. Ids need none. */
  tokenizer?: Tokenizer;
  /** Type of the ids. Default: `uint16` if all ids of the tokenizer fit, else `uint32`; `uint16` for ids. */
  dtype?: TokenDType;
  /** Separator after each of several texts: a token's id, or its text. Default: none. */
  separator?: Separator;
}

/** Data to write: a text, a sequence of texts, or token ids. */
export type TokenSource = string | Iterable<string> | AsyncIterable<string> | ArrayLike<number>;

const flushBytes = 2 ** 20;

/**
 * Writes a file of token ids, such as nanoGPT's `train.bin`, for `TokenFile.open` and `np.memmap`. Several texts are
 * read one at a time and need not fit into memory. The write is atomic.
 *
 * @returns the number of tokens
 * @throws ERR_TORCHBIND_DATA for an id that does not fit the dtype, or without any tokens; ERR_TORCHBIND_SAVE
 */
export async function writeTokens(
  target: PathLike,
  source: TokenSource,
  options: WriteTokensOptions = {},
): Promise<number> {
  const file = toPath(target, 'writeTokens');
  checkOptions(options, ['tokenizer', 'dtype', 'separator'], 'writeTokens');
  const { tokenizer } = options;
  if (tokenizer !== undefined) checkTokenizer(tokenizer, 'writeTokens');
  const dtype = options.dtype ?? ((tokenizer?.vocabSize ?? 0) > 2 ** 16 ? 'uint32' : 'uint16');
  sizeOf(dtype, 'writeTokens');
  let count = 0;
  await writeFileAtomically(file, async (handle) => {
    let waiting: Buffer[] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      // writeFile on a handle continues where the last one ended, and writes all of it.
      await handle.writeFile(Buffer.concat(waiting));
      [waiting, bytes] = [[], 0];
    };
    for await (const ids of idsOf(source, options)) {
      const packed = pack(ids, dtype, file, count);
      waiting.push(packed);
      bytes += packed.length;
      count += ids.length;
      if (bytes >= flushBytes) await flush();
    }
    await flush();
    if (count === 0) throw wrongData(`got no tokens to write to ${file}`);
  });
  return count;
}

async function* idsOf(
  source: TokenSource,
  { tokenizer, separator }: WriteTokensOptions,
): AsyncGenerator<ArrayLike<number>, void, undefined> {
  if (isIds(source)) {
    checkIterable(source, 'token ids', 'writeTokens');
    yield source;
    return;
  }
  if (tokenizer === undefined) throw invalid("to write a text, pass the option 'tokenizer'");
  if (typeof source === 'string') {
    yield await encodeText(tokenizer, source);
    return;
  }
  const pieces: unknown = source;
  if (typeof pieces !== 'object' || pieces === null || !(Symbol.iterator in pieces || Symbol.asyncIterator in pieces))
    throw invalid(`expected a string, an iterable of strings or token ids, got ${describe(source)}`);
  const end = separatorIds(tokenizer, separator);
  for await (const text of source) {
    if (typeof text !== 'string')
      throw invalid(`expected an iterable of strings, got one that yields ${describe(text)}`);
    yield await encodeText(tokenizer, text);
    if (end.length > 0) yield end;
  }
}

function isIds(source: TokenSource): source is ArrayLike<number> {
  if (ArrayBuffer.isView(source)) return true;
  return Array.isArray(source) && typeof source[0] === 'number';
}

function pack(ids: ArrayLike<number>, dtype: TokenDType, file: string, before: number): Buffer {
  const array = dtype === 'uint16' ? Uint16Array.from(ids) : Uint32Array.from(ids);
  for (let i = 0; i < array.length; i++) {
    if (array[i] === ids[i]) continue;
    throw wrongData(`${file}: token ${before + i} is ${ids[i]}, which is not a ${dtype}`);
  }
  return Buffer.from(array.buffer);
}

/** Options of `prepareTokens`. */
export interface PrepareTokensOptions extends Pick<WriteTokensOptions, 'dtype'> {
  tokenizer: Tokenizer;
  /** Fraction of the text, at the end, that goes to `val.bin`. Default 0.1. */
  validationFraction?: number;
}

/**
 * Writes a text as a data directory of nanoGPT, for its `train.py` and `TokenStream.open`: `train.bin`, `val.bin`, and
 * for a character tokenizer `meta.pkl` with the vocabulary.
 *
 * @returns the number of tokens of each part
 */
export async function prepareTokens(
  target: PathLike,
  text: string,
  options: PrepareTokensOptions,
): Promise<{ train: number; validation: number }> {
  const directory = toPath(target, 'prepareTokens');
  checkText(text, 'prepareTokens');
  checkOptions(options ?? null, ['tokenizer', 'dtype', 'validationFraction'], 'prepareTokens');
  const { tokenizer, dtype, validationFraction = 0.1 } = options;
  checkTokenizer(tokenizer, 'prepareTokens');
  if (!(isAbove(validationFraction, 0) && validationFraction < 1))
    throw invalid(`validationFraction must be above 0 and below 1, got ${describe(validationFraction)}`);
  if (dtype !== undefined) sizeOf(dtype, 'prepareTokens');
  const cut = await runInSlices(placeOfPart(text, 1 - validationFraction));
  const parts = [await encodeText(tokenizer, text.slice(0, cut)), await encodeText(tokenizer, text.slice(cut))];
  if (parts.some(({ length }) => length === 0))
    throw wrongData('the text is too short: one of its parts would have no tokens');
  await makeDirectory(directory);
  const write = (name: string, ids: Int32Array): Promise<number> =>
    writeTokens(path.join(directory, name), ids, { tokenizer, dtype });
  const train = await write('train.bin', parts[0]!);
  const validation = await write('val.bin', parts[1]!);
  if (tokenizer instanceof CharTokenizer) {
    await writeFileAtomically(path.join(directory, 'meta.pkl'), (handle) =>
      handle.writeFile(charToMetaPickle(tokenizer)),
    );
  }
  return { train, validation };
}

/** Index in a text at which a fraction of its characters ends. Characters are code points, as in Python. */
function* placeOfPart(text: string, fraction: number): Generator<void, number, void> {
  let characters = 0;
  for (let i = 0; i < text.length; i += unitsAt(text, i)) if (++characters % sliceSize === 0) yield;
  const wanted = Math.floor(fraction * characters); // Python: int(0.9 * len(text))
  let place = 0;
  for (let i = 0; i < wanted; place += unitsAt(text, place)) if (++i % sliceSize === 0) yield;
  return place;
}

/** Characters that are counted in a slice. */
const sliceSize = 2 ** 18;

function unitsAt(text: string, place: number): number {
  return text.codePointAt(place)! > 0xffff ? 2 : 1;
}

function invalid(reason: string): TorchBindError {
  return new TorchBindError(`writeTokens: ${reason}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
