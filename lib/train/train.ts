import { reportToTorchrun } from '../distributed/failure';
import { TorchBindError } from '../errors';
import type { GPTModel } from '../models/gpt-model';
import { rememberModes } from '../models/mode';
import type { TrainEvent } from './events';
import { MetricsLog } from './metrics/log';
import { completeOptions, type FitOptions, type Settings, withEncodedText, writesMetrics } from './options';
import { Ranks } from './ranks';
import { drawSeed } from './run-data';
import type { RunState } from './run-state';
import type { Bundles } from './saves';
import { type FitResult, Trainer } from './trainer';

const training = new WeakSet<GPTModel>();

/**
 * Trains a model, and gives each event as it happens; the generator's return value is the result. Leaving the loop ends
 * training after the update.
 *
 * Between updates the event loop turns, so that servers answer and signals arrive. A stop leaves model and optimizer as
 * they were after the last whole update, and the model in the mode that it was in before.
 *
 * @param before the state of the run that this call resumes; undefined for a new one
 * @throws ERR_TORCHBIND_NONFINITE_LOSS where the loss is not a number; the update with it is not made
 */
export async function* train(
  model: GPTModel,
  options: FitOptions,
  bundles: Bundles,
  before: RunState | undefined,
): AsyncGenerator<TrainEvent, FitResult> {
  const settings = completeOptions(model, await withEncodedText(model, options));
  if (training.has(model)) {
    throw new TorchBindError('fit: the model is already being trained. Await the first fit().', 'ERR_TORCHBIND_BUSY');
  }
  training.add(model);
  const ranks = await Ranks.join().catch((error: unknown) => {
    training.delete(model);
    throw error;
  });
  const restoreModes = rememberModes(model.modules());
  model.activationCheckpointing = settings.activationCheckpointing ?? false;
  model.chunkedLoss = settings.chunkedLoss ?? false;
  const { checkpointDir } = settings;
  let trainer: Trainer | undefined;
  let unlock: (() => void) | undefined;
  try {
    // First, as it refuses options: the directory is not made for a run that cannot begin.
    const seed = ranks === null ? undefined : await agreedSeed(ranks, model, settings, before);
    trainer = new Trainer(model, settings, options, bundles, before, ranks, seed);
    if (checkpointDir !== undefined && (ranks?.leads ?? true)) unlock = await bundles.lock(checkpointDir);
    return yield* ranks?.leads === false ? trainer.run() : logged(trainer.run(), settings);
  } catch (error) {
    if (ranks !== null) reportToTorchrun(error);
    throw error;
  } finally {
    await trainer?.close();
    unlock?.();
    training.delete(model);
    model.zeroGrad();
    model.activationCheckpointing = false;
    model.chunkedLoss = false;
    restoreModes();
  }
}

/** Makes sure that all ranks begin the same run, and gives them one seed. */
async function agreedSeed(
  ranks: Ranks,
  model: GPTModel,
  settings: Settings,
  before: RunState | undefined,
): Promise<number> {
  const { startStep: step, maxSteps, batchSize, gradAccumulation, evalInterval, saveEvery = 0, seed = null } = settings;
  const sizes = { maxSteps, batchSize, gradAccumulation, evalInterval, saveEvery };
  await ranks.check({ step, ...sizes, seed, resumes: before !== undefined, parameters: model.numParameters() });
  return seed ?? (await ranks.same(before?.seed ?? drawSeed()));
}

/** Passes events on, and writes them down if there is a directory for that. */
async function* logged(
  events: AsyncGenerator<TrainEvent, FitResult>,
  settings: Settings,
): AsyncGenerator<TrainEvent, FitResult> {
  if (!writesMetrics(settings)) return yield* events;
  let log = MetricsLog.open(settings.checkpointDir!, settings.startStep);
  try {
    for (;;) {
      const { done, value } = await events.next();
      if (done === true) return value;
      if (log?.take(value) === false) log = null;
      yield value;
    }
  } finally {
    await events.return(undefined as never);
    log?.close();
  }
}
