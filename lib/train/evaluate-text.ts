import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkArgument, checkIterable, checkOptions, checkWatchers, describe, TorchBindError } from '../errors';
import { batchLosses } from '../compute';
import { type Batch, TokenFile, type Tokens } from '../data';
import { windowsAt } from '../data/batch';
import { type ThreadOption, tokenizerOf } from '../generation/generate';
import type { GPTModel } from '../models/gpt-model';
import { encodeText } from '../tokenizers';

/** Options of `gpt.evaluate`. */
export interface EvaluateOptions {
  /** Tokens that the model sees at a time, at most blockSize. Default blockSize. */
  windowSize?: number;
  /**
   * Tokens from the beginning of one window to that of the next. Below windowSize the windows overlap: only the tokens that no
   * window before has had count, each with more context. Default windowSize: windows side by side.
   */
  stride?: number;
  /** Windows in one forward pass. Default 4. */
  batchSize?: number;
  /** Where it is computed; see `GenerateTokensOptions`. Default `worker`. */
  thread?: ThreadOption;
  signal?: AbortSignal;
  /** Called after each forward pass. */
  onProgress?: (progress: { done: number; total: number }) => void;
}

/** How well a model predicts a text. */
export interface EvaluateResult {
  /** Mean cross-entropy of the tokens after the first, in nats. */
  loss: number;
  /** e to the loss. */
  perplexity: number;
  /** Tokens that were predicted: all but the first. */
  tokens: number;
  /** Their cross-entropy in bits for each byte of the text in UTF-8; null where the bytes are not known. */
  bitsPerByte: number | null;
}

const OPTIONS = ['windowSize', 'stride', 'batchSize', 'thread', 'signal', 'onProgress'];

/** The loss of a text, of token ids or of a file of them, in windows. */
export async function evaluateText(
  model: GPTModel,
  data: string | ArrayLike<number> | TokenFile,
  options: EvaluateOptions = {},
  where = 'evaluate',
): Promise<EvaluateResult> {
  checkOptions(options, OPTIONS, where);
  const { blockSize } = model.config;
  const { windowSize = blockSize, batchSize = 4, thread = 'worker', signal, onProgress } = options;
  checkCount(windowSize, 'windowSize', blockSize, where);
  const { stride = windowSize } = options;
  checkCount(stride, 'stride', windowSize, where);
  checkCount(batchSize, 'batchSize', Infinity, where);
  checkArgument(thread === 'main' || thread === 'worker', "'main' or 'worker' for 'thread'", thread, where);
  checkWatchers({ signal, onProgress }, where);
  const tokens = await tokensOf(model, data, where);
  const total = tokens.length - 1;
  if (total < 1) throw invalid(`expected 2 tokens or more, got ${tokens.length}`, where);
  const groups = groupsOf(total, windowSize, stride, batchSize);
  let sum = 0;
  let done = 0;
  let i = 0;
  for await (const loss of batchLosses(model, batches(model, tokens, groups), thread)) {
    const { starts, scored } = groups[i++]!;
    sum += loss * starts.length * scored;
    done += starts.length * scored;
    onProgress?.({ done, total });
    signal?.throwIfAborted();
    await nextTurn();
  }
  const loss = sum / total;
  const bytes = bytesOf(model, data);
  const bitsPerByte = bytes === null ? null : sum / Math.LN2 / bytes;
  return { loss, perplexity: Math.exp(loss), tokens: total, bitsPerByte };
}

/** The perplexity of a text: e to the mean cross-entropy of its tokens. */
export async function perplexity(
  model: GPTModel,
  text: string | ArrayLike<number>,
  options: EvaluateOptions = {},
): Promise<number> {
  return (await evaluateText(model, text, options, 'perplexity')).perplexity;
}

/** Windows that go through the model together: as long as each other, and with as many tokens that count. */
interface Group {
  starts: number[];
  length: number;
  /** Tokens at the end of each window that no window before has had. */
  scored: number;
}

function groupsOf(total: number, windowSize: number, stride: number, batchSize: number): Group[] {
  const groups: Group[] = [];
  let covered = 0;
  for (let start = 0; covered < total; start += stride) {
    const end = Math.min(start + windowSize, total);
    const [length, scored] = [end - start, end - covered];
    const last = groups.at(-1);
    const joins = last?.length === length && last.scored === scored && last.starts.length < batchSize;
    if (joins) last.starts.push(start);
    else groups.push({ starts: [start], length, scored });
    covered = end;
  }
  return groups;
}

function* batches(model: GPTModel, tokens: Tokens, groups: readonly Group[]): Generator<Batch> {
  const { device } = model;
  const { vocabSize } = model.config;
  for (const { starts, length, scored } of groups) {
    const batch = windowsAt(tokens, starts, { blockSize: length, device, vocabSize }); // (B, length)
    if (scored < length) batch.y.narrow(1, 0, length - scored).fill_(-100);
    yield batch;
  }
}

async function tokensOf(model: GPTModel, data: string | ArrayLike<number> | TokenFile, where: string): Promise<Tokens> {
  if (data instanceof TokenFile) return data;
  if (typeof data !== 'string') checkIterable(data, 'a text, an array of token ids or a TokenFile', where);
  const ids = typeof data === 'string' ? await encodeText(tokenizerOf(model, where), data) : Array.from(data);
  const { vocabSize } = model.config;
  const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (wrong !== undefined)
    throw invalid(`expected token ids from 0 to ${vocabSize - 1}, got ${describe(wrong)}`, where);
  return Int32Array.from(ids);
}

function bytesOf({ tokenizer }: GPTModel, data: string | ArrayLike<number> | TokenFile): number | null {
  if (data instanceof TokenFile) return null;
  const text = typeof data === 'string' ? data : tokenizer?.decode(Array.from(data));
  return text === undefined ? null : Buffer.byteLength(text);
}

function checkCount(value: unknown, name: string, most: number, where: string): void {
  const isCount = Number.isSafeInteger(value) && (value as number) > 0 && (value as number) <= most;
  const range = most === Infinity ? 'a whole number above 0' : `a whole number from 1 to ${most}`;
  checkArgument(isCount, `${range} for '${name}'`, value, where);
}

function invalid(message: string, where: string): TorchBindError {
  return new TorchBindError(`${where}: ${message}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
