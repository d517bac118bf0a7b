import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkArgument, checkOptions, describe, TorchBindError } from '../errors';
import { embeddings } from '../compute';
import { embedsTogether, type EmbedRequest, type Pooling } from '../models/embed';
import { readPrompt, type ThreadOption, tokenizerOf } from '../generation/generate';
import type { GPTModel } from '../models/gpt-model';
import { cat } from '../tensor/generated/functions';
import { dispose, tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { encodeText } from '../tokenizers';

/** Options of `gpt.embed`. */
export interface EmbedOptions {
  /**
   * Which hidden states: 0 are the embeddings, n the output of block n, nLayer the input of the head. Negative numbers
   * count from the end. Default -1.
   */
  layer?: number;
  /** How to combine the vectors of the tokens: their mean, or the vector of the last or first token. Default `mean`. */
  pooling?: Pooling;
  /** Divide each vector by its L2 norm, so that dot products are cosines. Default false. */
  normalize?: boolean;
  /** Number of texts in one forward pass. Default 8. */
  batchSize?: number;
  /** Where to compute; see `GenerateTokensOptions`. Default `worker`. */
  thread?: ThreadOption;
}

const OPTIONS = ['layer', 'pooling', 'normalize', 'batchSize', 'thread'];

/** Computes a vector for each text, float32 (N, C). */
export async function embed(
  model: GPTModel,
  texts: readonly (string | ArrayLike<number>)[],
  options: EmbedOptions = {},
): Promise<Tensor> {
  checkOptions(options, OPTIONS, 'embed');
  const { layer = -1, pooling = 'mean', normalize = false, batchSize = 8, thread = 'worker' } = options;
  const { nLayer } = model.config;
  const isLayer = Number.isInteger(layer) && layer >= -nLayer - 1 && layer <= nLayer;
  checkArgument(isLayer, `an integer from ${-nLayer - 1} to ${nLayer} for 'layer'`, layer, 'embed');
  checkArgument(
    ['mean', 'last', 'first'].includes(pooling),
    "'mean', 'last' or 'first' for 'pooling'",
    pooling,
    'embed',
  );
  checkArgument(typeof normalize === 'boolean', "true or false for 'normalize'", normalize, 'embed');
  const isSize = Number.isSafeInteger(batchSize) && batchSize > 0;
  checkArgument(isSize, "a number above 0 for 'batchSize'", batchSize, 'embed');
  checkArgument(thread === 'main' || thread === 'worker', "'main' or 'worker' for 'thread'", thread, 'embed');
  checkArgument(Array.isArray(texts) && texts.length > 0, 'one text or more', texts, 'embed');
  const ids: number[][] = [];
  for (const [i, text] of texts.entries()) ids.push(await idsOf(model, text, i));
  const size = embedsTogether(model) ? batchSize : 1;
  const settings = { layer: layer < 0 ? nLayer + 1 + layer : layer, pooling, normalize };
  const requests: EmbedRequest[] = [];
  for (let first = 0; first < ids.length; first += size)
    requests.push({ texts: ids.slice(first, first + size), ...settings });
  const parts: Tensor[] = [];
  try {
    for await (const part of embeddings(model, requests, thread)) {
      parts.push(part);
      await nextTurn();
    }
    return tidy(() => cat(parts, 0));
  } finally {
    dispose(parts);
  }
}

async function idsOf(model: GPTModel, text: string | ArrayLike<number>, i: number): Promise<number[]> {
  const { blockSize } = model.config;
  const ids = typeof text === 'string' ? await encodeText(tokenizerOf(model), text) : text;
  if (ids.length > blockSize)
    throw new TorchBindError(
      `embed: text ${i} has ${ids.length} tokens, but the model's context (blockSize) is ${blockSize}. Cut it, or embed its parts.`,
      'ERR_TORCHBIND_CONTEXT_FULL',
    );
  if (ids.length === 0)
    throw new TorchBindError(`embed: text ${i} is empty, got ${describe(text)}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
  return readPrompt(ids, model);
}
