import { checkIterable, checkOptions, checkWatchers, describe, TorchBindError } from '../errors';
import { encodeText, type StreamDecoder, takesLong, type Tokenizer } from '../tokenizers';
import type { ContextShift, DecodeRequest, Decoder, SessionTurn, TokenLogprobs } from './decoder';
import type { GPTModel } from '../models/gpt-model';
import { endIdsOf } from './end-ids';
import { Sampler, samplingOptionNames, type SamplingOptions } from './sampler';
import { StopText } from './stop-text';
import { TokenQueue } from './token-queue';
import { decoderOf } from './turn-decoder';

/** Options of generating token ids. */
export interface GenerateTokensOptions extends SamplingOptions {
  /** Tokens to generate at most. Default 100. */
  maxNewTokens?: number;
  /** End before any of these texts appears in the generated text; in token ids, with the token that completes it. */
  stop?: string | readonly string[];
  /** End after any of these token ids. Default: none. */
  stopTokens?: readonly number[];
  /**
   * End after the token that ends a text: those that the model's generation config names, or else the tokenizer's. Default false:
   * PyTorch's programs write on.
   */
  endOfText?: boolean;
  /** Give the log-probability of each token, with so many of the likeliest tokens; 0 for that of the token alone. */
  logprobs?: number;
  /** Ends the generation at the next token: what waits for it is rejected with the signal's reason. */
  signal?: AbortSignal;
  /**
   * Where tokens are computed: by default on a worker thread, so that the event loop stays free. `main` computes on the thread that
   * called, as always happens for models with hooks, replaced functions or classes of the program's own.
   */
  thread?: ThreadOption;
  /**
   * What the model sees of a text that is longer than its context. `exact`, the default: the last blockSize tokens, as in PyTorch's
   * programs, which costs a whole context for each token. `half`: a full context keeps its last half, and is filled up again; the
   * half is computed anew once, and with rotary positions not at all.
   */
  contextShift?: ContextShift;
}

/** Where what returns a promise computes: `main` is the thread that called. */
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

/** The most alternatives whose log-probabilities are given. */
const MOST_LOGPROBS = 100;

/** Why tokens ended. `eos` is the tokenizer's end of text, `stop` another stop token or a stop text. */
export type FinishReason = 'stop' | 'length' | 'eos' | 'aborted';

/** What was generated after a prompt. */
export interface GenerateDetails {
  /** The text after the prompt. Neither a stop text nor the text of a stop token is part of it. */
  text: string;
  /** All ids that were generated, a stop token and those of a stop text included. */
  tokens: number[];
  finishReason: FinishReason;
  usage: { promptTokens: number; completionTokens: number };
  /** Of each of the tokens, where the option `logprobs` asks for them. */
  logprobs?: TokenLogprobs[];
  /** Of a beam search: the sum of the tokens' log-probabilities divided by their number to the power of `lengthPenalty`. */
  score?: number;
}

/** Options of generating text. */
export interface GenerateOptions extends GenerateTokensOptions {
  /** Give an object with tokens, finish reason and usage instead of the text. Default false. */
  details?: boolean;
}

export const TEXT_OPTIONS = [...TOKEN_OPTIONS, 'stop', 'details'] as const;

/** How a sequence is generated and read. */
export interface Reading {
  /** Generate without waiting for each token to be asked for. Default false. */
  all?: boolean;
  /** What generates where the option `thread` says. Default: the model's decoder on this thread. */
  decoderOn?: (thread: ThreadOption) => Decoder;
  /** Takes each token, with its log-probabilities if there are any, before it is given. */
  onToken?: (token: number, logprobs?: TokenLogprobs) => void;
  /** The turn of a session. */
  session?: () => SessionTurn;
  /** Tokens before the prompt's: those of a session's turns before. */
  before?: readonly number[];
  /** Takes the tokens that the text begins with: those before and the prompt's. */
  onPrompt?: (tokens: readonly number[]) => void;
}

/**
 * Generates token ids, one a step, from the last blockSize tokens so far, together with what else is generated from the
 * model at the same time. The model is in evaluation mode during a step; between steps the event loop turns.
 *
 * Options are checked at once; memory is taken when the first token is asked for, and freed at the end, early or not.
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

/** The tokens up to the one that completes a stop text. */
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

/** What a request says, apart from its prompt. */
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

/** The tokens of a sequence of the model's decoder: each generated when it is asked for, or all without waiting to be asked. */
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

/** How text is generated: options for its tokens, and what ends it. */
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
 * Generates text after a prompt, in pieces that never end within a character. Without a prompt a new text begins. What the
 * generator returns tells how the text ended.
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

/** Pieces of text, and at the end all about it. */
export interface TextGenerator extends AsyncGenerator<string, GenerateDetails, undefined> {
  return(value?: GenerateDetails | PromiseLike<GenerateDetails>): Promise<IteratorResult<string, GenerateDetails>>;
}

/** The tokens that are generated, and those of the prompt. */
interface Started {
  tokens: AsyncIterable<number> | Iterable<number>;
  ids: ArrayLike<number>;
  /** The prompt's tokens as its text has them: none for a text that begins. */
  seen: ArrayLike<number>;
}

/** What ends a text. */
interface Ends {
  text: StopText;
  tokens: ReadonlySet<number>;
  /** Those of `tokens` that the finish reason `eos` is for. */
  endIds: readonly number[];
}

/**
 * @internal Reads tokens as text.
 *
 * @param logprobs of the tokens, which come as they do
 * @param signal whose abortion ends the text as an ordinary end does
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
 * The prompt and the text generated after it, or with `details` all about the latter; of several prompts those of each, in
 * their order.
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

/** What `generate` gives for a prompt. */
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
