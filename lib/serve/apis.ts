import { TorchBindError } from '../errors';
import type { GPT } from '../gpt';
import type { TokenLogprobs } from '../generation/decoder';
import type { ChatMessage, Tokenizer } from '../tokenizers';
import { HttpError } from './http-error';
import { chatLogprobs, completionLogprobs } from './logprobs';
import { refuse } from './parameters';

/** A text, or token ids. */
export type Prompt = string | readonly number[];

/** What an answer is about. */
export interface Answer {
  id: string;
  created: number;
  model: string;
  system_fingerprint: string;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/** A whole text. */
export interface Whole {
  text: string;
  finishReason: string;
  logprobs: object | null;
}

/** One of OpenAI's two APIs for text: how it reads requests and forms responses. */
export interface Api {
  readonly idPrefix: string;
  /** Parameters that only this API has. */
  readonly parameters: readonly string[];
  /** Tokens to generate if the request does not say. */
  readonly defaultTokens: number;
  /** One function for each prompt. It is called once the model is known, because a chat template needs the model's tokenizer. */
  prompts(body: Readonly<Record<string, unknown>>): ((gpt: GPT) => Prompt)[];
  /** The whole answer. */
  whole(answer: Answer, texts: readonly Whole[], usage: Usage): object;
  /** Log-probabilities of tokens. The first token begins at `offset` in the text. */
  logprobs(tokenizer: Tokenizer, tokens: readonly TokenLogprobs[], offset: number): object;
  /** What a stream begins with, for each sequence. */
  opening(index: number): object | undefined;
  piece(index: number, text: string, logprobs: object | null): object;
  closing(index: number, finishReason: string): object;
  readonly chunkObject: string;
}

/** Prompts in one request at most. */
const MOST_PROMPTS = 64;
const MOST_MESSAGES = 1000;

/** `/v1/completions` */
export const completions: Api = {
  idPrefix: 'cmpl-',
  parameters: ['prompt'],
  defaultTokens: 16,
  chunkObject: 'text_completion',
  prompts: ({ prompt = '' }) => listOfPrompts(prompt).map((one) => () => one),
  whole: (answer, texts, usage) => ({
    ...answer,
    object: 'text_completion',
    choices: texts.map(({ text, finishReason, logprobs }, index) => choice(index, text, finishReason, logprobs)),
    usage,
  }),
  opening: () => undefined,
  piece: (index, text, logprobs) => choice(index, text, null, logprobs),
  logprobs: completionLogprobs,
  closing: (index, finishReason) => choice(index, '', finishReason),
};

function choice(index: number, text: string, finishReason: string | null, logprobs: object | null = null): object {
  return { index, text, logprobs, finish_reason: finishReason };
}

function listOfPrompts(prompt: unknown): Prompt[] {
  const isTokens = (value: unknown): value is number[] => Array.isArray(value) && value.every(Number.isInteger);
  const isPrompt = (value: unknown): value is Prompt =>
    typeof value === 'string' || (isTokens(value) && value.length > 0);
  if (prompt === null) return [''];
  if (isPrompt(prompt)) return [prompt];
  if (Array.isArray(prompt) && prompt.length > 0 && prompt.length <= MOST_PROMPTS && prompt.every(isPrompt))
    return prompt;
  const message = `'prompt' must be a text, token ids, or a list of at most ${MOST_PROMPTS} of these, none empty.`;
  throw refuse(message, 'prompt');
}

/** `/v1/chat/completions` */
export const chat: Api = {
  idPrefix: 'chatcmpl-',
  parameters: ['messages', 'max_completion_tokens', 'top_logprobs'],
  defaultTokens: Infinity,
  chunkObject: 'chat.completion.chunk',
  prompts: ({ messages }) => {
    const read = messagesOf(messages);
    return [(gpt) => applyTemplate(gpt, read)];
  },
  whole: (answer, texts, usage) => ({
    ...answer,
    object: 'chat.completion',
    choices: texts.map(({ text, finishReason, logprobs }, index) => ({
      index,
      message: { role: 'assistant', content: text, refusal: null },
      logprobs,
      finish_reason: finishReason,
    })),
    usage,
  }),
  opening: (index) => delta(index, { role: 'assistant', content: '' }, null),
  piece: (index, text, logprobs) => delta(index, { content: text }, null, logprobs),
  logprobs: chatLogprobs,
  closing: (index, finishReason) => delta(index, {}, finishReason),
};

function delta(index: number, change: object, finishReason: string | null, logprobs: object | null = null): object {
  return { index, delta: change, logprobs, finish_reason: finishReason };
}

function messagesOf(messages: unknown): ChatMessage[] {
  if (!Array.isArray(messages) || messages.length === 0 || messages.length > MOST_MESSAGES)
    throw refuse(`'messages' must be a list of 1 to ${MOST_MESSAGES} messages.`, 'messages');
  return messages.map((message: unknown, i) => {
    const { role, content } = (message ?? {}) as Record<string, unknown>;
    const text = textOf(content);
    if (typeof role === 'string' && text !== undefined) return { role, content: text };
    throw refuse(`'messages[${i}]' must have a 'role' and a 'content' of text.`, 'messages');
  });
}

/** The text of a message: a text, or parts that are texts. */
function textOf(content: unknown): string | undefined {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return undefined;
  const texts = content.map((part: unknown) => (part as { text?: unknown } | null)?.text);
  return texts.every((text) => typeof text === 'string') ? texts.join('') : undefined;
}

function applyTemplate({ tokenizer }: GPT, messages: ChatMessage[]): string {
  try {
    const text = tokenizer?.applyChatTemplate?.(messages, { addGenerationPrompt: true });
    if (text !== undefined) return text;
  } catch (error) {
    if (!(error instanceof TorchBindError)) throw error;
    if (tokenizer?.chatTemplate === undefined) throw noTemplate();
    throw refuse(error.message, 'messages');
  }
  throw noTemplate();
}

function noTemplate(): HttpError {
  const message = 'This model has no chat template. Use /v1/completions, or a model that was trained on conversations.';
  return new HttpError(400, message, { code: 'no_chat_template', param: 'model' });
}
