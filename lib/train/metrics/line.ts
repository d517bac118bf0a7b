import type { TrainEvent } from '../events';

/** A line of `metrics.jsonl`. */
export interface MetricsLine {
  type: 'step' | 'eval';
  step: number;
  /** Seconds since 1970. */
  time: number;
  loss?: number;
  learning_rate?: number;
  grad_norm?: number;
  tokens_per_second?: number;
  tokens_seen?: number;
  /** Resident memory of the process, in bytes. */
  memory?: number;
  train_loss?: number;
  val_loss?: number;
}

/** The line of an event; undefined for events that are not logged. */
export function lineOf(event: TrainEvent): MetricsLine | undefined {
  const time = Date.now() / 1000;
  if (event.type === 'eval') {
    const { step, trainLoss, valLoss } = event;
    return { type: 'eval', step, time, train_loss: trainLoss, ...(valLoss === null ? {} : { val_loss: valLoss }) };
  }
  if (event.type !== 'step') return undefined;
  return {
    type: 'step',
    step: event.step,
    time,
    loss: event.loss,
    learning_rate: event.learningRate,
    ...(event.gradNorm === null ? {} : { grad_norm: event.gradNorm }),
    tokens_per_second: Math.round(event.tokensPerSecond),
    tokens_seen: event.tokensSeen,
    memory: process.memoryUsage.rss(),
  };
}
