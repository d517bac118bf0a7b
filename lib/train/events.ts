/** After an update. */
export interface StepEvent {
  /** Updates made so far, those before this call included. */
  step: number;
  /** Mean cross-entropy of the batch, in nats, before the update. */
  loss: number;
  /** The rate that the update was made with; that of the first group of parameters. */
  learningRate: number;
  /** Norm of all gradients before clipping; null where gradients are not clipped and no metrics written. */
  gradNorm: number | null;
  tokensPerSecond: number;
  /** Tokens that the run has trained on so far. */
  tokensSeen: number;
}

/** After an evaluation. */
export interface EvalEvent {
  step: number;
  /** Mean cross-entropy of batches of the training part, in nats; of a stream, of the updates since the evaluation before. */
  trainLoss: number;
  /** The same of the validation part; null where that part is shorter than one window. */
  valLoss: number | null;
}

/** When a bundle is on the disk for good. */
export interface SaveEvent {
  step: number;
  directory: string;
}

/** Where a run continues that was stopped before. */
export interface ResumeEvent {
  step: number;
  /** What was not in the files, so that the run continues as far as it can and not exactly. */
  missing: string[];
}

/** Where training went back to the last bundle. */
export interface RollbackEvent {
  /** Updates made when that was done, and the step of the bundle. */
  step: number;
  backTo: number;
  reason: string;
}

/** Where a save failed and training continues. */
export interface SaveErrorEvent {
  step: number;
  error: Error;
}

/** What `onEvent` of `fit` gets. */
export type TrainEvent =
  | ({ type: 'step' } & StepEvent)
  | ({ type: 'eval' } & EvalEvent)
  | ({ type: 'save' } & SaveEvent)
  | ({ type: 'resume' } & ResumeEvent)
  | ({ type: 'rollback' } & RollbackEvent)
  | ({ type: 'saveError' } & SaveErrorEvent);
