import type { GPT } from '../gpt';
import { StopText } from '../models/stop-text';
import type { GenerateOptions } from '../models/generate';

/** How a sequence ended. */
export interface Ending {
  tokens: number;
  finishReason: 'stop' | 'length';
}

/** Generates text after a prompt, in pieces that never end within a character. */
export async function* generatePieces(
  gpt: GPT,
  prompt: ArrayLike<number>,
  { stop, ...options }: Omit<GenerateOptions, 'stop'> & { stop: readonly string[] },
): AsyncGenerator<string, Ending, undefined> {
  const decoder = gpt.tokenizer!.decoder(prompt);
  const stopText = new StopText(stop);
  let tokens = 0;
  for await (const token of gpt.generateTokens(prompt, options)) {
    tokens++;
    const text = stopText.push(decoder.push(token));
    if (text !== '') yield text;
    if (stopText.done) return { tokens, finishReason: 'stop' };
  }
  const rest = stopText.push(decoder.end()) + stopText.end();
  if (rest !== '') yield rest;
  return { tokens, finishReason: stopText.done ? 'stop' : 'length' };
}
