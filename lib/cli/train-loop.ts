import path from 'node:path';
import type { GPT } from '../gpt';
import type { FitOptions, FitResult, TrainEvent } from '../train';
import { canDrawStatus } from '../status-line';
import { note, printLine } from './output';
import type { TrainFlags } from './train-flags';

/** What `follow` does besides printing, between two updates. */
export type OnEvent = (event: TrainEvent) => Promise<void>;

/** Updates to make, given those that were made before. */
export function updatesToMake(flags: TrainFlags, startStep: number): number {
  const more = flags.resumeTrainingSteps ?? flags.resumeSteps;
  if (startStep > 0 && more !== undefined) return more;
  return Math.max(0, (flags.maxIters ?? 1000) - startStep);
}

/** Options of training that are the same however checkpoints are kept. */
export function fitOptions(flags: TrainFlags, maxSteps: number): FitOptions {
  const { evalInterval, evalIters: evalSteps, beta1 = 0.9, beta2 = 0.999 } = flags;
  const given = {
    batchSize: flags.batchSize,
    gradAccumulation: flags.gradientAccumulationSteps,
    learningRate: flags.learningRate,
    resumeLearningRate: flags.resumeLearningRate,
    schedule: flags.schedule,
    warmupSteps: flags.warmupIters ?? (flags.useLrWarmup === true ? shortWarmup(maxSteps) : undefined),
    decaySteps: flags.lrDecayIters,
    minLearningRate: flags.minLr,
    weightDecay: flags.weightDecay,
    betas: hasBetas(flags) ? ([beta1, beta2] as const) : undefined,
    gradClip: flags.gradClip,
    precision: flags.precision,
    activationCheckpointing: flags.activationCheckpointing,
    chunkedLoss: flags.chunkedLoss,
    dataOrder: flags.dataOrder,
    seed: flags.seed,
    patience: flags.patience,
  };
  const named = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  // Events are printed anyhow: the bar is wanted or nothing. It leaves a terminal to the lines of --json.
  const progressBar = canDrawStatus() && !(flags.json === true && process.stdout.isTTY);
  return { ...named, maxSteps, evalInterval, evalSteps, handleSignals: true, progressBar };
}

function hasBetas({ beta1, beta2 }: TrainFlags): boolean {
  return beta1 !== undefined || beta2 !== undefined;
}

/** Whether flags request an optimizer other than that of a new model. */
export function wantsOwnOptimizer(flags: TrainFlags): boolean {
  return flags.weightDecay !== undefined || hasBetas(flags);
}

function shortWarmup(updates: number): number {
  return Math.min(Math.max(50, Math.floor(0.02 * updates)), Math.max(0, updates - 1));
}

/** Trains, prints what happens, and sets the exit status of a run that a signal stopped. */
export async function follow(
  model: GPT,
  options: FitOptions,
  json: boolean | undefined,
  onEvent?: OnEvent,
): Promise<FitResult> {
  const events = model.fitEvents(options);
  for (;;) {
    const { done, value } = await events.next();
    if (done === true) {
      if (value.stopped === 'SIGINT') process.exitCode = 130;
      if (value.stopped === 'SIGTERM') process.exitCode = 143;
      return value;
    }
    report(value, json);
    await onEvent?.(value);
  }
}

/** Prints an event: each as a line of JSON, or for people those that come now and then. */
export function report(event: TrainEvent, json: boolean | undefined): void {
  if (json === true) {
    const plain = event.type === 'saveError' ? { ...event, error: event.error.message } : event;
    printLine(JSON.stringify(plain));
    return;
  }
  if (event.type === 'resume' && event.missing.length > 0) note(`not in the files: ${event.missing.join(', ')}`);
  if (event.type === 'eval') printLine(`step ${event.step}: ${losses(event.trainLoss, event.valLoss)}`);
  if (event.type === 'save') printLine(`step ${event.step}: saved ${shownPath(event.directory)}`);
  if (event.type === 'rollback') printLine(`step ${event.step}: ${event.reason}; back to step ${event.backTo}`);
}

/** A path below the working directory as people type it. */
function shownPath(file: string): string {
  const relative = path.relative(process.cwd(), file);
  return relative.startsWith('..') || path.isAbsolute(relative) ? file : relative;
}

export function losses(train: number, validation: number | null): string {
  return `train loss ${train.toFixed(4)}${validation === null ? '' : `, validation loss ${validation.toFixed(4)}`}`;
}

/** The last line: the result. */
export function reportEnd(result: FitResult, saved: string | null, json: boolean | undefined): void {
  const { step, stopped, trainLoss, valLoss, best } = result;
  if (json === true) printLine(JSON.stringify({ type: 'end', step, stopped, trainLoss, valLoss, best, saved }));
  else if (stopped !== 'done') note(`stopped (${stopped}) at step ${step}`);
}
