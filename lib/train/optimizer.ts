import type { GPTModel } from '../models/gpt-model';
import { makeOptimizer } from '../models/optimizers';
import { AdamW, type AnyOptimizer, decayGroups } from '../optim';
import type { Settings } from './options';

/**
 * The optimizer that the options name, or a new AdamW as `gpt.makeOptimizer()` makes it, so that the family's own program
 * can resume what `fit` has trained.
 */
export function optimizerFor(model: GPTModel, settings: Settings): AnyOptimizer {
  const { optimizer, learningRate: lr = 3e-4, weightDecay, betas } = settings;
  if (optimizer !== undefined) return optimizer;
  // Of a family whose program decays all parameters alike, an explicit weight decay still spares biases and norms.
  if (weightDecay !== undefined && model.layout.optimizerGroups === undefined) {
    const trained = model.namedParameters().filter(([, { requiresGrad }]) => requiresGrad);
    return new AdamW(decayGroups(trained, weightDecay), betas === undefined ? { lr } : { lr, betas });
  }
  return makeOptimizer(model, { lr, weightDecay, betas });
}
