import type { StorageCopies } from '../compute';
import type { AnyOptimizer } from '../optim';
import type { KeepOptions } from '../checkpoint/retention';
import type { RunState } from './run-state';

/** What a trainer asks to be saved besides the model. */
export interface SaveRequest {
  step: number;
  optimizer: AnyOptimizer;
  run: RunState;
  metrics: Record<string, number>;
  keep: KeepOptions | undefined;
}

/** What a bundle says of the run that saved it. */
export interface RestoredRun {
  step: number;
  run: RunState | undefined;
}

/** How a trainer reads and writes bundles: the formats are its caller's concern. */
export interface Bundles {
  /** Writes a bundle. What it is of is decided before the function returns; the promise tells when it is durable. */
  save(directory: string, request: SaveRequest, copies: StorageCopies): Promise<void>;
  /**
   * Restores the newest bundle of a directory into the model and the optimizer. `onRestored` is called in the same turn
   * of the event loop.
   */
  restore(directory: string, optimizer: AnyOptimizer, onRestored: (run: RestoredRun) => void): Promise<void>;
  /** Called when training begins, after each update, and when it ends in whatever way. `run` gives the state of that moment. */
  publish(at: { step: number; optimizer: AnyOptimizer; run: () => RunState }): void;
  /** Keeps other processes and runs from writing to the directory, until the function that it gives is called. */
  lock(directory: string): Promise<() => void>;
}

/** Saves that are written while training continues: one at a time. */
export class BackgroundSaves {
  private pending: { step: number; done: boolean; error: Error | undefined; promise: Promise<void> } | undefined;

  /** Hands a save over. The one before must have been taken. */
  start(step: number, writing: Promise<void>): void {
    const entry = { step, done: false, error: undefined as Error | undefined, promise: writing };
    entry.promise = writing
      .catch((error: unknown) => void (entry.error = error instanceof Error ? error : new Error(String(error))))
      .finally(() => (entry.done = true));
    this.pending = entry;
  }

  /** The error of a save that has failed and was not taken yet. */
  get failure(): Error | undefined {
    return this.pending?.done === true ? this.pending.error : undefined;
  }

  /** The step that was saved since this was asked last, or the error; undefined while the save is under way. */
  take(): { step: number; error: Error | undefined } | undefined {
    if (this.pending?.done !== true) return undefined;
    const { step, error } = this.pending;
    this.pending = undefined;
    return { step, error };
  }

  /** Waits for the save that is under way. */
  async settle(): Promise<void> {
    await this.pending?.promise;
  }
}
