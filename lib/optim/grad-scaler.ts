import { checkArgument, checkOptions, describe, isAbove, requireOptions, TorchBindError } from '../errors';
import { noGrad } from '../tensor/autograd';
import { full, zeros } from '../tensor/creation';
import { tidy } from '../tensor/scope';
import { type Tensor, unwrap } from '../tensor/tensor';
import { byPlace } from './batches';
import { ampUnscale_ } from './kernels';
import { Optimizer } from './optimizer';

/** Options of `GradScaler`. */
export interface GradScalerOptions {
  /** Default 65536. */
  initScale?: number;
  /** What the scale grows by after `growthInterval` updates without overflow. Default 2. */
  growthFactor?: number;
  /** What it is multiplied with after an overflow. Default 0.5. */
  backoffFactor?: number;
  /** Default 2000. */
  growthInterval?: number;
}

/** How far a scaler has come, as plain values. */
export interface GradScalerState {
  scale: number;
  growthTracker: number;
}

/**
 * Keeps gradients of a float16 computation from becoming zero: the loss is scaled up, the gradients down again before
 * the update, which is left out where they are infinite (PyTorch's `torch.amp.GradScaler`; Micikevicius et al. 2018).
 *
 *     scaler.scale(loss).backward();
 *     scaler.unscale_(optimizer); // only where gradients are looked at, to clip them for example
 *     scaler.step(optimizer);
 *     scaler.update();
 */
export class GradScaler {
  #scale: number;
  #growthTracker = 0;
  readonly #growthFactor: number;
  readonly #backoffFactor: number;
  readonly #growthInterval: number;
  /** Optimizers whose gradients were scaled down since `update`, and whether one of these was infinite. */
  #unscaled = new Map<Optimizer, boolean>();

  constructor(options: GradScalerOptions = {}) {
    checkOptions(options, ['initScale', 'growthFactor', 'backoffFactor', 'growthInterval'], 'GradScaler');
    const { initScale = 65536, growthFactor = 2, backoffFactor = 0.5, growthInterval = 2000 } = options;
    check(isAbove(growthFactor, 1), 'growthFactor', 'above 1', growthFactor);
    check(isAbove(backoffFactor, 0) && backoffFactor < 1, 'backoffFactor', 'between 0 and 1', backoffFactor);
    check(isAbove(initScale, 0), 'initScale', 'above 0', initScale);
    this.#scale = Math.fround(initScale);
    this.#growthFactor = growthFactor;
    this.#backoffFactor = backoffFactor;
    this.#growthInterval = growthInterval;
  }

  /** The loss times the scale. */
  scale(loss: Tensor): Tensor {
    unwrap(loss, 'scale()');
    return loss.mul(this.#scale);
  }

  /** What losses are multiplied with. */
  getScale(): number {
    return this.#scale;
  }

  /** Scales the gradients of an optimizer's parameters down, in place. */
  unscale_(optimizer: Optimizer): void {
    if (this.#unscaled.has(optimizer)) {
      throw new TorchBindError(
        'unscale_() was called on this optimizer since the last update() already.',
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    checkArgument(optimizer instanceof Optimizer, 'an optimizer', optimizer, 'unscale_()');
    const parameters = optimizer.paramGroups.flatMap(({ params }) => params);
    const overflowed = tidy(() =>
      noGrad(() => {
        const gradients = parameters.map((parameter) => parameter.grad).filter((gradient) => gradient !== null);
        return byPlace(gradients).map((group) => unscale(group, this.#scale));
      }),
    );
    this.#unscaled.set(optimizer, overflowed.some(Boolean));
  }

  /** Makes the update, unless a gradient is infinite or NaN; whether it did. */
  step(optimizer: Optimizer): boolean {
    if (!this.#unscaled.has(optimizer)) this.unscale_(optimizer);
    if (this.#unscaled.get(optimizer) === true) return false;
    optimizer.step();
    return true;
  }

  /** Adapts the scale; once after the steps of all optimizers. */
  update(): void {
    const overflowed = [...this.#unscaled.values()].some(Boolean);
    this.#unscaled.clear();
    if (overflowed) {
      this.#scale = Math.fround(this.#scale * this.#backoffFactor);
      this.#growthTracker = 0;
      return;
    }
    if (++this.#growthTracker < this.#growthInterval) return;
    const grown = Math.fround(this.#scale * this.#growthFactor);
    if (Number.isFinite(grown)) this.#scale = grown;
    this.#growthTracker = 0;
  }

  getState(): GradScalerState {
    return { scale: this.#scale, growthTracker: this.#growthTracker };
  }

  /** Continues where `getState` was taken. */
  setState(state: GradScalerState): void {
    requireOptions(state, ['scale', 'growthTracker'], 'setState()');
    const { scale, growthTracker } = state;
    checkArgument(Number.isSafeInteger(growthTracker), "an integer for 'growthTracker'", growthTracker, 'setState()');
    check(isAbove(scale, 0), 'scale', 'above 0', scale);
    this.#scale = Math.fround(scale);
    this.#growthTracker = growthTracker;
  }
}

/** Scales down gradients of one device and dtype; whether one of them is infinite or NaN. */
function unscale(gradients: Tensor[], scale: number): boolean {
  const { device } = gradients[0]!;
  const foundInf = zeros([1], { device }); // (1)
  ampUnscale_(gradients, foundInf, full([1], Math.fround(1 / scale), { device }));
  return Number(foundInf.item()) > 0;
}

function check(valid: boolean, name: string, expected: string, value: unknown): void {
  if (valid) return;
  throw new TorchBindError(
    `GradScaler: ${name} must be a number ${expected}, got ${describe(value)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
