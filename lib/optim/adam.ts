import type { Parameter } from '../nn/parameter';
import { zerosLike } from '../tensor/generated/functions';
import { keep } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { batchesOf } from './batches';
import { AT_LEAST_0, BETAS, BOOLEAN, kernelNote } from './hyperparameters';
import type { Hyperparameter } from './hyperparameters';
import { foreachAdd_, fusedAdam, fusedAdamW } from './kernels';
import { makeStep, Optimizer } from './optimizer';
import type { GroupOptions, ParameterGroup, Parameters } from './optimizer';
import type { ParameterState, StatePart } from './state-dict';
import { optionsFrom, type Positional } from '../nn/positional';

/** The optional arguments in Python's order. */
const PLACES = ['lr', 'betas', 'eps', 'weightDecay', 'amsgrad'] as const;

/** Hyperparameters of `AdamW`. */
export interface AdamWOptions {
  /** Learning rate. Default 1e-3. */
  lr?: number;
  /** Decay rates of the two moments. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the denominator. Default 1e-8. */
  eps?: number;
  /** Decoupled weight decay. Default 1e-2. */
  weightDecay?: number;
  /** Divide by the largest second moment so far (Reddi et al. 2018). Default false. */
  amsgrad?: boolean;
  /** Climb instead of descend. Default false. */
  maximize?: boolean;
}

/** Hyperparameters of `Adam`. */
export interface AdamOptions extends AdamWOptions {
  /** L2 penalty. Default 0. */
  weightDecay?: number;
  /** Take `weightDecay` as `AdamW` does. Default false. */
  decoupledWeightDecay?: boolean;
}

/** Parameters with hyperparameters of their own. */
export interface AdamWGroupOptions extends AdamWOptions, GroupOptions {}

/** Parameters with hyperparameters of their own. */
export interface AdamGroupOptions extends AdamOptions, GroupOptions {}

/** A group of `Adam` or `AdamW`. Change any of its hyperparameters between steps, `lr` for a schedule. */
export interface AdamGroup extends ParameterGroup {
  lr: number;
  betas: readonly [number, number];
  eps: number;
  weightDecay: number;
  amsgrad: boolean;
  maximize: boolean;
  /** What PyTorch records and this optimizer, which always uses the fused kernel, keeps for it. */
  foreach: boolean | null;
  capturable: boolean;
  differentiable: boolean;
  fused: boolean | null;
  decoupledWeightDecay: boolean;
}

/** A group of `AdamW`. */
export type AdamWGroup = AdamGroup;

/** In the order of torch 2.13's `param_groups`. */
function hyperparameters(weightDecay: Hyperparameter, decoupledWeightDecay: Hyperparameter): Hyperparameter[] {
  return [
    { file: 'lr', name: 'lr', default: 1e-3, kind: 'float', range: AT_LEAST_0 },
    { file: 'betas', name: 'betas', default: [0.9, 0.999], kind: 'floats', range: BETAS },
    { file: 'eps', name: 'eps', default: 1e-8, kind: 'float', range: AT_LEAST_0 },
    weightDecay,
    { file: 'amsgrad', name: 'amsgrad', default: false, kind: 'boolean', range: BOOLEAN },
    { file: 'maximize', name: 'maximize', default: false, kind: 'boolean', range: BOOLEAN },
    kernelNote('foreach'),
    kernelNote('capturable'),
    kernelNote('differentiable'),
    kernelNote('fused'),
    decoupledWeightDecay,
  ];
}

const DECAY = { file: 'weight_decay', name: 'weightDecay', range: AT_LEAST_0 } as const;
const DECOUPLED = { file: 'decoupled_weight_decay', name: 'decoupledWeightDecay' } as const;

const ADAM = {
  name: 'Adam',
  hyperparameters: hyperparameters(
    { ...DECAY, default: 0, kind: 'number' },
    { ...DECOUPLED, default: false, kind: 'boolean', range: BOOLEAN },
  ),
};

const ADAMW = {
  name: 'AdamW',
  hyperparameters: hyperparameters(
    { ...DECAY, default: 1e-2, kind: 'float' },
    { ...DECOUPLED, default: true, kind: 'plain' },
  ),
};

abstract class AdamBase<Options extends GroupOptions> extends Optimizer<AdamGroup, Options> {
  /** @internal float32 (): the step that is made while it is 1 changes nothing (PyTorch's attribute of this name). Nobody waits for its value. */
  foundInf: Tensor | undefined;

  protected override stateParts({ amsgrad }: AdamGroup): StatePart[] {
    return ['step', 'exp_avg', 'exp_avg_sq', ...(amsgrad ? ['max_exp_avg_sq'] : [])].map((key) => ({ key }));
  }

  protected override stepGroup(group: AdamGroup): void {
    const { lr, betas, weightDecay, eps, amsgrad, maximize, decoupledWeightDecay } = group;
    const { foundInf } = this;
    const options = { lr, beta1: betas[0], beta2: betas[1], weightDecay, eps, amsgrad, maximize, foundInf };
    const counted = foundInf === undefined ? 1 : foundInf.neg().add(1); // 0 for a step that the kernel skips
    const fused = decoupledWeightDecay ? fusedAdamW : fusedAdam;
    const batches = batchesOf(group.params, (parameter) => {
      const state = this.#stateOf(parameter, group);
      return this.stateParts(group).map(({ key }) => state.get(key) as Tensor);
    });
    for (const [params, gradients, steps, expAvgs, expAvgSqs, maxExpAvgSqs = []] of batches) {
      foreachAdd_(steps!, counted);
      fused(params, gradients, expAvgs!, expAvgSqs!, maxExpAvgSqs, steps!, options);
    }
  }

  #stateOf(parameter: Parameter, group: AdamGroup): ParameterState {
    let state = this.state.get(parameter);
    if (state === undefined) {
      state = new Map([['step', makeStep(parameter, 0)]]);
      this.state.set(parameter, state);
    }
    for (const { key } of this.stateParts(group)) {
      if (!state.has(key)) state.set(key, keep(zerosLike(parameter)));
    }
    return state;
  }
}

/**
 * Adam (PyTorch's `torch.optim.Adam`; Kingma and Ba 2014), by libtorch's fused kernel: bit for bit
 * `torch.optim.Adam(..., fused=True)`, and its state dicts go both ways.
 */
export class Adam extends AdamBase<AdamGroupOptions> {
  /**
   * @param params parameters (with or without names), or groups of them with options of their own
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT for hyperparameters out of range, or a parameter that comes twice
   */
  constructor(params: Parameters | readonly AdamGroupOptions[], ...rest: Positional<AdamOptions, typeof PLACES>) {
    super(ADAM, params, optionsFrom(rest, PLACES, 'Adam', 1));
  }
}

/**
 * Adam with decoupled weight decay (PyTorch's `torch.optim.AdamW`; Loshchilov and Hutter 2019), by libtorch's fused
 * kernel: bit for bit `torch.optim.AdamW(..., fused=True)`, and its state dicts go both ways.
 */
export class AdamW extends AdamBase<AdamWGroupOptions> {
  /**
   * @param params parameters (with or without names), or groups of them with options of their own
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT for hyperparameters out of range, or a parameter that comes twice
   */
  constructor(params: Parameters | readonly AdamWGroupOptions[], ...rest: Positional<AdamWOptions, typeof PLACES>) {
    super(ADAMW, params, optionsFrom(rest, PLACES, 'AdamW', 1));
  }

  /** Ignores the state dict, like PyTorch's AdamW, even with the state of an Adam. */
  override loadStateDict(stateDict: ReadonlyMap<string, unknown>): void {
    super.loadStateDict(stateDict);
    for (const group of this.paramGroups) group.decoupledWeightDecay = true;
  }
}
