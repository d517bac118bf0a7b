import type { Parameter } from '../nn/parameter';
import { noGrad } from '../tensor/autograd';
import { fullLike } from '../tensor/generated/functions';
import { keep } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { batchesOf } from './batches';
import { AT_LEAST_0, BOOLEAN, kernelNote } from './hyperparameters';
import type { Hyperparameter } from './hyperparameters';
import { foreachAdd_, fusedAdagrad } from './kernels';
import { makeStep, Optimizer } from './optimizer';
import type { GroupOptions, ParameterGroup, Parameters } from './optimizer';
import type { ParameterState, StatePart } from './state-dict';
import { optionsFrom, type Positional } from '../nn/positional';

/** The optional arguments in Python's order. */
const PLACES = ['lr', 'lrDecay', 'weightDecay', 'initialAccumulatorValue', 'eps'] as const;

/** Hyperparameters of `Adagrad`. */
export interface AdagradOptions {
  /** Learning rate. Default 1e-2. */
  lr?: number;
  /** The rate is divided by 1 + lrDecay * (number of updates so far). Default 0. */
  lrDecay?: number;
  /** L2 penalty. Default 0. */
  weightDecay?: number;
  /** What the sum of squares starts with. Default 0. */
  initialAccumulatorValue?: number;
  /** Added to the denominator. Default 1e-10. */
  eps?: number;
  /** Climb instead of descend. Default false. */
  maximize?: boolean;
}

/** Parameters with hyperparameters of their own. */
export interface AdagradGroupOptions extends AdagradOptions, GroupOptions {}

/** A group of `Adagrad`. */
export interface AdagradGroup extends ParameterGroup, Required<AdagradOptions> {
  /** What PyTorch records and this optimizer, which always uses the fused kernel, keeps for it. */
  foreach: boolean | null;
  differentiable: boolean;
  fused: boolean | null;
}

/** In the order of torch 2.13's `param_groups`. */
const HYPERPARAMETERS: Hyperparameter[] = [
  { file: 'lr', name: 'lr', default: 1e-2, kind: 'float', range: AT_LEAST_0 },
  { file: 'lr_decay', name: 'lrDecay', default: 0, kind: 'number', range: AT_LEAST_0 },
  { file: 'eps', name: 'eps', default: 1e-10, kind: 'float', range: AT_LEAST_0 },
  { file: 'weight_decay', name: 'weightDecay', default: 0, kind: 'number', range: AT_LEAST_0 },
  {
    file: 'initial_accumulator_value',
    name: 'initialAccumulatorValue',
    default: 0,
    kind: 'number',
    range: AT_LEAST_0,
  },
  kernelNote('foreach'),
  { file: 'maximize', name: 'maximize', default: false, kind: 'boolean', range: BOOLEAN },
  kernelNote('differentiable'),
  kernelNote('fused'),
];

/**
 * Adagrad (PyTorch's `torch.optim.Adagrad`; Duchi et al. 2011), by libtorch's fused kernel: bit for bit
 * `torch.optim.Adagrad(..., fused=True)`, and its state dicts go both ways.
 */
export class Adagrad extends Optimizer<AdagradGroup, AdagradGroupOptions> {
  /**
   * @param params parameters (with or without names), or groups of them with options of their own
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT for hyperparameters out of range, or a parameter that comes twice
   */
  constructor(params: Parameters | readonly AdagradGroupOptions[], ...rest: Positional<AdagradOptions, typeof PLACES>) {
    super({ name: 'Adagrad', hyperparameters: HYPERPARAMETERS }, params, optionsFrom(rest, PLACES, 'Adagrad', 1));
  }

  /** Creates the state in the constructor, as in PyTorch. */
  override addParamGroup(options: AdagradGroupOptions): void {
    super.addParamGroup(options);
    const group = this.paramGroups.at(-1)!;
    for (const parameter of group.params) stateOf(this, parameter, group);
  }

  protected override stateParts(): StatePart[] {
    return [{ key: 'step' }, { key: 'sum' }];
  }

  protected override stepGroup(group: AdagradGroup): void {
    const { lr, lrDecay, weightDecay, eps, maximize } = group;
    const batches = batchesOf(group.params, (parameter) => {
      const state = stateOf(this, parameter, group);
      return [state.get('sum') as Tensor, state.get('step') as Tensor];
    });
    for (const [params, gradients, sums, steps] of batches) {
      foreachAdd_(steps!, 1);
      fusedAdagrad(params, gradients, sums!, steps!, { lr, lrDecay, weightDecay, eps, maximize });
    }
  }
}

function stateOf({ state }: Adagrad, parameter: Parameter, { initialAccumulatorValue }: AdagradGroup): ParameterState {
  let values = state.get(parameter);
  if (values === undefined) {
    values = new Map<string, unknown>([
      ['step', makeStep(parameter, 0)],
      ['sum', keep(noGrad(() => fullLike(parameter, initialAccumulatorValue)))],
    ]);
    state.set(parameter, values);
  }
  return values;
}
