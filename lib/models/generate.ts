import { checkIterable, checkOptions, checkWatchers, describe, TorchBindError } from '../errors';
import { encodeText, takesLong, type Tokenizer } from '../tokenizers';
import type { ContextShift, DecodeRequest, Decoder } from './decoder';
import type { GPTModel } from './gpt-model';
import { Sampler, samplingOptionNames, type SamplingOptions } from './sampler';
import { StopText } from './stop-text';
import { TokenQueue } from './token-queue';
import { decoderOf } from './turn-decoder';

/** Options of generating token ids. */
export interface GenerateTokensOptions extends SamplingOptions {
  /** Tokens to generate at most. Default 100. */
  maxNewTokens?: number;
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

const TOKEN_OPTIONS = ['maxNewTokens', 'signal', 'thread', 'contextShift', ...samplingOptionNames] as const;

/** Options of generating text. */
export interface GenerateOptions extends GenerateTokensOptions {
  /** End before any of these texts appears in the generated text. */
  stop?: string | readonly string[];
}

/** How a sequence is generated and read. */
export interface Reading {
  /** Generate without waiting for each token to be asked for. Default false. */
  all?: boolean;
  /** What generates where the option `thread` says. Default: the model's decoder on this thread. */
  decoderOn?: (thread: ThreadOption) => Decoder;
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
  { all = false, decoderOn = () => decoderOf(model) }: Reading = {},
): AsyncGenerator<number, void, undefined> {
  const { thread, signal, ...request } = readRequest(model, prompt, options);
  return run(decoderOn(thread), request, signal, all);
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_UNKNOWN_OPTION */
function readRequest(
  model: GPTModel,
  prompt: ArrayLike<number>,
  options: GenerateTokensOptions,
): DecodeRequest & { thread: ThreadOption; signal: AbortSignal | undefined } {
  checkOptions(options, TOKEN_OPTIONS, 'generate');
  const { maxNewTokens = 100, signal, thread = 'worker', contextShift = 'exact', ...sampling } = options;
  if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 0) {
    throw invalid(`maxNewTokens must be an integer of at least 0, got ${describe(maxNewTokens)}`);
  }
  if (thread !== 'main' && thread !== 'worker') {
    throw invalid(`thread must be 'main' or 'worker', got ${describe(thread)}`);
  }
  if (contextShift !== 'exact' && contextShift !== 'half') {
    throw invalid(`contextShift must be 'exact' or 'half', got ${describe(contextShift)}`);
  }
  checkWatchers({ signal }, 'generate');
  checkIterable(prompt, 'an array of token ids', 'generate');
  const tokens = Array.from(prompt);
  checkPrompt(tokens, model.config.vocabSize);
  new Sampler(sampling, model.device); // Checks the options.
  return { prompt: tokens, maxNewTokens, sampling, contextShift, thread, signal };
}

/** The tokens of a sequence of the model's decoder: each generated when it is asked for, or all without waiting to be asked. */
async function* run(
  decoder: Decoder,
  request: DecodeRequest,
  signal: AbortSignal | undefined,
  all: boolean,
): AsyncGenerator<number, void, undefined> {
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
      yield token;
    }
  } finally {
    sequence.remove();
  }
}

/** Generates text after a prompt, in pieces that never end within a character. Without a prompt a new text begins. */
export function streamText(
  model: GPTModel,
  prompt: string,
  options: GenerateOptions = {},
  { all = false, decoderOn }: Reading = {},
): AsyncGenerator<string, void, undefined> {
  checkOptions(options, [...TOKEN_OPTIONS, 'stop'], 'generate');
  if (typeof prompt !== 'string') throw invalid(`the prompt must be a string, got ${describe(prompt)}`);
  const { stop = [], ...rest } = options;
  if (typeof stop !== 'string') checkIterable(stop, 'a text or a list of texts for stop', 'generate');
  const stops = typeof stop === 'string' ? [stop] : [...stop];
  if (!stops.every((text) => typeof text === 'string' && text !== '')) {
    throw invalid(`stop must be a text or a list of texts, none empty, got ${describe(stop)}`);
  }
  const tokenizer = tokenizerOf(model);
  // Tokens after a stop are not drawn either: the random numbers that follow are those that PyTorch's loop leaves.
  const reading = { all: all && stops.length === 0, decoderOn };
  const textStart = [tokenizer.startId];
  if (!takesLong(tokenizer, prompt)) {
    const ids = prompt === '' ? textStart : tokenizer.encode(prompt);
    const tokens = streamTokens(model, ids, rest, reading);
    return decodeStream(() => ({ tokens, ids: prompt === '' ? [] : ids }), tokenizer, new StopText(stops));
  }
  readRequest(model, textStart, rest); // What is wrong with the options is told now.
  const encodeAndStart = async (): Promise<Started> => {
    const ids = await encodeText(tokenizer, prompt);
    return { tokens: streamTokens(model, prompt === '' ? textStart : ids, rest, reading), ids };
  };
  return decodeStream(encodeAndStart, tokenizer, new StopText(stops));
}

type TokenGenerator = AsyncGenerator<number, void, undefined>;

/** The tokens that are generated, and those of the prompt. */
interface Started {
  tokens: TokenGenerator;
  ids: ArrayLike<number>;
}

async function* decodeStream(
  start: () => Started | Promise<Started>,
  tokenizer: Tokenizer,
  stop: StopText,
): AsyncGenerator<string, void, undefined> {
  const { tokens, ids } = await start();
  const decoder = tokenizer.decoder(ids);
  for await (const token of tokens) {
    const text = stop.push(decoder.push(token));
    if (text !== '') yield text;
    if (stop.done) return;
  }
  const rest = stop.push(decoder.end()) + stop.end();
  if (rest !== '') yield rest;
}

/** The prompt and the text generated after it; of several prompts those of each, in their order. */
export async function generateText(
  model: GPTModel,
  prompt: string,
  options?: GenerateOptions,
  decoderOn?: Reading['decoderOn'],
): Promise<string>;
export async function generateText(
  model: GPTModel,
  prompts: readonly string[],
  options?: GenerateOptions,
  decoderOn?: Reading['decoderOn'],
): Promise<string[]>;
export async function generateText(
  model: GPTModel,
  prompts: string | readonly string[],
  options?: GenerateOptions,
  decoderOn?: Reading['decoderOn'],
): Promise<string | string[]> {
  const open = (prompt: string): AsyncGenerator<string, void, undefined> =>
    streamText(model, prompt, options, { all: true, decoderOn });
  if (!Array.isArray(prompts)) return collect(prompts as string, open(prompts as string));
  const streams = [...(prompts as string[])].map(open);
  try {
    return await Promise.all(streams.map((stream, i) => collect(prompts[i] as string, stream)));
  } finally {
    await Promise.all(streams.map((stream) => stream.return())); // Where one has failed, the others end here.
  }
}

async function collect(prompt: string, pieces: AsyncIterable<string>): Promise<string> {
  let text = prompt;
  for await (const piece of pieces) text += piece;
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
