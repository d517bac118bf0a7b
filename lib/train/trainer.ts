import { setImmediate as nextTurn } from 'node:timers/promises';
import { atWholeUpdate, canReadLate, TrainingEngine } from '../compute';
import { TorchBindError } from '../errors';
import type { GPTModel } from '../models/gpt-model';
import { TextStream, TokenStream } from '../data';
import { type AnyOptimizer, GradScaler } from '../optim';
import { applySchedule, baseLearningRate, type Schedule, setBaseLearningRate } from '../optim/schedulers';
import { manualSeed } from '../tensor/random';
import { evaluate } from './evaluate';
import type { EvalEvent, TrainEvent } from './events';
import { badLoss, LossGuard } from './guard';
import { BackgroundSaves, type Bundles, type RestoredRun } from './saves';
import { type FitOptions, scheduleOf, type Settings, writesMetrics } from './options';
import { noProgress, type Progress, showProgress } from './progress';
import {
  drawSeed,
  getRandomStates,
  isPositionOf,
  makeRunData,
  type RunData,
  setRandomStates,
  slicedData,
} from './run-data';
import { kernelsOn, type RunState } from './run-state';
import { optimizerFor } from './optimizer';
import { listenForSignals, noSignals, type TrainingSignals } from './signals';
import { randomStatesOf, type Ranks, type Wishes } from './ranks';
import { update } from './update';

/** What `fit` gives. */
export interface FitResult {
  /** Updates made, those before this call included: what a resumed run starts with. */
  step: number;
  /** The loss of each update of this call, in nats. */
  losses: number[];
  /** Losses of the last evaluation; null where there was none, or no validation part that holds a window. */
  trainLoss: number | null;
  valLoss: number | null;
  /** The lowest validation loss of the whole run, and its step. */
  best: { valLoss: number; step: number } | null;
  /**
   * `done` after maxSteps updates; `patience` after evaluations without gain; `data` where a stream came to its end; `aborted`
   * by the signal option; or the name of a signal.
   */
  stopped: 'done' | 'patience' | 'data' | 'aborted' | 'SIGINT' | 'SIGTERM';
  /** Holds the moments that further training needs. */
  optimizer: AnyOptimizer;
}

/** One run: `run` gives its events. */
export class Trainer {
  private readonly optimizer: AnyOptimizer;
  private readonly engine: TrainingEngine;
  private readonly schedule: Schedule | null;
  private readonly data: RunData;
  private readonly progress: Progress;
  private readonly signals: TrainingSignals;
  private readonly guard: LossGuard;
  private readonly scaler: GradScaler | null;
  private readonly saves = new BackgroundSaves();
  private readonly losses: number[] = [];
  private readonly missing: string[] = [];
  private counters: Omit<RunState, 'data' | 'random' | 'scaler' | 'cpuKernels'>;
  private lastEvaluation: EvalEvent | undefined;
  private savedStep: number | undefined;
  private dataEnded = false;
  /** What all ranks said last. */
  private agreed: Wishes | undefined;
  private rollbacks = 0;
  /** Updates made, those before this call included. */
  private step: number;

  constructor(
    private readonly model: GPTModel,
    private readonly settings: Settings,
    options: FitOptions,
    private readonly bundles: Bundles,
    before: RunState | undefined,
    private readonly ranks: Ranks | null,
    agreedSeed: number | undefined,
  ) {
    const { startStep, maxSteps } = settings;
    this.step = startStep;
    const continued = before !== undefined && (settings.seed === undefined || settings.seed === before.seed);
    const seed = continued ? before.seed : (agreedSeed ?? settings.seed ?? drawSeed());
    this.counters = before ?? { seed, scheduleStart: 0, tokensSeen: 0, best: null, evaluationsSinceBest: 0 };
    this.counters = { ...this.counters, seed };
    const data = makeRunData(settings.data, settings.dataOrder, this.dataOptions(seed), model.tokenizer);
    this.data = ranks === null ? data : slicedData(data, (batch) => ranks.slice(batch));
    this.scaler = settings.precision === 'float16' ? new GradScaler() : null;
    if (continued) this.resume(before);
    else if (ranks !== null) manualSeed(seed + ranks.rank);
    else if (settings.seed !== undefined) manualSeed(settings.seed);
    if (before === undefined && startStep > 0) this.missing.push('random numbers', 'position in the data');
    this.optimizer = optimizerFor(model, settings);
    this.engine = new TrainingEngine(model, this.optimizer, settings.thread ?? 'worker', ranks !== null);
    this.setRates(before !== undefined || startStep > 0);
    const rate = baseLearningRate(this.optimizer.paramGroups[0]!);
    this.schedule = scheduleOf(options, rate, startStep + maxSteps - this.counters.scheduleStart);
    this.guard = new LossGuard(settings.guard?.spikeFactor);
    this.signals =
      settings.handleSignals === true ? listenForSignals((signal) => this.progress.stopping(signal)) : noSignals;
    const shows = settings.progressBar === true && (ranks?.leads ?? true);
    this.progress = shows ? showProgress(startStep, maxSteps) : noProgress;
  }

  private dataOptions(seed: number): Parameters<typeof makeRunData>[2] {
    return {
      batchSize: this.settings.batchSize * (this.ranks?.size ?? 1),
      blockSize: this.model.config.blockSize,
      seed,
      device: this.model.device,
      vocabSize: this.model.config.vocabSize,
    };
  }

  private resume(before: RunState): void {
    const size = this.ranks?.size ?? 1;
    const { states, ranks } = randomStatesOf(before.random, this.ranks?.rank ?? 0);
    setRandomStates(states, this.model.device);
    if (ranks !== size) this.missing.push(`random numbers of each rank, as ${ranks} saved them and now ${size} train`);
    if (before.scaler !== null) this.scaler?.setState(before.scaler);
    if (isPositionOf(this.data, before.data)) this.data.setPosition(before.data);
    else this.missing.push('position in the data, which is not the data of the run before');
    const [then, now] = [before.cpuKernels, kernelsOn(this.model.device)];
    if (then === null || now === null || then === now) return;
    this.missing.push(
      `CPU kernels of the run before: they were '${then}' (TORCHBIND_CPU_KERNELS), now they are '${now}'`,
    );
  }

  private setRates(isResumed: boolean): void {
    const { learningRate, resumeLearningRate: rule } = this.settings;
    const rate = isResumed && rule !== undefined ? (rule === 'restart' ? learningRate : rule) : learningRate;
    if (isResumed && rule === 'restart') this.counters.scheduleStart = this.step;
    if (typeof rate !== 'number') return;
    for (const group of this.optimizer.paramGroups) setBaseLearningRate(group, rate);
  }

  async *run(): AsyncGenerator<TrainEvent, FitResult> {
    const { startStep, maxSteps, saveEvery, checkpointDir } = this.settings;
    const end = startStep + maxSteps;
    this.model.train();
    await this.ranks?.prepare(this.engine, this.model);
    this.publishState();
    if (startStep > 0) yield { type: 'resume', step: startStep, missing: this.missing };
    // A stream has no losses to speak of before the first update.
    const canEvaluate = this.settings.data instanceof TokenStream;
    if (canEvaluate && this.isDue(this.settings.evalInterval) && !this.stopReason(end)) yield* this.evaluate();
    let stopped: FitResult['stopped'] | undefined;
    while ((stopped = await this.agreedStop(end)) === undefined) {
      if (!(yield* this.makeUpdate())) continue;
      if (this.isDue(this.settings.evalInterval)) yield* this.evaluate();
      if (this.isSaveRequested() || this.isDue(saveEvery ?? 0)) yield* this.save();
      yield* this.reportSave();
      await nextTurn();
    }
    const isWhole = stopped === 'done' || stopped === 'data';
    if (
      isWhole &&
      this.settings.evalInterval > 0 &&
      this.lastEvaluation?.step !== this.step &&
      (canEvaluate || this.losses.length > 0)
    ) {
      yield* this.evaluate();
    }
    if (checkpointDir !== undefined && this.savedStep !== this.step) yield* this.save();
    await this.saves.settle();
    yield* this.reportSave();
    await this.agree();
    return this.result(stopped);
  }

  private isDue(interval: number): boolean {
    return interval > 0 && this.step % interval === 0;
  }

  private stopReason(end: number): FitResult['stopped'] | undefined {
    const { signal, patience } = this.settings;
    if (this.ranks !== null && this.agreed?.stop !== undefined) return this.agreed.stop;
    if (this.ranks === null && signal?.aborted === true) return 'aborted';
    if (this.ranks === null && this.signals.stop !== undefined) return this.signals.stop;
    if (patience !== undefined && this.counters.evaluationsSinceBest >= patience) return 'patience';
    if (this.step >= end) return 'done';
    return this.dataEnded ? 'data' : undefined;
  }

  /** The reason to stop that all ranks have, or that one of them has. */
  private async agreedStop(end: number): Promise<FitResult['stopped'] | undefined> {
    await this.agree();
    return this.stopReason(end);
  }

  /** Makes what this rank is told, by signals for instance, known to all. */
  private async agree(): Promise<void> {
    const { ranks, settings, signals } = this;
    if (ranks === null) return;
    const stop = settings.signal?.aborted === true ? ('aborted' as const) : signals.stop;
    const failed = this.failsOnSave();
    const own = { stop, save: signals.takeSaveRequest(), dataEnded: this.dataEnded, failed };
    this.agreed = await ranks.agree(own);
    this.dataEnded = this.agreed.dataEnded;
    if (!this.agreed.failed) return;
    throw this.saves.failure ?? new TorchBindError('fit: rank 0 could not save, so all stop.', 'ERR_TORCHBIND_SAVE');
  }

  private failsOnSave(): boolean {
    return this.settings.onSaveError !== 'continue' && this.saves.failure !== undefined;
  }

  private isSaveRequested(): boolean {
    return this.ranks === null ? this.signals.takeSaveRequest() : this.agreed!.save;
  }

  private shouldStop(): boolean {
    return this.settings.signal?.aborted === true || this.signals.stop !== undefined;
  }

  private setLearningRates(): void {
    const { paramGroups } = this.optimizer;
    if (this.schedule !== null) applySchedule(paramGroups, this.schedule, this.step - this.counters.scheduleStart);
    else for (const group of paramGroups) group.lr = baseLearningRate(group);
  }

  /** Makes one update, or rolls back to the last bundle; false if it made no update to report. */
  private async *makeUpdate(): AsyncGenerator<TrainEvent, boolean> {
    const { gradAccumulation, batchSize } = this.settings;
    const tokens = gradAccumulation * batchSize * (this.ranks?.size ?? 1) * this.model.config.blockSize;
    const began = performance.now();
    if ((await this.data.fill?.(gradAccumulation)) === false) this.dataEnded = true;
    if (this.settings.data instanceof TextStream) await this.agree();
    if (this.dataEnded) return false;
    this.setLearningRates();
    // Whoever saves while the update is made saves the weights, random numbers and position before it.
    this.publishState(this.state());
    const updated = await update(this.engine, this.model, this.data, {
      gradAccumulation,
      gradClip: this.settings.gradClip ?? (writesMetrics(this.settings) ? Infinity : undefined),
      precision: this.settings.precision,
      scaler: this.scaler,
      readsLate: this.model.device !== 'cpu' && this.judgesLate() && canReadLate(this.optimizer),
      judgesLate: this.model.device === 'cpu' && this.judgesLate(),
      ranks: this.ranks,
      shouldStop: () => this.shouldStop(),
      judge: (loss) => this.guard.judge(loss),
      onUpdated: (loss) => this.countUpdate(loss, tokens),
    });
    if (updated === null) return false;
    const { loss, problem } = updated;
    if (problem !== undefined) {
      yield* this.goBack(problem, loss);
      return false;
    }
    const event = {
      step: this.step,
      loss,
      gradNorm: updated.gradNorm,
      learningRate: this.optimizer.paramGroups[0]!.lr,
      tokensPerSecond: (1000 * tokens) / (performance.now() - began),
      tokensSeen: this.counters.tokensSeen,
    };
    this.progress.step(event);
    await this.settings.onStep?.(event);
    yield { type: 'step', ...event };
    return true;
  }

  /** Whether only a loss that is not finite is a bad one, so that the update need not wait until the loss is judged. */
  private judgesLate(): boolean {
    return this.ranks === null && this.scaler === null && this.settings.guard?.spikeFactor === undefined;
  }

  /** In the same turn as the update, so that weights, step and the state of the run always belong together. */
  private countUpdate(loss: number, tokens: number): void {
    this.step++;
    this.losses.push(loss);
    this.counters.tokensSeen += tokens;
    this.publishState();
  }

  /** After a loss that spoils the weights, or would: the last bundle again, and other batches than those that led here. */
  private async *goBack(reason: string, loss: number): AsyncGenerator<TrainEvent, void> {
    const { guard, checkpointDir, startStep } = this.settings;
    if (guard === undefined || this.rollbacks++ >= (guard.maxRollbacks ?? 3)) throw badLoss(loss, reason, this.step);
    await this.saves.settle();
    yield* this.reportSave();
    await this.agree(); // Rank 0 has written the bundle that all go back to.
    const step = this.step;
    const onRestored = (restored: RestoredRun): void => {
      this.step = restored.step;
      this.losses.length = Math.max(0, restored.step - startStep);
      if (restored.run !== undefined) {
        setRandomStates(randomStatesOf(restored.run.random, this.ranks?.rank ?? 0).states, this.model.device);
        const { tokensSeen, best, evaluationsSinceBest } = restored.run;
        this.counters = { ...this.counters, tokensSeen, best, evaluationsSinceBest };
      }
      this.publishState();
    };
    await this.bundles.restore(checkpointDir!, this.optimizer, onRestored).catch((error: unknown) => {
      throw badLoss(loss, `${reason}, and no bundle exists to roll back to`, step, error);
    });
    // A stream has gone on past the batches that led here.
    if (this.settings.data instanceof TokenStream) {
      const { data, dataOrder } = this.settings;
      const seed = this.ranks === null ? drawSeed() : await this.ranks.same(drawSeed());
      const other = makeRunData(data, dataOrder, this.dataOptions(seed), this.model.tokenizer);
      this.data.setPosition(other.getPosition());
    }
    this.guard.reset();
    this.publishState();
    yield { type: 'rollback', step, backTo: this.step, reason };
  }

  private async *evaluate(): AsyncGenerator<TrainEvent, void> {
    const { data, evalSteps: steps, batchSize, precision, onEval, evalInterval } = this.settings;
    const { ranks } = this;
    const shouldStop = async (): Promise<boolean> => {
      await this.agree();
      return ranks === null ? this.shouldStop() : this.agreed?.stop !== undefined;
    };
    const options = { steps, batchSize, precision, seed: this.counters.seed, ranks, shouldStop };
    const trainLoss =
      data instanceof TokenStream ? await evaluate(this.engine, this.model, data.train, options) : this.recentLoss();
    const valLoss = await evaluate(this.engine, this.model, data.validation, options);
    // A signal does not wait for an evaluation; a run that continues makes it.
    if (trainLoss === undefined || valLoss === undefined) return;
    const event = { step: this.step, trainLoss: trainLoss!, valLoss };
    this.lastEvaluation = event;
    if (event.valLoss !== null && this.step % evalInterval === 0) this.countTowardsBest(event.valLoss);
    this.progress.evaluated(event);
    await onEval?.(event);
    yield { type: 'eval', ...event };
  }

  /** Of a stream: the mean loss of the updates since the evaluation before. */
  private recentLoss(): number {
    const since = this.lastEvaluation?.step ?? this.settings.startStep;
    const recent = this.losses.slice(this.losses.length - (this.step - since));
    return recent.reduce((sum, loss) => sum + loss, 0) / recent.length;
  }

  /** Evaluations of a step count once, also where a run stopped there and continues. */
  private countTowardsBest(valLoss: number): void {
    const { best, evaluationsSinceBest } = this.counters;
    if (best === null || valLoss < best.valLoss) {
      this.counters = { ...this.counters, best: { valLoss, step: this.step }, evaluationsSinceBest: 0 };
    } else if (best.step !== this.step) {
      this.counters = { ...this.counters, evaluationsSinceBest: evaluationsSinceBest + 1 };
    }
  }

  /** Starts a background save of a snapshot, after the previous save: only one runs at a time. */
  private async *save(): AsyncGenerator<TrainEvent, void> {
    const { checkpointDir, keep, saveInBackground = true } = this.settings;
    if (checkpointDir === undefined) return;
    await this.saves.settle();
    yield* this.reportSave();
    await this.agree();
    const { step, optimizer } = this;
    const random = await this.ranks?.randomStates(this.model.device);
    const state = this.state();
    const run = random === undefined ? state : { ...state, random };
    if (this.ranks?.leads === false) {
      this.savedStep = step;
      return;
    }
    const snapshot = { step, optimizer, run, metrics: this.metrics(), keep };
    // The next update waits until its copy is made, on the thread that makes the updates.
    await new Promise<void>((resolve) => {
      const save = atWholeUpdate(this.model, (copies) => {
        resolve();
        return this.bundles.save(checkpointDir, snapshot, copies);
      });
      save.catch(() => resolve());
      this.saves.start(step, save);
    });
    this.savedStep = step;
    if (saveInBackground) return;
    await this.saves.settle();
    yield* this.reportSave();
  }

  /** Reports the save that has come to its end, if one has. */
  private async *reportSave(): AsyncGenerator<TrainEvent, void> {
    // All ranks stop together: agree() throws the error.
    if (this.ranks !== null && this.failsOnSave()) return;
    const outcome = this.saves.take();
    if (outcome === undefined) return;
    const { step, error } = outcome;
    if (error !== undefined) {
      if (this.settings.onSaveError !== 'continue') throw error;
      process.emitWarning(`step ${step} could not be saved: ${error.message}`, { code: 'TORCHBIND_SAVE' });
      yield { type: 'saveError', step, error };
      return;
    }
    const event = { step, directory: this.settings.checkpointDir! };
    this.progress.saved(event);
    await this.settings.onSave?.(event);
    yield { type: 'save', ...event };
  }

  private metrics(): Record<string, number> {
    const metrics: Record<string, number> = {};
    const { lastEvaluation: evaluation } = this;
    if (evaluation?.step === this.step) {
      metrics.train_loss = evaluation.trainLoss;
      if (evaluation.valLoss !== null) metrics.val_loss = evaluation.valLoss;
    }
    return metrics;
  }

  private state(): RunState {
    const random = getRandomStates(this.model.device);
    const scaler = this.scaler?.getState() ?? null;
    return {
      ...this.counters,
      data: this.data.getPosition(),
      random,
      scaler,
      cpuKernels: kernelsOn(this.model.device),
    };
  }

  private result(stopped: FitResult['stopped']): FitResult {
    const { trainLoss = null, valLoss = null } = this.lastEvaluation ?? {};
    const { step, losses, optimizer } = this;
    return { step, losses, trainLoss, valLoss, best: this.counters.best, stopped, optimizer };
  }

  /** The model is saved with this, also by a program that saves it between two updates. */
  private publishState(state?: RunState): void {
    const { step, optimizer } = this;
    this.bundles.publish({ step, optimizer, run: () => state ?? this.state() });
  }

  /** Ends what runs next to training. A save that is under way is waited for; its failure was reported or is lost. */
  async close(): Promise<void> {
    this.publishState(this.state());
    this.engine.close();
    this.data.close?.();
    this.progress.stop();
    this.signals.release();
    await this.saves.settle();
  }
}
