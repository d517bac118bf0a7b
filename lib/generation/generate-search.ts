import { checkOptions, describe } from '../errors';
import { encodeText } from '../tokenizers';
import type { Beams, Decoder, FoundSequence, SearchRequest, TokenLogprobs } from './decoder';
import {
  checkText,
  decodeStream,
  endOf,
  type FinishReason,
  type Generated,
  type GenerateDetails,
  type GenerateOptions,
  type GenerateTokensOptions,
  invalid,
  readPrompt,
  readRequest,
  readTextRequest,
  TEXT_OPTIONS,
  type ThreadOption,
  TOKEN_OPTIONS,
  whole,
} from './generate';
import { endIdsOf } from './end-ids';
import type { GPTModel } from '../models/gpt-model';
import { StopText } from './stop-text';
import { TokenQueue } from './token-queue';

/** Options of a beam search. */
export interface BeamOptions {
  /** Number of beams. Above 1, beam search finds the most likely text, and nothing is sampled. Default 1. */
  numBeams?: number;
  /** Exponent of the length by which a beam's score is divided: above 0 favours long texts. Default 1. */
  lengthPenalty?: number;
  /**
   * When a beam search stops: `true`: when as many texts as beams have ended; `false` (default): when a better one is
   * unlikely; `'never'`: when no better one is possible.
   */
  earlyStopping?: boolean | 'never';
}

/** Requests several texts. */
export interface SequencesOption {
  /**
   * Number of texts for each prompt, 1 to 1024: sampled together from one generator like transformers'
   * `num_return_sequences`, or the best of a beam search. The result is an array, prompt by prompt.
   */
  numReturnSequences: number;
}

/** Options of `gpt.generateSequences`. */
export interface GenerateSequencesOptions
  extends Omit<GenerateTokensOptions, 'stop'>, BeamOptions, Partial<SequencesOption> {}

/** A text of `gpt.generateSequences`. */
export interface GeneratedSequence {
  /** The token ids after the prompt, including a stop token. */
  tokens: number[];
  finishReason: Exclude<FinishReason, 'aborted'>;
  /** Score of a beam: the sum of its log-probabilities divided by its length to the power of `lengthPenalty`. */
  score?: number;
  logprobs?: TokenLogprobs[];
}

const SEARCH_OPTIONS = ['numReturnSequences', 'numBeams', 'lengthPenalty', 'earlyStopping'] as const;

/** Maximum number of texts and beams. */
const MOST = 1024;

/** Sampling options, which beam search refuses. */
const DRAWING = ['temperature', 'topK', 'topP', 'minP', 'typicalP', 'seed', 'logprobs'] as const;

/** Whether options request several texts or a search instead of one sampled text. */
export function asksForSearch(options: unknown): options is GenerateSequencesOptions {
  const { numBeams = 1, ...rest } = (options ?? {}) as GenerateSequencesOptions;
  return numBeams !== 1 || SEARCH_OPTIONS.some((name) => name !== 'numBeams' && rest[name] !== undefined);
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT */
function readSearch(options: GenerateSequencesOptions): Pick<SearchRequest, 'beams' | 'returned'> {
  const { numReturnSequences = 1, numBeams = 1, lengthPenalty = 1, earlyStopping = false, greedy } = options;
  for (const [name, value] of Object.entries({ numReturnSequences, numBeams }))
    if (!Number.isInteger(value) || value < 1 || value > MOST)
      throw invalid(`${name} must be an integer from 1 to ${MOST}, got ${describe(value)}`);
  if (!Number.isFinite(lengthPenalty))
    throw invalid(`lengthPenalty must be a finite number, got ${describe(lengthPenalty)}`);
  if (earlyStopping !== 'never' && typeof earlyStopping !== 'boolean')
    throw invalid(`earlyStopping must be true, false or 'never', got ${describe(earlyStopping)}`);
  if (numBeams === 1) {
    const ofBeams = (['lengthPenalty', 'earlyStopping'] as const).find((name) => options[name] !== undefined);
    if (ofBeams !== undefined) throw invalid(`${ofBeams} is of a beam search: give numBeams above 1, or leave it out`);
    if (greedy === true && numReturnSequences > 1)
      throw invalid('greedy gives the same text each time: leave out numReturnSequences, or search with numBeams');
    return { beams: undefined, returned: numReturnSequences };
  }
  if (numReturnSequences > numBeams)
    throw invalid(`numReturnSequences (${numReturnSequences}) must be at most numBeams (${numBeams})`);
  const drawing = DRAWING.find((name) => options[name] !== undefined);
  if (drawing !== undefined) throw invalid(`a beam search draws nothing: leave out ${drawing}, or numBeams`);
  const beams: Beams = { count: numBeams, lengthPenalty, earlyStopping };
  return { beams, returned: numReturnSequences };
}

/** The options without those of a search. */
export function withoutSearch<T extends object>(options: T): Omit<T, (typeof SEARCH_OPTIONS)[number]> {
  const { numReturnSequences, numBeams, lengthPenalty, earlyStopping, ...rest } = options as GenerateSequencesOptions &
    T;
  void [numReturnSequences, numBeams, lengthPenalty, earlyStopping];
  return rest;
}

/** Continuations of a prompt, or of each of several prompts, as token ids. */
export async function searchTokens(
  model: GPTModel,
  prompts: readonly ArrayLike<number>[],
  options: GenerateSequencesOptions,
  decoderOn: (thread: ThreadOption) => Decoder,
): Promise<GeneratedSequence[]> {
  checkOptions(options, [...TOKEN_OPTIONS, ...SEARCH_OPTIONS], 'generateSequences');
  const { thread, signal, ...own } = readRequest(withoutSearch(options), model);
  const request = { ...own, ...readSearch(options) };
  const ids = prompts.map((prompt) => readPrompt(prompt, model));
  // Beams of one prompt know nothing of another's. What is drawn comes from one generator.
  const requests =
    request.beams === undefined
      ? [{ ...request, prompts: ids }]
      : ids.map((prompt) => ({ ...request, prompts: [prompt] }));
  if (ids.length === 0) return [];
  if (request.maxNewTokens === 0)
    return ids.flatMap(() => Array.from({ length: request.returned }, () => ({ tokens: [], finishReason: 'length' })));
  const stops = new Set(request.stopTokens);
  const endIds = options.endOfText === true ? endIdsOf(model) : [];
  const found = await Promise.all(requests.map((each) => search(decoderOn(thread), each, signal)));
  return found.flat().map((sequence) => {
    const last = sequence.tokens.at(-1)!;
    return { ...sequence, finishReason: endIds.includes(last) ? 'eos' : stops.has(last) ? 'stop' : 'length' };
  });
}

async function search(
  decoder: Decoder,
  request: SearchRequest,
  signal: AbortSignal | undefined,
): Promise<FoundSequence[]> {
  signal?.throwIfAborted();
  const queue = new TokenQueue();
  const sequence = decoder.add(request, queue);
  try {
    sequence.grant(1);
    return await queue.result(signal);
  } finally {
    sequence.remove();
  }
}

/** The result of `generate` with `numReturnSequences` (an array) or `numBeams`. */
export async function searchText(
  model: GPTModel,
  prompt: string | readonly string[],
  options: GenerateOptions & GenerateSequencesOptions,
  decoderOn: (thread: ThreadOption) => Decoder,
): Promise<Generated | Generated[]> {
  checkOptions(options, [...TEXT_OPTIONS, ...SEARCH_OPTIONS], 'generate');
  const prompts = typeof prompt === 'string' ? [prompt] : [...prompt];
  for (const text of prompts) checkText(text);
  const { tokenizer, stops, stopTokens, endIds } = readTextRequest(withoutSearch(options), model);
  const seen = await Promise.all(prompts.map(async (text) => (text === '' ? [] : encodeText(tokenizer, text))));
  const ids = seen.map((tokens) => (tokens.length === 0 ? [tokenizer.startId] : tokens));
  const { stop, details, ...searchOptions } = options;
  void [stop, details]; // of texts
  const found = await searchTokens(model, ids, searchOptions, decoderOn);
  const each = found.length / Math.max(1, prompts.length);
  const texts = await Promise.all(
    found.map(async ({ tokens, score, logprobs }, i) => {
      const p = Math.floor(i / each);
      const ends = { text: new StopText(stops), tokens: stopTokens, endIds };
      const started = { tokens, ids: ids[p]!, seen: seen[p]! };
      const details: GenerateDetails = await endOf(decodeStream(() => started, tokenizer, ends, logprobs));
      return whole(prompts[p]!, { ...details, ...(score === undefined ? {} : { score }) }, options);
    }),
  );
  return typeof prompt === 'string' && options.numReturnSequences === undefined ? texts[0]! : texts;
}
