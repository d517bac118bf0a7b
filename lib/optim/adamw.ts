import { checkOptions, describe, isAtLeast, requireOptions, TorchBindError } from '../errors';
import type { Parameter } from '../nn/parameter';
import { full } from '../tensor/creation';
import { zerosLike } from '../tensor/generated/functions';
import { keep } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { foreachAdd_, fusedAdamW } from './kernels';
import { isGroups, Optimizer, stepValue } from './optimizer';
import type { Hyperparameter, ParameterGroup, Parameters, ParameterState } from './optimizer';

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

/** Parameters with hyperparameters of their own. */
export interface AdamWGroupOptions extends AdamWOptions {
  params: Parameters;
}

/** A group of `AdamW`. Change any of its hyperparameters between steps, `lr` for a schedule. */
export interface AdamWGroup extends ParameterGroup {
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

const OPTION_NAMES = ['lr', 'betas', 'eps', 'weightDecay', 'amsgrad', 'maximize'];

/** In the order of torch 2.13's `param_groups`. */
function hyperparameters(options: AdamWOptions): Hyperparameter[] {
  return [
    { file: 'lr', name: 'lr', default: options.lr ?? 1e-3, kind: 'float' },
    { file: 'betas', name: 'betas', default: options.betas ?? [0.9, 0.999], kind: 'floats' },
    { file: 'eps', name: 'eps', default: options.eps ?? 1e-8, kind: 'float' },
    { file: 'weight_decay', name: 'weightDecay', default: options.weightDecay ?? 1e-2, kind: 'float' },
    { file: 'amsgrad', name: 'amsgrad', default: options.amsgrad ?? false, kind: 'plain' },
    { file: 'maximize', name: 'maximize', default: options.maximize ?? false, kind: 'plain' },
    { file: 'foreach', name: 'foreach', default: null, kind: 'plain' },
    { file: 'capturable', name: 'capturable', default: false, kind: 'plain' },
    { file: 'differentiable', name: 'differentiable', default: false, kind: 'plain' },
    { file: 'fused', name: 'fused', default: null, kind: 'plain' },
    { file: 'decoupled_weight_decay', name: 'decoupledWeightDecay', default: true, kind: 'plain' },
  ];
}

/**
 * Adam with decoupled weight decay (PyTorch's `torch.optim.AdamW`; Loshchilov and Hutter 2019), by libtorch's fused
 * kernel: bit for bit `torch.optim.AdamW(..., fused=True)`, and its state dicts go both ways.
 */
export class AdamW extends Optimizer<AdamWGroup> {
  /**
   * @param params parameters (with or without names), or groups of them with options of their own
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT for hyperparameters out of range, or a parameter that comes twice
   */
  constructor(params: Parameters | readonly AdamWGroupOptions[], options: AdamWOptions = {}) {
    checkOptions(options, OPTION_NAMES, 'AdamW');
    super(hyperparameters(options));
    if (isGroups(params)) params.forEach((group) => this.addParamGroup(group));
    else this.addGroup(params, {});
  }

  /** Adds a group, for instance of layers that were frozen until now (PyTorch's `add_param_group`). */
  addParamGroup(group: AdamWGroupOptions): void {
    requireOptions(group, ['params', ...OPTION_NAMES], 'AdamW: parameter group');
    const { params, ...options } = group;
    this.addGroup(params, options);
  }

  protected override checkGroup({ lr, betas, eps, weightDecay }: AdamWGroup): void {
    check(isAtLeast(lr, 0), 'learning rate', lr, '0 or more');
    check(isAtLeast(eps, 0), 'eps', eps, '0 or more');
    check(isAtLeast(weightDecay, 0), 'weightDecay', weightDecay, '0 or more');
    check(
      Array.isArray(betas) && betas.length === 2 && betas.every((beta) => isAtLeast(beta, 0) && beta < 1),
      'betas',
      betas,
      'two numbers from 0 to below 1',
    );
  }

  protected override stepGroup(group: AdamWGroup): void {
    const batches = new Map<string, Batch>();
    for (const parameter of group.params) {
      const gradient = parameter.grad;
      if (gradient === null) continue;
      const place = `${parameter.device} ${parameter.dtype}`;
      const batch = batches.get(place) ?? new Batch();
      batches.set(place, batch);
      batch.add(parameter, gradient, this.stateOf(parameter, group.amsgrad), group.amsgrad);
    }
    for (const batch of batches.values()) batch.step(group);
  }

  private stateOf(parameter: Parameter, amsgrad: boolean): ParameterState {
    let state = this.state.get(parameter);
    if (state === undefined) {
      state = new Map([['step', makeStep(parameter, 0)]]);
      this.state.set(parameter, state);
    }
    for (const key of ['exp_avg', 'exp_avg_sq', ...(amsgrad ? ['max_exp_avg_sq'] : [])]) {
      if (!state.has(key)) state.set(key, keep(zerosLike(parameter)));
    }
    return state;
  }

  protected override copyValue(parameter: Parameter, key: string, value: unknown): unknown {
    return key === 'step' ? makeStep(parameter, stepValue(value)) : super.copyValue(parameter, key, value);
  }

  /** As PyTorch's default writes it, step counters are on the CPU. */
  override stateDict(): Map<string, unknown> {
    const stateDict = super.stateDict();
    for (const values of (stateDict.get('state') as Map<number, ParameterState>).values()) {
      const step = values.get('step') as Tensor;
      if (step.device !== 'cpu') values.set('step', step.to('cpu'));
    }
    return stateDict;
  }
}

/** A step counter, float32 (): where the parameter is, because the fused kernels read it there. */
function makeStep(parameter: Parameter, value: number): Tensor {
  return keep(full([], value, { dtype: 'float32', device: parameter.device }));
}

/** Tensors that one call of the fused kernel updates: all of one device and dtype. */
class Batch {
  private readonly params: Tensor[] = [];
  private readonly gradients: Tensor[] = [];
  private readonly expAvgs: Tensor[] = [];
  private readonly expAvgSqs: Tensor[] = [];
  private readonly maxExpAvgSqs: Tensor[] = [];
  private readonly steps: Tensor[] = [];

  add(parameter: Parameter, gradient: Tensor, state: ParameterState, amsgrad: boolean): void {
    this.params.push(parameter);
    this.gradients.push(gradient);
    this.expAvgs.push(state.get('exp_avg') as Tensor);
    this.expAvgSqs.push(state.get('exp_avg_sq') as Tensor);
    if (amsgrad) this.maxExpAvgSqs.push(state.get('max_exp_avg_sq') as Tensor);
    this.steps.push(state.get('step') as Tensor);
  }

  step({ lr, betas: [beta1, beta2], weightDecay, eps, amsgrad, maximize }: AdamWGroup): void {
    foreachAdd_(this.steps, 1);
    const options = { lr, beta1, beta2, weightDecay, eps, amsgrad, maximize };
    fusedAdamW(this.params, this.gradients, this.expAvgs, this.expAvgSqs, this.maxExpAvgSqs, this.steps, options);
  }
}

/** Numbers as they are; what is none by its kind. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return value.map(shown).join(',');
  return typeof value === 'number' ? String(value) : describe(value);
}

function check(valid: boolean, name: string, value: unknown, range: string): void {
  if (valid) return;
  throw new TorchBindError(
    `AdamW: ${name} must be ${range}, but is ${shown(value)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
