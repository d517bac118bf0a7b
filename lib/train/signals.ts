import { constants } from 'node:os';

const stopping = ['SIGINT', 'SIGTERM'] as const;

/** Signals received during training. */
export interface TrainingSignals {
  /** The signal that requests saving and stopping; the next one of its kind ends the process immediately. */
  readonly stop: 'SIGINT' | 'SIGTERM' | undefined;
  /** Whether a save was asked for since this was called last. */
  takeSaveRequest(): boolean;
  /** Leaves signals to others again. */
  release(): void;
}

export const noSignals: TrainingSignals = { stop: undefined, takeSaveRequest: () => false, release: () => undefined };

/**
 * Takes SIGINT, SIGTERM and SIGUSR1 until they are released.
 *
 * @param onStopping told at once of the signal that asks to stop
 */
export function listenForSignals(onStopping: (signal: string) => void): TrainingSignals {
  let stop: TrainingSignals['stop'];
  let save = false;
  const onStop = (signal: (typeof stopping)[number]): void => {
    if (stop !== undefined) process.exit(128 + constants.signals[signal]);
    stop = signal;
    onStopping(signal);
  };
  const onSave = (): void => void (save = true);
  for (const signal of stopping) process.on(signal, onStop);
  process.on('SIGUSR1', onSave);
  return {
    get stop() {
      return stop;
    },
    takeSaveRequest: () => {
      const requested = save;
      save = false;
      return requested;
    },
    release: () => {
      for (const signal of stopping) process.off(signal, onStop);
      process.off('SIGUSR1', onSave);
    },
  };
}
