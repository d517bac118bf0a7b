import { checkOptions, describe, isAbove, TorchBindError } from '../errors';

/** Options of `guard`: when training rolls back to the last good bundle. */
export interface GuardOptions {
  /** A loss above this multiple of the median of the last 50 is a spike. Default: only NaN and infinity count. */
  spikeFactor?: number;
  /** Maximum number of rollbacks before training fails. Default 3. */
  maxRollbacks?: number;
}

const windowSize = 50;

/** @throws ERR_TORCHBIND_UNKNOWN_OPTION, ERR_TORCHBIND_INVALID_ARGUMENT */
export function checkGuard(options: GuardOptions, checkpointDir: unknown): void {
  checkOptions(options, ['spikeFactor', 'maxRollbacks'], 'guard');
  const { spikeFactor, maxRollbacks } = options;
  if (spikeFactor !== undefined && !isAbove(spikeFactor, 1))
    throw invalid('spikeFactor', 'a number above 1', spikeFactor);
  if (maxRollbacks !== undefined && !(Number.isSafeInteger(maxRollbacks) && maxRollbacks >= 0)) {
    throw invalid('maxRollbacks', 'an integer of at least 0', maxRollbacks);
  }
  if (checkpointDir !== undefined) return;
  throw new TorchBindError(
    'fit: guard rolls back to the last bundle, so it needs checkpointDir, and saveEvery to have one.',
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** Watches the losses of a run. */
export class LossGuard {
  private recent: number[] = [];

  constructor(private readonly spikeFactor: number | undefined) {}

  /** The reason to reject a loss, or undefined. An accepted loss counts towards the median. */
  judge(loss: number): string | undefined {
    if (!Number.isFinite(loss)) return `the loss is ${loss}`;
    const median = this.median();
    if (this.spikeFactor !== undefined && median !== undefined && loss > this.spikeFactor * median) {
      return `the loss is ${loss.toFixed(4)}, the median of the last ${windowSize} is ${median.toFixed(4)}`;
    }
    this.recent = [...this.recent.slice(1 - windowSize), loss];
    return undefined;
  }

  /** Forgets the losses. No loss counts as a spike until enough new ones are known. */
  reset(): void {
    this.recent = [];
  }

  private median(): number | undefined {
    if (this.recent.length < windowSize) return undefined;
    return [...this.recent].sort((a, b) => a - b)[windowSize >> 1];
  }
}

/** The error that ends training when the loss is not finite or spikes. */
export function badLoss(loss: number, reason: string, step: number, cause?: unknown): TorchBindError {
  const advice = 'Try a lower learningRate or gradClip: 1, from weights that were saved before.';
  const message = Number.isFinite(loss)
    ? `fit: ${reason} after ${step} updates. ${advice}`
    : `fit: the loss is ${loss} after ${step} updates, so training cannot continue; the model keeps the weights that gave it. ${advice}`;
  return new TorchBindError(message, 'ERR_TORCHBIND_NONFINITE_LOSS', { cause });
}

function invalid(name: string, expected: string, value: unknown): TorchBindError {
  return new TorchBindError(
    `guard: ${name} must be ${expected}, got ${describe(value)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
