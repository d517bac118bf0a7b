/** After an update. */
export interface StepEvent {
  /** Number of updates so far, including those before this call. */
  step: number;
  /** Mean cross-entropy of the batch, in nats, before the update. */
  loss: number;
  /** Learning rate of the update, of the first parameter group. */
  learningRate: number;
  /** L2 norm of all gradients before clipping; null if gradients are not clipped and no metrics are written. */
  gradNorm: number | null;
  tokensPerSecond: number;
  /** Number of tokens that the run has trained on so far. */
  tokensSeen: number;
}

/** After an evaluation. */
export interface EvalEvent {
  step: number;
  /**
   * Mean cross-entropy in nats over batches of the training split; for a stream, over the updates since the previous
   * evaluation.
   */
  trainLoss: number;
  /** Mean cross-entropy of the validation split, in nats; null if the split is shorter than one window. */
  valLoss: number | null;
}

/** After a save: the bundle is durably on disk. */
export interface SaveEvent {
  step: number;
  directory: string;
}

/** At the start of a resumed run. */
export interface ResumeEvent {
  step: number;
  /** What the files lack, so that the run does not resume exactly; empty if it does. */
  missing: string[];
}

/** After a rollback to the last bundle. */
export interface RollbackEvent {
  /** Number of updates made at the rollback, and the step of the bundle. */
  step: number;
  backTo: number;
  reason: string;
}

/** After a failed save, if training continues. */
export interface SaveErrorEvent {
  step: number;
  error: Error;
}

/** An event of `fitEvents`. */
export type TrainEvent =
  | ({ type: 'step' } & StepEvent)
  | ({ type: 'eval' } & EvalEvent)
  | ({ type: 'save' } & SaveEvent)
  | ({ type: 'resume' } & ResumeEvent)
  | ({ type: 'rollback' } & RollbackEvent)
  | ({ type: 'saveError' } & SaveErrorEvent);
