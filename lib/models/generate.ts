import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkIterable, checkOptions, checkWatchers, describe, TorchBindError } from '../errors';
import { inferenceMode } from '../tensor/autograd';
import { tensor } from '../tensor/creation';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import type { Tokenizer } from '../tokenizers/tokenizer';
import type { GPTModel } from './gpt-model';
import type { KVCache } from './kv-cache';
import { evaluation } from './mode';
import { Sampler, samplingOptionNames, type SamplingOptions } from './sampler';
import { StopText } from './stop-text';

/** Options of generating token ids. */
export interface GenerateTokensOptions extends SamplingOptions {
  /** Tokens to generate at most. Default 100. */
  maxNewTokens?: number;
  /** Ends the generation at the next token: what waits for it is rejected with the signal's reason. */
  signal?: AbortSignal;
}

/** Options of generating text. */
export interface GenerateOptions extends GenerateTokensOptions {
  /** End before any of these texts appears in the generated text. */
  stop?: string | readonly string[];
}

/**
 * Generates token ids, one a step, from the last blockSize tokens so far. The model is in evaluation mode during a
 * step; between steps the event loop turns.
 *
 * Options are checked at once; memory is taken when the first token is asked for, and freed at the end, early or not.
 */
export function streamTokens(
  model: GPTModel,
  prompt: ArrayLike<number>,
  options: GenerateTokensOptions = {},
): AsyncGenerator<number, void, undefined> {
  checkOptions(options, ['maxNewTokens', 'signal', ...samplingOptionNames], 'generate');
  const { maxNewTokens = 100, signal, ...sampling } = options;
  if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 0) {
    throw invalid(`maxNewTokens must be an integer of at least 0, got ${describe(maxNewTokens)}`);
  }
  checkWatchers({ signal }, 'generate');
  checkIterable(prompt, 'an array of token ids', 'generate');
  const tokens = Array.from(prompt);
  checkPrompt(tokens, model.config.vocabSize);
  return run(model, tokens, maxNewTokens, new Sampler(sampling, model.device), signal);
}

async function* run(
  model: GPTModel,
  tokens: number[],
  count: number,
  sampler: Sampler,
  signal: AbortSignal | undefined,
): AsyncGenerator<number, void, undefined> {
  const cache = model.makeCache();
  const evaluating = evaluation(model);
  try {
    for (let i = 0; i < count; i++) {
      if (i > 0) await nextTurn();
      signal?.throwIfAborted();
      const token = evaluating(() => inferenceMode(() => tidy(() => sampler.next(nextLogits(model, tokens, cache)))));
      tokens.push(token);
      yield token;
    }
  } finally {
    cache.dispose();
  }
}

/**
 * Logits (1, V) of the token after `tokens`. Beyond the context the last blockSize tokens count, each at a new position
 * in every step, so that nothing in the cache can be used again.
 */
function nextLogits(model: GPTModel, tokens: readonly number[], cache: KVCache): Tensor {
  const { blockSize } = model.config;
  if (tokens.length > blockSize) cache.reset();
  const fresh = tokens.slice(Math.max(cache.length, tokens.length - blockSize));
  return model.forwardCached(tensor([fresh], { dtype: 'int64', device: model.device }), cache);
}

/** Generates text after a prompt, in pieces that never end within a character. Without a prompt a new text begins. */
export function streamText(
  model: GPTModel,
  prompt: string,
  options: GenerateOptions = {},
): AsyncGenerator<string, void, undefined> {
  checkOptions(options, ['maxNewTokens', 'signal', 'stop', ...samplingOptionNames], 'generate');
  if (typeof prompt !== 'string') throw invalid(`the prompt must be a string, got ${describe(prompt)}`);
  const { stop = [], ...rest } = options;
  if (typeof stop !== 'string') checkIterable(stop, 'a text or a list of texts for stop', 'generate');
  const stops = typeof stop === 'string' ? [stop] : [...stop];
  if (!stops.every((text) => typeof text === 'string' && text !== '')) {
    throw invalid(`stop must be a text or a list of texts, none empty, got ${describe(stop)}`);
  }
  const tokenizer = tokenizerOf(model);
  const ids = prompt === '' ? [tokenizer.startId] : tokenizer.encode(prompt);
  return decodeStream(streamTokens(model, ids, rest), tokenizer, new StopText(stops));
}

async function* decodeStream(
  tokens: AsyncGenerator<number, void, undefined>,
  tokenizer: Tokenizer,
  stop: StopText,
): AsyncGenerator<string, void, undefined> {
  const decoder = tokenizer.decoder();
  for await (const token of tokens) {
    const text = stop.push(decoder.push(token));
    if (text !== '') yield text;
    if (stop.done) return;
  }
  const rest = stop.push(decoder.end()) + stop.end();
  if (rest !== '') yield rest;
}

/** The prompt and the text generated after it. */
export async function generateText(model: GPTModel, prompt: string, options?: GenerateOptions): Promise<string> {
  let text = prompt;
  for await (const piece of streamText(model, prompt, options)) text += piece;
  return text;
}

function tokenizerOf({ tokenizer }: GPTModel): Tokenizer {
  if (tokenizer !== null) return tokenizer;
  throw new TorchBindError(
    'The model has no tokenizer, so it cannot read or write text. Give it one (new GPT(config, { tokenizer }), or ' +
      'gpt.tokenizer = ...), or use generateTokens() with token ids.',
    'ERR_TORCHBIND_NO_TOKENIZER',
  );
}

function checkPrompt(tokens: readonly number[], vocabSize: number): void {
  if (tokens.length === 0) throw invalid('the prompt must hold one token or more');
  const wrong = tokens.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (wrong !== undefined) {
    throw invalid(
      `the prompt holds the token id ${typeof wrong === 'number' ? wrong : describe(wrong)}, but the model's ids are 0 to ${vocabSize - 1}`,
    );
  }
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(`generate: ${message}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
