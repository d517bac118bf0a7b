import { setImmediate as nextTurn } from 'node:timers/promises';
import type { TrainingEngine } from '../compute';
import type { GPTModel } from '../models/gpt-model';
import type { Precision } from '../models/precision';
import type { GradScaler } from '../optim';
import type { Ranks } from './ranks';
import { getRandomStates, type RunData, setRandomStates } from './run-data';

export interface UpdateOptions {
  /** Batches whose gradients are averaged. */
  gradAccumulation: number;
  /** Infinity to compute the norm only. */
  gradClip: number | undefined;
  precision: Precision;
  /** For float16. */
  scaler: GradScaler | null;
  /** Those that make the update together; null for this process alone. */
  ranks: Ranks | null;
  /** The losses are read after the update, which the device itself skips where one is not finite. */
  readsLate: boolean;
  /** An update from one batch is made before anybody judges its loss, unless that is not finite. */
  judgesLate: boolean;
  /** Asked between the batches of one update: true gives the update up. */
  shouldStop: () => boolean;
  /** Says what is wrong with the loss, before the update is made or was skipped; undefined for a good one. */
  judge: (loss: number) => string | undefined;
  /** Called before anything else of this thread runs, so that nobody sees the new weights with the old step. */
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
  engine: TrainingEngine,
  model: GPTModel,
  data: RunData,
  options: UpdateOptions,
): Promise<Outcome | null> {
  const { gradAccumulation: parts, precision, scaler, gradClip, readsLate, ranks } = options;
  // Ranks that stop midway would have to agree on it between any two batches: they make the update whole.
  const shouldStop = ranks === null ? options.shouldStop : () => false;
  const rewind = parts > 1 && ranks === null ? rewinder(model, data) : undefined;
  await engine.beginUpdate();
  let sum = 0;
  const isOne = options.judgesLate && parts === 1;
  for (let i = 0; !isOne && i < parts; i++) {
    if (i > 0) {
      await nextTurn();
      if (shouldStop()) {
        rewind!();
        await engine.dropGradients();
        return null;
      }
    }
    if (ranks !== null && i === parts - 1) {
      sum = await ranks.lastBatch(engine, data.next(), sum, { parts, precision, scaler });
      break;
    }
    const loss = await engine.accumulate(data.next(), { parts, precision, scaler, readsLate });
    if (loss === undefined) continue;
    sum += loss;
    if (ranks === null && !Number.isFinite(loss)) break;
  }
  let [loss, problem] = readsLate || isOne ? [NaN, undefined] : judged(sum);
  if (problem !== undefined) return { loss, problem };
  const only = isOne ? { batch: data.next(), precision } : undefined;
  const { gradNorm } = await engine.apply({ gradClip, scaler }, only, (made) => {
    if (made.loss !== undefined) [loss, problem] = judged(made.loss);
    if (problem === undefined) options.onUpdated(loss);
  });
  return problem === undefined ? { loss, gradNorm } : { loss, problem };

  function judged(total: number): [loss: number, problem: string | undefined] {
    const mean = Number.isFinite(total) ? total / parts : total;
    return [mean, options.judge(mean)];
  }
}

function rewinder(model: GPTModel, data: RunData): () => void {
  const position = data.getPosition();
  const random = getRandomStates(model.device);
  return () => {
    data.setPosition(position);
    setRandomStates(random, model.device);
  };
}
