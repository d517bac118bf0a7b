import type { Batch } from '../data';
import type { GPTModel } from '../models/gpt-model';
import { evaluation } from '../models/mode';
import { lossOf, type Precision } from '../models/precision';
import { Adam, AdamW, type AnyOptimizer, clipGradNorm_, type GradScaler } from '../optim';
import { inferenceMode } from '../tensor/autograd';
import { stack } from '../tensor/generated/functions';
import { dispose, keep, tidy } from '../tensor/scope';
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
 * Losses of an update that are read after it, so that the device has all of the update to do before anybody waits for it. The
 * device itself skips the update where one of them is not finite.
 */
export class LateLosses {
  private readonly losses: Tensor[] = [];

  get isEmpty(): boolean {
    return this.losses.length === 0;
  }

  add(loss: Tensor): void {
    this.losses.push(keep(loss.detach()));
  }

  /** Whether one of them is not finite: 1 or 0, float32 (). */
  foundInf(): Tensor {
    return stack(this.losses).isfinite().all().logicalNot().to('float32');
  }

  /** Their sum, which waits for the device. Forgets them. */
  read(): number {
    const sum = this.losses.reduce((total, loss) => total + Number(loss.item()), 0);
    this.clear();
    return sum;
  }

  clear(): void {
    dispose(this.losses);
    this.losses.length = 0;
  }
}

/**
 * Adds the gradients of a batch, and gives its loss, or undefined where that goes to `late`. On the CPU a loss that is not finite
 * adds none; elsewhere the gradients are then of no use.
 */
export function accumulate(
  model: GPTModel,
  batch: Batch,
  { parts, precision, scaler }: AccumulateOptions,
  late?: LateLosses,
): number | undefined {
  return tidy(() => {
    const loss = lossOf(model, batch, precision);
    if (late !== undefined || loss.device !== 'cpu') {
      // Reading waits for the device: it gets the backward pass to do first.
      addGradients(loss, { parts, scaler });
      if (late === undefined) return Number(loss.item());
      late.add(loss);
      return undefined;
    }
    const value = Number(loss.item());
    if (Number.isFinite(value)) addGradients(loss, { parts, scaler });
    return value;
  });
}

/** How the loss of a batch counts in its update. */
export type PartOptions = Pick<AccumulateOptions, 'parts' | 'scaler'>;

/** What the backward pass of one of the parts of an update begins with. */
export function partOf(loss: Tensor, { parts, scaler }: PartOptions): Tensor {
  const part = parts === 1 ? loss : loss.div(parts);
  return scaler === null ? part : scaler.scale(part);
}

function addGradients(loss: Tensor, options: PartOptions): void {
  partOf(loss, options).backward();
}

export interface ApplyOptions {
  /** Infinity to compute the norm only. */
  gradClip: number | undefined;
  scaler: GradScaler | null;
}

export interface Made {
  /** Before clipping; null where gradients are not clipped. */
  gradNorm: number | null;
  /** The loss of the only batch, or the sum of those that were read late. The update was made if it is finite. */
  loss: number | undefined;
}

/** The only batch of an update, in float32 or autocast. */
export interface OnlyBatch {
  batch: Batch;
  precision: Precision;
}

/** A whole update from one batch: its gradients, and then what `applyGradients` does, unless the loss is not finite. */
export function updateFrom(model: GPTModel, { batch, precision }: OnlyBatch, apply: () => Made): Made {
  const loss = accumulate(model, batch, { parts: 1, precision, scaler: null })!;
  return Number.isFinite(loss) ? { ...apply(), loss } : { gradNorm: null, loss };
}

/** Clips the gradients and makes the update, unless one of the late losses is not finite. */
export function applyGradients(
  model: GPTModel,
  optimizer: AnyOptimizer,
  { gradClip, scaler }: ApplyOptions,
  late: LateLosses,
): Made {
  return tidy(() => {
    scaler?.unscale_(optimizer);
    const gradNorm = gradClip === undefined ? null : clipGradNorm_(model.parameters(), gradClip);
    if (!late.isEmpty) stepUnless(late.foundInf(), optimizer as Adam | AdamW);
    else if (scaler === null) optimizer.step();
    else {
      scaler.step(optimizer);
      scaler.update();
    }
    // From here on this thread waits for the device.
    const loss = late.isEmpty ? undefined : late.read();
    return { gradNorm: gradNorm === null ? null : Number(gradNorm.item()), loss };
  });
}

/** Whether losses of updates by an optimizer can be read after them. */
export function canReadLate(optimizer: AnyOptimizer): boolean {
  return optimizer instanceof AdamW || optimizer instanceof Adam;
}

function stepUnless(foundInf: Tensor, optimizer: Adam | AdamW): void {
  optimizer.foundInf = foundInf;
  try {
    optimizer.step();
  } finally {
    optimizer.foundInf = undefined;
  }
}

/** The loss of a batch in evaluation mode, without gradients. */
export function evaluationLoss(model: GPTModel, batch: Batch, precision: Precision): number {
  return evaluation(model)(() => inferenceMode(() => tidy(() => Number(lossOf(model, batch, precision).item()))));
}
