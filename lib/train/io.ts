import type { AdamW, SGD } from '../optim';
import type { KeepOptions } from '../checkpoint/retention';
import type { RunState } from './run-state';

/** What a trainer hands over to be saved. */
export interface Snapshot {
  step: number;
  optimizer: AdamW | SGD;
  run: RunState;
  metrics: Record<string, number>;
  keep: KeepOptions | undefined;
  /** Copy all tensors before returning, so that training can go on while they are written. */
  copy: boolean;
}

/** Files of a trainer's model, which it knows nothing of. */
export interface Bundles {
  /** Writes a bundle. What it is of is decided before the function returns; the promise tells when it is durable. */
  save(directory: string, snapshot: Snapshot): Promise<void>;
  /** Puts the newest bundle of a directory into the model and the optimizer. */
  restore(directory: string, optimizer: AdamW | SGD): Promise<{ step: number; run: RunState | undefined }>;
  /**
   * Says where the model stands: when training begins, after each update, and at the end, whichever way that came. `run` is
   * for this moment.
   */
  stands(at: { step: number; optimizer: AdamW | SGD; run: () => RunState }): void;
  /** Keeps other processes from writing to the directory, until the function that it gives is called. */
  lock(directory: string): Promise<() => Promise<void>>;
}
