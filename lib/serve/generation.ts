import type { GPT } from '../gpt';
import { decodeStream, type FinishReason, type GenerateOptions } from '../models/generate';
import { StopText } from '../models/stop-text';

/** How a sequence ended. */
export interface Ending {
  tokens: number;
  finishReason: FinishReason;
}

/** Generates text after the tokens of a prompt, in pieces that never end within a character. */
export async function* generatePieces(
  gpt: GPT,
  prompt: ArrayLike<number>,
  { stop, ...options }: Omit<GenerateOptions, 'stop'> & { stop: readonly string[] },
): AsyncGenerator<string, Ending, undefined> {
  const tokens = gpt.generateTokens(prompt, options);
  const ends = { text: new StopText(stop), tokens: new Set<number>(), endId: undefined };
  const { usage, finishReason } = yield* decodeStream(
    () => ({ tokens, ids: prompt, seen: prompt }),
    gpt.tokenizer!,
    ends,
  );
  return { tokens: usage.completionTokens, finishReason };
}
