import type { GPT } from '../gpt';
import type { TokenLogprobs } from '../generation/decoder';
import { decodeStream, type FinishReason, type GenerateOptions } from '../generation/generate';
import { StopText } from '../generation/stop-text';

/** How a sequence ended. */
export interface Ending {
  tokens: number;
  finishReason: FinishReason;
}

/** Text, and the log-probabilities of its tokens where these were asked for. */
export interface Piece {
  text: string;
  logprobs: TokenLogprobs[];
}

/** Generates text after the tokens of a prompt, in pieces that never end within a character. */
export async function* generatePieces(
  gpt: GPT,
  prompt: ArrayLike<number>,
  { stop, ...options }: Omit<GenerateOptions, 'stop'> & { stop: readonly string[] },
): AsyncGenerator<Piece, Ending, undefined> {
  const waiting: TokenLogprobs[] = [];
  const stopTokens = new Set(options.stopTokens);
  const onToken = (token: number, logprobs?: TokenLogprobs): void => {
    if (logprobs !== undefined && !stopTokens.has(token)) waiting.push(logprobs);
  };
  const tokens = gpt.readTokens(prompt, options, onToken);
  const ends = { text: new StopText(stop), tokens: stopTokens, endIds: [] };
  const stream = decodeStream(() => ({ tokens, ids: prompt, seen: prompt }), gpt.tokenizer!, ends);
  try {
    for (;;) {
      const { value, done } = await stream.next();
      if (done !== true) yield { text: value, logprobs: waiting.splice(0) };
      else {
        const { usage, finishReason } = value;
        if (waiting.length > 0 && finishReason === 'length') yield { text: '', logprobs: waiting };
        return { tokens: usage.completionTokens, finishReason };
      }
    }
  } finally {
    await stream.return(undefined as never);
  }
}
