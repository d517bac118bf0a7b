import { setImmediate as nextTurn } from 'node:timers/promises';
import type { TrainingEngine } from '../compute';
import { RandomWindows, type Tokens } from '../data';
import type { GPTModel } from '../models/gpt-model';
import type { Precision } from '../models/precision';
import { Generator } from '../tensor/random';

export interface EvaluationOptions {
  /** Batches of each part. */
  steps: number;
  batchSize: number;
  precision: Precision;
  /** Of the windows' places: the same seed compares the same windows. */
  seed: number;
  /** Asked between batches: true gives the evaluation up. */
  shouldStop: () => boolean;
}

/**
 * Mean loss of windows of tokens, always the same ones; null where there are not tokens enough for one, undefined where it was
 * given up. Training's numbers are not drawn from.
 */
export async function evaluate(
  engine: TrainingEngine,
  model: GPTModel,
  tokens: Tokens,
  options: EvaluationOptions,
): Promise<number | null | undefined> {
  return tokens.length > model.config.blockSize ? meanLoss(engine, model, tokens, options) : null;
}

async function meanLoss(
  engine: TrainingEngine,
  model: GPTModel,
  tokens: Tokens,
  { steps, batchSize, seed, precision, shouldStop }: EvaluationOptions,
): Promise<number | undefined> {
  const generator = new Generator().manualSeed(seed);
  const { blockSize, vocabSize } = model.config;
  const windows = new RandomWindows(tokens, { batchSize, blockSize, generator, device: model.device, vocabSize });
  await engine.prepare();
  let sum = 0;
  for (let i = 0; i < steps; i++) {
    sum += await engine.loss(windows.next(), precision);
    await nextTurn();
    if (shouldStop()) return undefined;
  }
  return sum / steps;
}
