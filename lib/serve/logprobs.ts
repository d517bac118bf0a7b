import type { TokenLogprobs } from '../generation/decoder';
import type { Tokenizer } from '../tokenizers';

/** Log-probabilities as OpenAI's answers have them. */

/** Of `/v1/completions`: lists, one entry a token. */
export interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
  /** Where each token begins in the text. */
  text_offset: number[];
}

/** @param offset where the first token begins */
export function completionLogprobs(
  tokenizer: Tokenizer,
  tokens: readonly TokenLogprobs[],
  offset: number,
): CompletionLogprobs {
  const textOf = (id: number): string => tokenizer.decode([id]);
  let end = offset;
  return {
    tokens: tokens.map(({ token }) => textOf(token)),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ top }) =>
      // The likeliest wins where several tokens have the same text.
      Object.fromEntries([...top].reverse().map(({ token, logprob }) => [textOf(token), logprob])),
    ),
    text_offset: tokens.map(({ token }) => {
      const begin = end;
      end += textOf(token).length;
      return begin;
    }),
  };
}

/** Of `/v1/chat/completions`. */
export function chatLogprobs(tokenizer: Tokenizer, tokens: readonly TokenLogprobs[]): object {
  const entry = ({ token, logprob }: { token: number; logprob: number }): object => {
    const text = tokenizer.decode([token]);
    // A token may be a part of a character: its bytes are not in its text then.
    return { token: text, logprob, bytes: text.includes('\uFFFD') ? null : [...Buffer.from(text)] };
  };
  return { content: tokens.map((each) => ({ ...entry(each), top_logprobs: each.top.map(entry) })), refusal: null };
}
