import { setImmediate as nextTurn } from 'node:timers/promises';
import { RandomWindows, type Tokens } from '../data';
import type { GPTModel } from '../models/gpt';
import { evaluation } from '../models/mode';
import { inferenceMode } from '../tensor/autograd';
import { Generator } from '../tensor/random';
import { tidy } from '../tensor/scope';
import { lossOf, type Precision } from './precision';

export interface EvaluationOptions {
  /** Batches of each part. */
  steps: number;
  batchSize: number;
  precision: Precision;
  /** Of the windows' places: the same seed compares the same windows. */
  seed: number;
}

/**
 * Mean loss of windows of tokens, always the same ones; null where there are not tokens enough for one. Training's numbers
 * are not drawn from.
 */
export async function evaluate(model: GPTModel, tokens: Tokens, options: EvaluationOptions): Promise<number | null> {
  return tokens.length > model.config.blockSize ? meanLoss(model, tokens, options) : null;
}

async function meanLoss(
  model: GPTModel,
  tokens: Tokens,
  { steps, batchSize, seed, precision }: EvaluationOptions,
): Promise<number> {
  const generator = new Generator().manualSeed(seed);
  const { blockSize, vocabSize } = model.config;
  const windows = new RandomWindows(tokens, { batchSize, blockSize, generator, device: model.device, vocabSize });
  const evaluating = evaluation(model);
  let sum = 0;
  for (let i = 0; i < steps; i++) {
    sum += evaluating(() => inferenceMode(() => tidy(() => Number(lossOf(model, windows.next(), precision).item()))));
    await nextTurn();
  }
  return sum / steps;
}
