import { setImmediate as nextTurn } from 'node:timers/promises';
import type { GPTModel } from '../models/gpt-model';
import { type AnyOptimizer, clipGradNorm_, type GradScaler } from '../optim';
import { tidy } from '../tensor/scope';
import { lossOf, type Precision } from './precision';
import { getRandomStates, type RunData, setRandomStates } from './run-data';

export interface UpdateOptions {
  /** Batches whose gradients are averaged. */
  gradAccumulation: number;
  /** Infinity to compute the norm only. */
  gradClip: number | undefined;
  precision: Precision;
  /** For float16. */
  scaler: GradScaler | null;
  /** Asked between the batches of one update: true gives the update up. */
  shouldStop: () => boolean;
  /** Says what is wrong with the loss before the update is made; undefined for a good one. */
  judge: (loss: number) => string | undefined;
  /** Called in the same turn as the update, so that nobody sees the new weights with the old step. */
  onUpdated: (loss: number) => void;
}

/** An update that was made, or the reason why not. */
export type Outcome = Updated | { loss: number; problem: string };

interface Updated {
  loss: number;
  /** Before clipping; null where gradients are not clipped. */
  gradNorm: number | null;
  problem?: undefined;
}

/**
 * One update of the weights from the batches that come next.
 *
 * An update that is given up midway leaves everything as it was before it, random numbers and position in the data
 * included, so that a resumed run makes it whole. So does one with a bad loss, but for the position.
 *
 * @returns null where it was given up
 */
export async function update(
  model: GPTModel,
  optimizer: AnyOptimizer,
  data: RunData,
  options: UpdateOptions,
): Promise<Outcome | null> {
  const { gradAccumulation, shouldStop } = options;
  const rewind = gradAccumulation > 1 ? rewinder(model, data) : undefined;
  optimizer.zeroGrad();
  let sum = 0;
  for (let i = 0; i < gradAccumulation; i++) {
    if (i > 0) {
      await nextTurn();
      if (shouldStop()) {
        rewind!();
        optimizer.zeroGrad();
        return null;
      }
    }
    const loss = tidy(() => accumulate(model, data, options));
    sum += loss;
    if (!Number.isFinite(loss)) break;
  }
  const loss = Number.isFinite(sum) ? sum / gradAccumulation : sum;
  const problem = options.judge(loss);
  if (problem !== undefined) return { loss, problem };
  const gradNorm = applyGradients(model, optimizer, options);
  options.onUpdated(loss);
  return { loss, gradNorm };
}

/** Clips and makes the update; the norm before, where it is wanted. */
function applyGradients(model: GPTModel, optimizer: AnyOptimizer, { gradClip, scaler }: UpdateOptions): number | null {
  scaler?.unscale_(optimizer);
  const gradNorm =
    gradClip === undefined ? null : tidy(() => Number(clipGradNorm_(model.parameters(), gradClip).item()));
  if (scaler === null) optimizer.step();
  else {
    scaler.step(optimizer);
    scaler.update();
  }
  return gradNorm;
}

/** Adds the gradients of the next batch, and gives its loss; a loss that is no number adds none. */
function accumulate(model: GPTModel, data: RunData, { gradAccumulation, precision, scaler }: UpdateOptions): number {
  const loss = lossOf(model, data.next(), precision);
  const value = Number(loss.item());
  if (!Number.isFinite(value)) return value;
  const part = gradAccumulation === 1 ? loss : loss.div(gradAccumulation);
  (scaler === null ? part : scaler.scale(part)).backward();
  return value;
}

function rewinder(model: GPTModel, data: RunData): () => void {
  const position = data.getPosition();
  const random = getRandomStates(model.device);
  return () => {
    data.setPosition(position);
    setRandomStates(random, model.device);
  };
}
