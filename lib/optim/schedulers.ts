/**
 * Learning rates as functions of the step: constant, linear, cosine, each with warm-up.
 *
 * @module
 */

import {
  checkArgument,
  checkFunction,
  checkIterable,
  checkOptions,
  describe,
  isAtLeast,
  requireOptions,
  takes,
  TorchBindError,
} from '../errors';
import { Float } from '../pickle/types';
import type { ParameterGroup } from './optimizer';

/**
 * Factor of the learning rate for the update of an index, which counts from 0: a function of the step alone, so that a
 * resumed run continues with the rates that it would have had.
 */
export type Schedule = (step: number) => number;

/** Options of schedules with warm-up. */
export interface WarmupOptions {
  /** Number of warm-up updates, over which the rate rises linearly. Default 0. */
  warmup?: number;
}

/** Options of schedules that decay. */
export interface DecayOptions extends WarmupOptions {
  /** Updates after which the rate has fallen to `min`, those of the warm-up included. */
  steps: number;
  /** Factor that the rate falls to, and stays at. Default 0. */
  min?: number;
}

/** The full rate after the warm-up. */
export const constant = takes(1, function constant(options: WarmupOptions = {}): Schedule {
  checkOptions(options, ['warmup'], 'constant');
  const warmup = checkWarmup(options.warmup);
  return (step) => warmUp(step, warmup) ?? 1;
});

/** After the warm-up the rate falls along a line (PyTorch's `LinearLR`, and the default of Hugging Face's Trainer). */
export const linear = takes(1, function linear(options: DecayOptions): Schedule {
  return decay(options, 'linear', (progress) => 1 - progress);
});

/** After the warm-up the rate falls along half a cosine (Loshchilov and Hutter 2017), as in nanoGPT. */
export const cosine = takes(1, function cosine(options: DecayOptions): Schedule {
  return decay(options, 'cosine', (progress) => 0.5 * (1 + Math.cos(Math.PI * progress)));
});

function decay(options: DecayOptions, name: string, shape: (progress: number) => number): Schedule {
  requireOptions(options, ['warmup', 'steps', 'min'], name);
  const { steps, min = 0 } = options;
  const warmup = checkWarmup(options.warmup);
  if (!Number.isSafeInteger(steps) || steps <= warmup) {
    throw invalid(`${name}: steps must be an integer above warmup (${warmup}), got ${describe(steps)}`);
  }
  if (!(isAtLeast(min, 0) && min <= 1)) throw invalid(`${name}: min must be from 0 to 1, got ${describe(min)}`);
  return (step) => {
    const rising = warmUp(step, warmup);
    if (rising !== null) return rising;
    if (step > steps) return min;
    return min + (1 - min) * shape((step - warmup) / (steps - warmup));
  };
}

/** As in nanoGPT: the rate of the first update is above 0, and the update after the warm-up has the full rate. */
function warmUp(step: number, warmup: number): number | null {
  return step < warmup ? (step + 1) / (warmup + 1) : null;
}

function checkWarmup(warmup = 0): number {
  if (Number.isSafeInteger(warmup) && warmup >= 0) return warmup;
  throw invalid(`warmup must be an integer of at least 0, got ${describe(warmup)}`);
}

/** Where PyTorch's schedulers keep a group's rate before any factor, and where its files have it. */
const baseKey = 'initial_lr';

/** The rate of a group before the schedule's factor. */
export const baseLearningRate = takes(1, function baseLearningRate(group: ParameterGroup & { lr: number }): number {
  checkGroup(group, 'baseLearningRate');
  const base = group.extra.get(baseKey);
  return base === undefined ? group.lr : Number(base);
});

/** Sets the rate of a group before the schedule's factor; without a schedule it is the rate itself. */
export const setBaseLearningRate = takes(
  2,
  function setBaseLearningRate(group: ParameterGroup & { lr: number }, rate: number): void {
    checkGroup(group, 'setBaseLearningRate');
    checkArgument(isAtLeast(rate, 0), 'a rate of at least 0', rate, 'setBaseLearningRate');
    group.lr = rate;
    if (group.extra.has(baseKey)) group.extra.set(baseKey, new Float(rate));
  },
);

/** Sets the rates of all groups for the update of an index. */
export const applySchedule = takes(
  3,
  function applySchedule(groups: readonly (ParameterGroup & { lr: number })[], schedule: Schedule, step: number): void {
    checkIterable(groups, 'the paramGroups of an optimizer', 'applySchedule');
    checkFunction(schedule, 'applySchedule: schedule');
    checkArgument(isAtLeast(step, 0), 'a step of at least 0', step, 'applySchedule');
    for (const group of groups) {
      const base = baseLearningRate(group);
      group.extra.set(baseKey, new Float(base));
      group.lr = base * schedule(step);
    }
  },
);

function checkGroup(group: unknown, where: string): void {
  const { extra, lr } = (group ?? {}) as { extra?: unknown; lr?: unknown };
  checkArgument(extra instanceof Map && isAtLeast(lr, 0), 'one of the paramGroups of an optimizer', group, where);
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(message, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
