import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkArgument, checkIterable, checkOptions, describe, TorchBindError } from '../errors';
import { batchLosses } from '../compute';
import type { Batch } from '../data';
import { windowsAt } from '../data/batch';
import type { ThreadOption } from '../models/generate';
import type { GPTModel } from '../models/gpt-model';
import { encodeText } from '../tokenizers';

/** Options of `gpt.perplexity`. */
export interface PerplexityOptions {
  /** Windows in one forward pass. Default 4. */
  batchSize?: number;
  /** Where it is computed; see `GenerateTokensOptions`. Default `worker`. */
  thread?: ThreadOption;
}

/**
 * The perplexity of a text: e to the mean cross-entropy of its tokens, each given those before it in its window. Windows of
 * blockSize tokens lie side by side; the last is shorter.
 */
export async function perplexity(
  model: GPTModel,
  text: string | ArrayLike<number>,
  options: PerplexityOptions = {},
): Promise<number> {
  checkOptions(options, ['batchSize', 'thread'], 'perplexity');
  const { batchSize = 4, thread = 'worker' } = options;
  checkArgument(
    Number.isSafeInteger(batchSize) && batchSize > 0,
    "a number above 0 for 'batchSize'",
    batchSize,
    'perplexity',
  );
  checkArgument(thread === 'main' || thread === 'worker', "'main' or 'worker' for 'thread'", thread, 'perplexity');
  if (typeof text !== 'string') checkIterable(text, 'a text or an array of token ids', 'perplexity');
  const ids = Array.from(typeof text === 'string' ? await tokensOf(model, text) : text);
  const { vocabSize } = model.config;
  const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (wrong !== undefined) throw invalid(`expected token ids from 0 to ${vocabSize - 1}, got ${describe(wrong)}`);
  const tokens = Int32Array.from(ids);
  if (tokens.length < 2) throw invalid(`expected 2 tokens or more, got ${tokens.length}`);
  let sum = 0;
  const counts: number[] = [];
  let i = 0;
  for await (const loss of batchLosses(model, batches(model, tokens, batchSize, counts), thread)) {
    sum += loss * counts[i++]!;
    await nextTurn();
  }
  return Math.exp(sum / (tokens.length - 1));
}

async function tokensOf({ tokenizer }: GPTModel, text: string): Promise<ArrayLike<number>> {
  if (tokenizer !== null) return encodeText(tokenizer, text);
  throw new TorchBindError(
    'perplexity: the model has no tokenizer to read a text with. Give token ids, or set gpt.tokenizer.',
    'ERR_TORCHBIND_NO_TOKENIZER',
  );
}

/** @param counts gets the number of targets of each batch */
function* batches(model: GPTModel, tokens: Int32Array, batchSize: number, counts: number[]): Generator<Batch> {
  const { device } = model;
  const T = model.config.blockSize;
  const windows = Math.floor((tokens.length - 1) / T);
  for (let first = 0; first < windows; first += batchSize) {
    const starts = Array.from({ length: Math.min(batchSize, windows - first) }, (_, i) => (first + i) * T);
    counts.push(starts.length * T);
    yield windowsAt(tokens, starts, { blockSize: T, device });
  }
  const rest = tokens.length - 1 - windows * T;
  if (rest === 0) return;
  counts.push(rest);
  yield windowsAt(tokens, [windows * T], { blockSize: rest, device });
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(`perplexity: ${message}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
