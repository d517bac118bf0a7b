import type { Batch } from '../data';
import type { GPTModel } from '../models/gpt-model';
import { evaluation } from '../models/mode';
import { lossOf, type Precision } from '../models/precision';
import { type AnyOptimizer, clipGradNorm_, type GradScaler } from '../optim';
import { inferenceMode } from '../tensor/autograd';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';

/** The parts of an update of the weights, on whichever thread. */

export interface AccumulateOptions {
  /** Batches whose gradients are averaged. */
  parts: number;
  precision: Precision;
  /** For float16. */
  scaler: GradScaler | null;
}

/**
 * Adds the gradients of a batch, and gives its loss. On the CPU a loss that is not finite adds none; elsewhere the gradients are
 * then of no use.
 */
export function accumulate(model: GPTModel, batch: Batch, { parts, precision, scaler }: AccumulateOptions): number {
  return tidy(() => {
    const loss = lossOf(model, batch, precision);
    if (loss.device !== 'cpu') {
      // Reading waits for the device: it gets the backward pass to do first.
      addGradients(loss, { parts, scaler });
      return Number(loss.item());
    }
    const value = Number(loss.item());
    if (Number.isFinite(value)) addGradients(loss, { parts, scaler });
    return value;
  });
}

/** Adds the gradients of a batch's loss, as one of the parts of an update. */
export function addGradients(loss: Tensor, { parts, scaler }: Pick<AccumulateOptions, 'parts' | 'scaler'>): void {
  const part = parts === 1 ? loss : loss.div(parts);
  (scaler === null ? part : scaler.scale(part)).backward();
}

export interface ApplyOptions {
  /** Infinity to compute the norm only. */
  gradClip: number | undefined;
  scaler: GradScaler | null;
}

/** Clips the gradients and makes the update; the norm before, where it is wanted. */
export function applyGradients(
  model: GPTModel,
  optimizer: AnyOptimizer,
  { gradClip, scaler }: ApplyOptions,
): number | null {
  scaler?.unscale_(optimizer);
  const gradNorm =
    gradClip === undefined ? null : tidy(() => Number(clipGradNorm_(model.parameters(), gradClip).item()));
  if (scaler === null) optimizer.step();
  else {
    scaler.step(optimizer);
    scaler.update();
  }
  return gradNorm;
}

/** The loss of a batch in evaluation mode, without gradients. */
export function evaluationLoss(model: GPTModel, batch: Batch, precision: Precision): number {
  return evaluation(model)(() => inferenceMode(() => tidy(() => Number(lossOf(model, batch, precision).item()))));
}
