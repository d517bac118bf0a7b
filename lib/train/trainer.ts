import { setImmediate as nextTurn } from 'node:timers/promises';
import { TorchBindError } from '../errors';
import { RandomWindows } from '../data';
import type { GPTModel } from '../models/gpt';
import { rememberModes } from '../models/mode';
import { AdamW, clipGradNorm_, type SGD } from '../optim';
import { randint } from '../tensor/creation';
import { Generator, manualSeed } from '../tensor/random';
import { tidy } from '../tensor/scope';
import { evaluate } from './evaluate';
import { completeOptions, type FitOptions, type Settings, type StepEvent } from './options';
import { noProgress, type Progress, showProgress } from './progress';

/** What `fit` gives. */
export interface FitResult {
  /** Updates made, those before this call included: what a resumed run starts with. */
  step: number;
  /** The loss of each batch of this call, in nats. */
  losses: number[];
  /** Losses of the last evaluation; null where there was none, or no validation part that holds a window. */
  trainLoss: number | null;
  valLoss: number | null;
  /** `done` after maxSteps updates, `aborted` by the signal before. */
  stopped: 'done' | 'aborted';
  /** Holds the moments that further training needs. */
  optimizer: AdamW | SGD;
}

/** Writes a bundle of the model as it is after `step` updates. */
export type SaveBundle = (directory: string, step: number, optimizer: AdamW | SGD) => Promise<void>;

const training = new WeakSet<GPTModel>();

/**
 * Trains a model on random windows of a text.
 *
 * Between steps the event loop turns, so that servers answer and signals arrive. A stop leaves model and optimizer as
 * they were after the last whole step, and the model in the mode that it was in before.
 *
 * @throws ERR_TORCHBIND_NONFINITE_LOSS where the loss is no number; the update with it is not made
 */
export async function fit(model: GPTModel, options: FitOptions, save: SaveBundle): Promise<FitResult> {
  const settings = completeOptions(model, options);
  if (training.has(model)) {
    throw new TorchBindError('fit: the model is already being trained. Await the first fit().', 'ERR_TORCHBIND_BUSY');
  }
  const trainer = new Trainer(model, settings, save);
  const restoreModes = rememberModes(model.modules());
  training.add(model);
  try {
    return await trainer.run();
  } finally {
    training.delete(model);
    model.zeroGrad();
    restoreModes();
    trainer.progress.stop();
  }
}

class Trainer {
  readonly progress: Progress;
  private readonly optimizer: AdamW | SGD;
  private readonly windows: RandomWindows;
  private readonly seed: number;
  private readonly losses: number[] = [];
  private lastEvaluation: { step: number; trainLoss: number; valLoss: number | null } | undefined;

  constructor(
    private readonly model: GPTModel,
    private readonly settings: Settings,
    private readonly saveBundle: SaveBundle,
  ) {
    const { data, batchSize, seed, startStep, maxSteps } = settings;
    if (seed !== undefined) manualSeed(seed);
    this.seed = seed ?? drawSeed();
    const generator = new Generator().manualSeed(this.seed);
    const { blockSize } = model.config;
    this.windows = new RandomWindows(data.train, { batchSize, blockSize, generator, device: model.device });
    this.optimizer = makeOptimizer(model, settings);
    this.progress = settings.progressBar === true ? showProgress(startStep, maxSteps) : noProgress;
  }

  /** Updates made. */
  private get step(): number {
    return this.settings.startStep + this.losses.length;
  }

  async run(): Promise<FitResult> {
    const { maxSteps, evalInterval, saveEvery, checkpointDir, signal } = this.settings;
    this.model.train();
    while (this.losses.length < maxSteps && signal?.aborted !== true) {
      if (evalInterval > 0 && this.losses.length % evalInterval === 0) await this.evaluate();
      this.update();
      if (saveEvery !== undefined && this.losses.length % saveEvery === 0) await this.save();
      await nextTurn();
    }
    const stopped = this.losses.length < maxSteps ? 'aborted' : 'done';
    if (stopped === 'done' && evalInterval > 0) await this.evaluate();
    if (checkpointDir !== undefined && this.savedStep !== this.step) await this.save();
    const { trainLoss = null, valLoss = null } = this.lastEvaluation ?? {};
    return { step: this.step, losses: this.losses, trainLoss, valLoss, stopped, optimizer: this.optimizer };
  }

  private update(): void {
    const began = performance.now();
    const loss = tidy(() => this.computeUpdate());
    this.losses.push(loss);
    const tokens = this.settings.batchSize * this.model.config.blockSize;
    const event: StepEvent = {
      step: this.step,
      loss,
      tokensPerSecond: (1000 * tokens) / (performance.now() - began),
    };
    this.progress.step(event);
    this.settings.onStep?.(event);
  }

  private computeUpdate(): number {
    const { x, y } = this.windows.next(); // (B, T) each
    const loss = this.model.forward(x, y).loss!;
    const value = Number(loss.item());
    if (!Number.isFinite(value)) throw nonFinite(value, this.step);
    this.optimizer.zeroGrad();
    loss.backward();
    if (this.settings.gradClip !== undefined) clipGradNorm_(this.model.parameters(), this.settings.gradClip);
    this.optimizer.step();
    return value;
  }

  private async evaluate(): Promise<void> {
    const { data, evalSteps: steps, batchSize, onEval } = this.settings;
    const losses = await evaluate(this.model, data, { steps, batchSize, seed: this.seed });
    this.lastEvaluation = { step: this.step, ...losses };
    this.progress.evaluated(this.lastEvaluation);
    if (onEval !== undefined) this.progress.clear();
    onEval?.(this.lastEvaluation);
  }

  private savedStep: number | undefined;

  private async save(): Promise<void> {
    const directory = this.settings.checkpointDir!;
    await this.saveBundle(directory, this.step, this.optimizer);
    this.savedStep = this.step;
    this.progress.saved({ step: this.step, directory });
    this.settings.onSave?.({ step: this.step, directory });
  }
}

function makeOptimizer(model: GPTModel, { optimizer, learningRate }: Settings): AdamW | SGD {
  if (optimizer === undefined) return new AdamW(model.parameters(), { lr: learningRate ?? 3e-4 });
  if (learningRate !== undefined) for (const group of optimizer.paramGroups) group.lr = learningRate;
  return optimizer;
}

function drawSeed(): number {
  return tidy(() => Number(randint(2 ** 31, [1]).item()));
}

function nonFinite(loss: number, step: number): TorchBindError {
  return new TorchBindError(
    `fit: the loss is ${loss} after ${step} updates, so training cannot go on; the model keeps the weights that gave it. ` +
      'Try a lower learningRate or gradClip: 1, from weights that were saved before.',
    'ERR_TORCHBIND_NONFINITE_LOSS',
  );
}
