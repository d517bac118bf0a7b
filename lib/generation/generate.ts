import { checkIterable, checkOptions, checkWatchers, describe, TorchBindError } from '../errors';
import { encodeText, type StreamDecoder, takesLong, type Tokenizer } from '../tokenizers';
import type { ContextShift, DecodeRequest, Decoder, SessionTurn, TokenLogprobs } from './decoder';
import type { GPTModel } from '../models/gpt-model';
import { endIdsOf } from './end-ids';
import { Sampler, samplingOptionNames, type SamplingOptions } from './sampler';
import { StopText } from './stop-text';
import { TokenQueue } from './token-queue';
import { decoderOf } from './turn-decoder';

/** Options of `generateTokens`. */
export interface GenerateTokensOptions extends SamplingOptions {
  /** Maximum number of new tokens. Default 100. */
  maxNewTokens?: number;
  /**
   * Stop before any of these texts appears in the generated text; `generateTokens` stops with the token that completes
   * it.
   */
  stop?: string | readonly string[];
  /** Stop after any of these token ids. Default: none. */
  stopTokens?: readonly number[];
  /**
   * Stop after an end-of-text token: those in the model's generation config, or else the tokenizer's. Default false, as
   * in plain PyTorch loops.
   */
  endOfText?: boolean;
  /**
   * Return the log-probability of each token, and those of this many most likely tokens. 0 returns only the token's
   * own.
   */
  logprobs?: number;
  /** Stops the generation at the next token: pending promises reject with the signal's reason. */
  signal?: AbortSignal;
  /**
   * Where tokens are computed: `worker` (default) is a worker thread, so that the event loop stays free; `main` is the
   * calling thread. Models with hooks, or with functions or classes of your own, always use the calling thread.
   */
  thread?: ThreadOption;
  /**
   * What the model sees of a text that exceeds its context. `exact` (default): the last blockSize tokens, as in PyTorch
   * programs; each token then recomputes the whole context. `half`: a full context keeps its last half and fills up
   * again; that half is recomputed once, or never with rotary positions.
   */
  contextShift?: ContextShift;
}

/** Where async functions compute: `main` is the calling thread. */
export type ThreadOption = 'main' | 'worker';

export const TOKEN_OPTIONS = [
  'maxNewTokens',
  'stopTokens',
  'endOfText',
  'logprobs',
  'signal',
  'thread',
  'contextShift',
  ...samplingOptionNames,
] as const;

/** Maximum number of alternatives for `logprobs`. */
const MOST_LOGPROBS = 100;

/**
 * Why generation stopped: `length` after maxNewTokens, `eos` at an end-of-text token, `stop` at another stop token or a
 * stop text, `aborted` by the signal.
 */
export type FinishReason = 'stop' | 'length' | 'eos' | 'aborted';

/** Result of a generation, with `details: true` and at the end of a stream. */
export interface GenerateDetails {
  /** The text after the prompt, without a stop text or the text of a stop token. */
  text: string;
  /** All generated token ids, including a stop token and those of a stop text. */
  tokens: number[];
  finishReason: FinishReason;
  usage: { promptTokens: number; completionTokens: number };
  /** Log-probabilities of each token, with the option `logprobs`. */
  logprobs?: TokenLogprobs[];
  /** Score of a beam: the sum of its log-probabilities divided by its length to the power of `lengthPenalty`. */
  score?: number;
}

/** Options of `generate` and `stream`. */
export interface GenerateOptions extends GenerateTokensOptions {
  /** Return an object with tokens, finish reason and usage instead of the text. Default false. */
  details?: boolean;
}

export const TEXT_OPTIONS = [...TOKEN_OPTIONS, 'stop', 'details'] as const;

/** How a sequence is generated and read. */
export interface Reading {
  /** Generate ahead instead of waiting for each token to be requested. Default false. */
  all?: boolean;
  /** The decoder for a value of the option `thread`. Default: the model's decoder on this thread. */
  decoderOn?: (thread: ThreadOption) => Decoder;
  /** Receives each token, with log-probabilities if requested, before it is yielded. */
  onToken?: (token: number, logprobs?: TokenLogprobs) => void;
  /** The turn of a session. */
  session?: () => SessionTurn;
  /** Tokens before the prompt: those of a session's earlier turns. */
  before?: readonly number[];
  /** Receives the initial tokens: those before the prompt, and the prompt's. */
  onPrompt?: (tokens: readonly number[]) => void;
}

/**
 * Generates token ids, one per step, from the last blockSize tokens, together with other sequences of the same model.
 * The model is in evaluation mode during a step. The event loop runs between steps.
 *
 * Options are checked immediately. Memory is allocated when the first token is requested, and freed at the end, early
 * or not.
 */
export function streamTokens(
  model: GPTModel,
  prompt: ArrayLike<number>,
  options: GenerateTokensOptions = {},
  { all = false, decoderOn = () => decoderOf(model), onToken, session }: Reading = {},
): AsyncGenerator<number, void, undefined> {
  checkOptions(options, [...TOKEN_OPTIONS, 'stop'], 'generate');
  const { stop, ...rest } = options;
  const stops = readStops(stop);
  const { thread, signal, ...request } = readRequest(rest, model);
  const ids = readPrompt(prompt, model);
  const decoder = decoderOn(thread);
  const begin = (): DecodeRequest => ({ ...request, prompt: ids, session: session?.() });
  const tokens = run(decoder, begin, signal, all && stops.length === 0, onToken);
  return stops.length === 0 ? tokens : untilText(tokens, tokenizerOf(model).decoder(ids), new StopText(stops));
}

/** The tokens up to and including the one that completes a stop text. */
async function* untilText(
  tokens: AsyncGenerator<number, void, undefined>,
  decoder: StreamDecoder,
  stop: StopText,
): AsyncGenerator<number, void, undefined> {
  for await (const token of tokens) {
    stop.push(decoder.push(token));
    yield token;
    if (stop.done) return;
  }
}

/** A request without its prompt. */
type RequestOptions = Omit<DecodeRequest, 'prompt'> & { thread: ThreadOption; signal: AbortSignal | undefined };

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_UNKNOWN_OPTION */
export function readRequest(options: Omit<GenerateTokensOptions, 'stop'>, model: GPTModel): RequestOptions {
  checkOptions(options, TOKEN_OPTIONS, 'generate');
  const { maxNewTokens = 100, stopTokens = [], endOfText = false, logprobs, ...others } = options;
  const { signal, thread = 'worker', contextShift = 'exact', ...sampling } = others;
  if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 0) {
    throw invalid(`maxNewTokens must be an integer of at least 0, got ${describe(maxNewTokens)}`);
  }
  if (thread !== 'main' && thread !== 'worker') {
    throw invalid(`thread must be 'main' or 'worker', got ${describe(thread)}`);
  }
  if (contextShift !== 'exact' && contextShift !== 'half') {
    throw invalid(`contextShift must be 'exact' or 'half', got ${describe(contextShift)}`);
  }
  checkIterable(stopTokens, 'a list of token ids for stopTokens', 'generate');
  if (typeof endOfText !== 'boolean') throw invalid(`endOfText must be true or false, got ${describe(endOfText)}`);
  const stops = [...stopTokens, ...(endOfText ? requireEndIds(model) : [])];
  checkIds(stops, model.config.vocabSize, 'stopTokens holds');
  if (logprobs !== undefined && !(Number.isInteger(logprobs) && logprobs >= 0 && logprobs <= MOST_LOGPROBS)) {
    throw invalid(`logprobs must be an integer from 0 to ${MOST_LOGPROBS}, got ${describe(logprobs)}`);
  }
  checkWatchers({ signal }, 'generate');
  new Sampler(sampling, model.device, model.config.vocabSize, stops); // Checks the options.
  return { maxNewTokens, stopTokens: stops, logprobs, sampling, contextShift, thread, signal };
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT */
export function readPrompt(prompt: ArrayLike<number>, { config: { vocabSize } }: GPTModel): number[] {
  checkIterable(prompt, 'an array of token ids', 'generate');
  const tokens = Array.from(prompt);
  if (tokens.length === 0) throw invalid('the prompt must hold one token or more');
  checkIds(tokens, vocabSize, 'the prompt holds');
  return tokens;
}

/** Yields the tokens of a sequence, each generated on request, or all ahead of requests. */
async function* run(
  decoder: Decoder,
  begin: () => DecodeRequest,
  signal: AbortSignal | undefined,
  all: boolean,
  onToken: Reading['onToken'],
): AsyncGenerator<number, void, undefined> {
  const request = begin();
  const { maxNewTokens } = request;
  if (maxNewTokens === 0) return;
  const queue = new TokenQueue();
  const sequence = decoder.add(request, queue);
  try {
    for (let i = 0; i < maxNewTokens; i++) {
      signal?.throwIfAborted();
      if (!all) sequence.grant(1);
      else if (i === 0) sequence.grant(maxNewTokens);
      const token = await queue.next(signal);
      if (token === undefined) return;
      onToken?.(token, queue.takeLogprobs());
      yield token;
    }
  } finally {
    sequence.remove();
  }
}

/** A request for text: options for its tokens, and when to stop. */
interface TextRequest {
  tokenOptions: Omit<GenerateTokensOptions, 'stop'>;
  tokenizer: Tokenizer;
  stops: string[];
  /** Tokens that end a text, `endIds` among them. */
  stopTokens: ReadonlySet<number>;
  endIds: readonly number[];
  details: boolean;
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_UNKNOWN_OPTION, ERR_TORCHBIND_NO_TOKENIZER */
export function readTextRequest(options: GenerateOptions, model: GPTModel): TextRequest {
  checkOptions(options, TEXT_OPTIONS, 'generate');
  const { stop, details = false, ...tokenOptions } = options;
  const stops = readStops(stop);
  if (typeof details !== 'boolean') throw invalid(`details must be true or false, got ${describe(details)}`);
  const tokenizer = tokenizerOf(model);
  const { stopTokens = [], endOfText } = tokenOptions;
  checkIterable(stopTokens, 'a list of token ids for stopTokens', 'generate');
  const endIds = endOfText === true ? requireEndIds(model) : [];
  return { tokenOptions, tokenizer, stops, stopTokens: new Set([...stopTokens, ...endIds]), endIds, details };
}

function readStops(stop: GenerateTokensOptions['stop'] = []): string[] {
  if (typeof stop !== 'string') checkIterable(stop, 'a text or a list of texts for stop', 'generate');
  const stops = typeof stop === 'string' ? [stop] : [...stop];
  if (stops.every((text) => typeof text === 'string' && text !== '')) return stops;
  throw invalid(`stop must be a text or a list of texts, none empty, got ${describe(stop)}`);
}

/**
 * Generates text after a prompt, in pieces that never end within a character. An empty prompt starts a new text. The
 * generator returns how the text ended.
 */
export function streamText(
  model: GPTModel,
  prompt: string,
  options: GenerateOptions = {},
  { all = false, onToken, onPrompt, before = [], ...reading }: Reading = {},
): TextGenerator {
  checkText(prompt);
  const { tokenOptions, tokenizer, stops, stopTokens, endIds, details } = readTextRequest(options, model);
  const logprobs: TokenLogprobs[] | undefined = tokenOptions.logprobs === undefined ? undefined : [];
  const own: Reading = {
    ...reading,
    // Tokens after a stop are not drawn either: the random numbers that follow are those that PyTorch's loop leaves.
    all: all && stops.length === 0,
    onToken: (token, of) => {
      if (of !== undefined) logprobs?.push(of);
      onToken?.(token, of);
    },
  };
  const ends = { text: new StopText(stops), tokens: stopTokens, endIds };
  const { signal } = tokenOptions;
  const start = (promptIds: ArrayLike<number>): Started => {
    const seen = before.length === 0 ? promptIds : [...before, ...Array.from(promptIds)];
    const ids = seen.length === 0 ? [tokenizer.startId] : Array.from(seen);
    onPrompt?.(ids);
    return { ids, seen, tokens: streamTokens(model, ids, tokenOptions, own) };
  };
  if (!takesLong(tokenizer, prompt)) {
    const started = start(prompt === '' ? [] : tokenizer.encode(prompt));
    return decodeStream(() => started, tokenizer, ends, logprobs, details ? signal : undefined);
  }
  readRequest(tokenOptions, model); // What is wrong with the options is told now.
  const encodeAndStart = async (): Promise<Started> => start(await encodeText(tokenizer, prompt));
  return decodeStream(encodeAndStart, tokenizer, ends, logprobs, details ? signal : undefined);
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT */
export function checkText(prompt: unknown): asserts prompt is string {
  if (typeof prompt !== 'string') throw invalid(`the prompt must be a string, got ${describe(prompt)}`);
}

/** Yields pieces of text, and returns a `GenerateDetails` at the end. */
export interface TextGenerator extends AsyncGenerator<string, GenerateDetails, undefined> {
  return(value?: GenerateDetails | PromiseLike<GenerateDetails>): Promise<IteratorResult<string, GenerateDetails>>;
}

/** The generated tokens, and those of the prompt. */
interface Started {
  tokens: AsyncIterable<number> | Iterable<number>;
  ids: ArrayLike<number>;
  /** The tokens of the prompt's text: none for an empty prompt. */
  seen: ArrayLike<number>;
}

/** When a text ends. */
interface Ends {
  text: StopText;
  tokens: ReadonlySet<number>;
  /** The stop tokens whose finish reason is `eos`. */
  endIds: readonly number[];
}

/**
 * @internal Decodes a stream of tokens into text.
 *
 * @param logprobs log-probabilities of the tokens, filled as they arrive
 * @param signal an abort ends the text normally, with `aborted`
 */
export async function* decodeStream(
  start: () => Started | Promise<Started>,
  tokenizer: Tokenizer,
  ends: Ends,
  logprobs?: TokenLogprobs[],
  signal?: AbortSignal,
): TextGenerator {
  const stop = ends.text;
  const tokens: number[] = [];
  let text = '';
  let finishReason: FinishReason = 'length';
  const started = await start();
  const decoder = tokenizer.decoder(started.seen);
  try {
    for await (const token of started.tokens) {
      tokens.push(token);
      if (ends.tokens.has(token)) {
        finishReason = ends.endIds.includes(token) ? 'eos' : 'stop';
        break;
      }
      const piece = stop.push(decoder.push(token));
      text += piece;
      if (piece !== '') yield piece;
      if (stop.done) break;
    }
  } catch (error) {
    if (signal?.aborted !== true || error !== signal.reason) throw error;
    finishReason = 'aborted';
  }
  const rest = stop.done ? '' : stop.push(decoder.end()) + stop.end();
  text += rest;
  if (rest !== '') yield rest;
  if (stop.done) finishReason = 'stop';
  const usage = { promptTokens: started.ids.length, completionTokens: tokens.length };
  return { text, tokens, finishReason, usage, ...(logprobs === undefined ? {} : { logprobs }) };
}

/**
 * Returns the prompt and the text after it, or with `details` an object; for several prompts an array in their order.
 */
export async function generateText(
  model: GPTModel,
  prompts: string | readonly string[],
  options: GenerateOptions = {},
  decoderOn?: Reading['decoderOn'],
): Promise<Generated | Generated[]> {
  const open = (prompt: string): TextGenerator => streamText(model, prompt, options, { all: true, decoderOn });
  const read = async (prompt: string, stream: TextGenerator): Promise<Generated> =>
    whole(prompt, await endOf(stream), options);
  if (!Array.isArray(prompts)) return read(prompts as string, open(prompts as string));
  const streams = [...(prompts as string[])].map(open);
  try {
    return await Promise.all(streams.map((stream, i) => read(prompts[i] as string, stream)));
  } finally {
    // Where one has failed, the others end here.
    await Promise.all(streams.map((stream) => stream.return()));
  }
}

export type Generated = string | GenerateDetails;

/** The result of `generate` for one prompt. */
export function whole(prompt: string, details: GenerateDetails, options: GenerateOptions): Generated {
  return options.details === true ? details : prompt + details.text;
}

/** Reads a stream to its end. */
export async function endOf(stream: TextGenerator): Promise<GenerateDetails> {
  for (;;) {
    const { done, value } = await stream.next();
    if (done === true) return value;
  }
}

function requireEndIds(model: GPTModel): number[] {
  const ids = endIdsOf(model);
  if (ids.length > 0) return ids;
  throw invalid(
    'endOfText needs a tokenizer that has an end of text, or a generation config that names one. Use stopTokens or stop',
  );
}

/** @throws ERR_TORCHBIND_NO_TOKENIZER */
export function tokenizerOf({ tokenizer }: GPTModel, where = 'generate'): Tokenizer {
  if (tokenizer !== null) return tokenizer;
  throw new TorchBindError(
    `${where}: the model has no tokenizer, so it cannot read or write text. Give it one (new GPT(config, { tokenizer }), or ` +
      'gpt.tokenizer = ...), or use token ids: generateTokens(), generateSequences(), evaluate(ids).',
    'ERR_TORCHBIND_NO_TOKENIZER',
  );
}

function checkIds(tokens: readonly number[], vocabSize: number, holds: string): void {
  const wrong = tokens.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (wrong !== undefined) {
    throw invalid(
      `${holds} the token id ${typeof wrong === 'number' ? wrong : describe(wrong)}, but the model's ids are 0 to ${vocabSize - 1}`,
    );
  }
}

/** @internal */
export function invalid(message: string): TorchBindError {
  return new TorchBindError(`generate: ${message}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
