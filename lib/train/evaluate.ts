import { setImmediate as nextTurn } from 'node:timers/promises';
import type { TrainingEngine } from '../compute';
import { RandomWindows, type Tokens } from '../data';
import type { GPTModel } from '../models/gpt-model';
import type { Precision } from '../models/precision';
import { Generator } from '../tensor/random';
import type { Ranks } from './ranks';

export interface EvaluationOptions {
  /** Batches of each part. */
  steps: number;
  batchSize: number;
  precision: Precision;
  /** Of the windows' places: the same seed compares the same windows. */
  seed: number;
  /** Each evaluates its part of every batch; null for this process alone. */
  ranks: Ranks | null;
  /** Asked between batches: true gives the evaluation up. */
  shouldStop: () => boolean | Promise<boolean>;
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
  { steps, batchSize: own, seed, precision, ranks, shouldStop }: EvaluationOptions,
): Promise<number | undefined> {
  const generator = new Generator().manualSeed(seed);
  const { blockSize, vocabSize } = model.config;
  const batchSize = own * (ranks?.size ?? 1);
  const windows = new RandomWindows(tokens, { batchSize, blockSize, generator, device: model.device, vocabSize });
  await engine.prepare();
  let sum = 0;
  for (let i = 0; i < steps; i++) {
    const batch = windows.next();
    sum += await engine.loss(ranks?.slice(batch) ?? batch, precision);
    await nextTurn();
    if (await shouldStop()) return undefined;
  }
  const mean = sum / steps;
  return ranks === null ? mean : ranks.mean(mean);
}
