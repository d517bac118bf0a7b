import { TorchBindError } from '../errors';
import type { GPTModel } from '../models/gpt-model';
import { AdamW, decayGroups, type SGD } from '../optim';
import { randint } from '../tensor/creation';
import { tidy } from '../tensor/scope';
import type { Settings } from './options';

/** The optimizer that the options name, or a new AdamW. */
export function makeOptimizer(model: GPTModel, settings: Settings): AdamW | SGD {
  const { optimizer, learningRate: lr = 3e-4, weightDecay, betas } = settings;
  if (optimizer !== undefined) return optimizer;
  const options = betas === undefined ? { lr } : { lr, betas };
  if (weightDecay === undefined) return new AdamW(model.parameters(), options);
  return new AdamW(decayGroups(model.namedParameters(), weightDecay), options);
}

/** A seed from the default generator. */
export function drawSeed(): number {
  return tidy(() => Number(randint(2 ** 31, [1]).item()));
}

/** What ends training where the loss is none that one can train on. */
export function badLoss(loss: number, reason: string, step: number, cause?: unknown): TorchBindError {
  const advice = 'Try a lower learningRate or gradClip: 1, from weights that were saved before.';
  const message = Number.isFinite(loss)
    ? `fit: ${reason} after ${step} updates. ${advice}`
    : `fit: the loss is ${loss} after ${step} updates, so training cannot go on; the model keeps the weights that gave it. ${advice}`;
  return new TorchBindError(message, 'ERR_TORCHBIND_NONFINITE_LOSS', { cause });
}
