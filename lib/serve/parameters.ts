import type { GenerateOptions } from '../generation/generate';
import { withoutUndefined } from '../objects';
import { HttpError } from './http-error';
import type { ServerLimits } from './options';

/** What a request asks for, apart from its prompt. */
export interface Parameters {
  model: string | undefined;
  stream: boolean;
  includeUsage: boolean;
  n: number;
  maxTokens: number;
  sampling: Sampling;
  /** Likeliest tokens to give with the log-probability of each; undefined for none of both. */
  logprobs: number | undefined;
  /** Write on after the end of a text. */
  ignoresEnd: boolean;
  stop: string[];
}

export type Sampling = Pick<
  GenerateOptions,
  | 'temperature'
  | 'topK'
  | 'topP'
  | 'minP'
  | 'repetitionPenalty'
  | 'presencePenalty'
  | 'frequencyPenalty'
  | 'logitBias'
  | 'seed'
>;

type Body = Readonly<Record<string, unknown>>;

/** Parameters that say nothing about the text. */
const IGNORED = ['user', 'metadata', 'store', 'service_tier', 'safety_identifier', 'prompt_cache_key'];

/** Parameters of OpenAI that no model here has, and the values that ask for nothing. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  best_of: [1],
  echo: [false],
  suffix: [''],
  parallel_tool_calls: [true, false],
};

const KNOWN = [
  'model',
  'stream',
  'stream_options',
  'n',
  'max_tokens',
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'repetition_penalty',
  'presence_penalty',
  'frequency_penalty',
  'logit_bias',
  'logprobs',
  'ignore_eos',
  'stop',
  'seed',
];

/** Maximum number of alternatives in an answer, and of biases in a request. */
const MOST_LOGPROBS = { completions: 5, chat: 20 } as const;
const MOST_BIASES = 1024;

/**
 * Reads OpenAI's parameters. A parameter that would change the text, and cannot be obeyed, is refused.
 *
 * @param own names of what only this kind of request has
 * @throws HttpError 400
 */
export function readParameters(body: unknown, limits: ServerLimits, own: readonly string[], most: number): Parameters {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw refuse('The body must be a JSON object.');
  const given = body as Body;
  for (const [name, value] of Object.entries(given)) {
    if (value === null || own.includes(name) || KNOWN.includes(name) || IGNORED.includes(name)) continue;
    refuseUnlessNeutral(name, value);
  }
  const stream = optional(given, 'stream', isBoolean, 'true or false') ?? false;
  const streamOptions = optional(given, 'stream_options', isObject, 'an object') ?? {};
  const includeUsage = optional(streamOptions, 'include_usage', isBoolean, 'true or false') ?? false;
  const n = optional(given, 'n', isWithin(1, limits.maxSequences), `an integer from 1 to ${limits.maxSequences}`) ?? 1;
  const tokens = isWithin(0, limits.maxTokens);
  const maxTokens =
    optional(
      given,
      own.includes('max_completion_tokens') ? 'max_completion_tokens' : 'max_tokens',
      tokens,
      tokensText(limits),
    ) ??
    optional(given, 'max_tokens', tokens, tokensText(limits)) ??
    Math.min(most, limits.maxTokens);
  return {
    model: optional(given, 'model', isText, 'a text'),
    stream,
    includeUsage,
    n,
    maxTokens,
    sampling: samplingOf(given),
    logprobs: logprobsOf(given, own.includes('messages')),
    ignoresEnd: optional(given, 'ignore_eos', isBoolean, 'true or false') ?? false,
    stop: stopsOf(given.stop),
  };
}

function refuseUnlessNeutral(name: string, value: unknown): void {
  const isEmpty = isObject(value) && Object.keys(value).length === 0; // `logit_bias: {}`, `tools: []`
  const isNeutral = Object.hasOwn(NEUTRAL, name) && NEUTRAL[name]!.includes(value);
  if (isEmpty || isNeutral) return;
  if (name === 'response_format' && isObject(value) && value.type === 'text') return;
  const message = `The parameter '${name.slice(0, 100)}' with this value is not supported by this server. Leave it out.`;
  throw refuse(message, name, 'unsupported_parameter');
}

function samplingOf(given: Body): Parameters['sampling'] {
  const temperature = optional(given, 'temperature', isBetween(0, 2), 'a number from 0 to 2');
  const topP = optional(given, 'top_p', isBetween(0, 1), 'a number from 0 to 1');
  const topK = optional(given, 'top_k', isWithin(1, 2 ** 31), 'an integer of at least 1');
  const minP = optional(given, 'min_p', isBetween(0, 1), 'a number from 0 to 1');
  const repetitionPenalty = optional(given, 'repetition_penalty', isBetween(0.01, 10), 'a number from 0.01 to 10');
  const presencePenalty = optional(given, 'presence_penalty', isBetween(-2, 2), 'a number from -2 to 2');
  const frequencyPenalty = optional(given, 'frequency_penalty', isBetween(-2, 2), 'a number from -2 to 2');
  const logitBias = biasesOf(given);
  const seed = optional(given, 'seed', Number.isSafeInteger as (value: unknown) => value is number, 'an integer');
  return {
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : topP === 0 ? { temperature: 0 } : { topP }),
    ...(topK === undefined ? {} : { topK }),
    ...withoutUndefined({ minP, repetitionPenalty, presencePenalty, frequencyPenalty, logitBias }),
    ...(seed === undefined ? {} : { seed }),
  };
}

/** Biases by token id, as OpenAI has them. */
function biasesOf(given: Body): Record<number, number> | undefined {
  const biases = optional(given, 'logit_bias', isObject, 'an object of numbers by token id');
  const entries = Object.entries(biases ?? {});
  if (entries.length === 0) return undefined;
  const isFine = ([id, bias]: [string, unknown]): boolean => /^\d{1,9}$/.test(id) && isBetween(-100, 100)(bias);
  if (!Array.isArray(biases) && entries.length <= MOST_BIASES && entries.every(isFine))
    return biases as Record<number, number>;
  throw refuse(
    `'logit_bias' must be an object of at most ${MOST_BIASES} numbers from -100 to 100, by token id.`,
    'logit_bias',
  );
}

/** In conversations a flag and a number, elsewhere a number. */
function logprobsOf(given: Body, isChat: boolean): number | undefined {
  if (!isChat) {
    if (given.logprobs === false) return undefined;
    const most = MOST_LOGPROBS.completions;
    return optional(given, 'logprobs', isWithin(0, most), `an integer from 0 to ${most}`);
  }
  const most = MOST_LOGPROBS.chat;
  const top = optional(given, 'top_logprobs', isWithin(0, most), `an integer from 0 to ${most}`);
  const wants = optional(given, 'logprobs', isBoolean, 'true or false') ?? false;
  if (top !== undefined && top > 0 && !wants) throw refuse("'top_logprobs' needs 'logprobs: true'.", 'top_logprobs');
  return wants ? (top ?? 0) : undefined;
}

function stopsOf(stop: unknown): string[] {
  if (stop === undefined || stop === null) return [];
  const stops = Array.isArray(stop) ? (stop as unknown[]) : [stop];
  const isFine = stops.length <= 16 && stops.every((text) => isText(text) && text !== '' && text.length <= 1000);
  if (!isFine) throw refuse("'stop' must be a text or a list of at most 16 texts, none empty.", 'stop');
  return stops as string[];
}

/** A parameter's value; undefined where it is left out or null. */
function optional<T>(given: Body, name: string, is: (value: unknown) => value is T, expected: string): T | undefined {
  const value = given[name];
  if (value === undefined || value === null) return undefined;
  if (is(value)) return value;
  const got =
    typeof value === 'object' ? (Array.isArray(value) ? 'a list' : 'an object') : JSON.stringify(value)!.slice(0, 60);
  throw refuse(`'${name}' must be ${expected}, got ${got}.`, name);
}

function tokensText({ maxTokens }: ServerLimits): string {
  return `an integer from 0 to ${maxTokens}`;
}

const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean';
const isText = (value: unknown): value is string => typeof value === 'string';
const isObject = (value: unknown): value is Body => typeof value === 'object' && value !== null;
const isBetween =
  (least: number, most: number) =>
  (value: unknown): value is number =>
    typeof value === 'number' && value >= least && value <= most;
const isWithin =
  (least: number, most: number) =>
  (value: unknown): value is number =>
    Number.isSafeInteger(value) && isBetween(least, most)(value);

export function refuse(message: string, param?: string, code = 'invalid_value'): HttpError {
  return new HttpError(400, message, param === undefined ? { code } : { code, param });
}
