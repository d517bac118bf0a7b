import { setImmediate as nextTurn } from 'node:timers/promises';
import { RandomWindows, type TokenStream, type Tokens } from '../data';
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

/** Mean losses of both parts of the data; null where a part is shorter than one window. Training's numbers are not drawn from. */
export async function evaluate(
  model: GPTModel,
  data: TokenStream,
  options: EvaluationOptions,
): Promise<{ trainLoss: number; valLoss: number | null }> {
  const trainLoss = await meanLoss(model, data.train, options);
  const fits = data.validation.length > model.config.blockSize;
  return { trainLoss, valLoss: fits ? await meanLoss(model, data.validation, options) : null };
}

async function meanLoss(
  model: GPTModel,
  tokens: Tokens,
  { steps, batchSize, seed, precision }: EvaluationOptions,
): Promise<number> {
  const generator = new Generator().manualSeed(seed);
  const { blockSize } = model.config;
  const windows = new RandomWindows(tokens, { batchSize, blockSize, generator, device: model.device });
  const evaluating = evaluation(model);
  let sum = 0;
  for (let i = 0; i < steps; i++) {
    sum += evaluating(() => inferenceMode(() => tidy(() => Number(lossOf(model, windows.next(), precision).item()))));
    await nextTurn();
  }
  return sum / steps;
}
