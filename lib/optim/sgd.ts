import type { Parameter } from '../nn/parameter';
import { emptyLike } from '../tensor/generated/functions';
import { keep } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { ANY_NUMBER, AT_LEAST_0, BOOLEAN, kernelNote } from './hyperparameters';
import type { Hyperparameter } from './hyperparameters';
import { fusedSgd } from './kernels';
import { Optimizer } from './optimizer';
import type { GroupOptions, ParameterGroup, Parameters } from './optimizer';
import type { StatePart } from './state-dict';
import { optionsFrom, type Positional } from '../nn/positional';

/** The optional arguments in Python's order. */
const PLACES = ['lr', 'momentum', 'dampening', 'weightDecay', 'nesterov'] as const;

/** Hyperparameters of `SGD`. */
export interface SGDOptions {
  /** Learning rate. Default 1e-3. */
  lr?: number;
  /** Share of the last update that continues. Default 0. */
  momentum?: number;
  /** How much less of the gradient enters the momentum. Default 0. */
  dampening?: number;
  /** L2 penalty. Default 0. */
  weightDecay?: number;
  /** Look ahead along the momentum (Nesterov). Default false. */
  nesterov?: boolean;
  /** Climb instead of descend. Default false. */
  maximize?: boolean;
}

/** Parameters with hyperparameters of their own. */
export interface SGDGroupOptions extends SGDOptions, GroupOptions {}

/** A group of `SGD`. */
export interface SGDGroup extends ParameterGroup, Required<SGDOptions> {
  /** What PyTorch records and this optimizer, which always uses the fused kernel, keeps for it. */
  foreach: boolean | null;
  differentiable: boolean;
  fused: boolean | null;
}

/** In the order of torch 2.13's `param_groups`. */
const HYPERPARAMETERS: Hyperparameter[] = [
  { file: 'lr', name: 'lr', default: 1e-3, kind: 'float', range: AT_LEAST_0 },
  { file: 'momentum', name: 'momentum', default: 0, kind: 'number', range: AT_LEAST_0 },
  { file: 'dampening', name: 'dampening', default: 0, kind: 'number', range: ANY_NUMBER },
  { file: 'weight_decay', name: 'weightDecay', default: 0, kind: 'number', range: AT_LEAST_0 },
  { file: 'nesterov', name: 'nesterov', default: false, kind: 'boolean', range: BOOLEAN },
  { file: 'maximize', name: 'maximize', default: false, kind: 'boolean', range: BOOLEAN },
  kernelNote('foreach'),
  kernelNote('differentiable'),
  kernelNote('fused'),
];

/**
 * Stochastic gradient descent with momentum (PyTorch's `torch.optim.SGD`), by libtorch's fused kernel: bit for bit
 * `torch.optim.SGD(..., fused=True)`, and its state dicts go both ways.
 */
export class SGD extends Optimizer<SGDGroup, SGDGroupOptions> {
  /**
   * @param params parameters (with or without names), or groups of them with options of their own
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT for hyperparameters out of range, or a parameter that comes twice
   */
  constructor(params: Parameters | readonly SGDGroupOptions[], ...rest: Positional<SGDOptions, typeof PLACES>) {
    super({ name: 'SGD', hyperparameters: HYPERPARAMETERS }, params, optionsFrom(rest, PLACES, 'SGD', 1));
  }

  protected override findConflict({ nesterov, momentum, dampening }: SGDGroup): string | undefined {
    const isValid = !nesterov || (momentum > 0 && dampening === 0);
    return isValid
      ? undefined
      : `nesterov needs a momentum above 0 and no dampening, but they are ${momentum} and ${dampening}`;
  }

  /** Without momentum the optimizer has no state. With momentum, the first step creates the buffer. */
  protected override stateParts(): StatePart[] {
    return [{ key: 'momentum_buffer', optional: true }];
  }

  protected override stepGroup(group: SGDGroup): void {
    for (const parameter of group.params) {
      const gradient = parameter.grad;
      if (gradient !== null) this.stepParameter(group, parameter, gradient);
    }
  }

  /**
   * One parameter at a time: its first step fills the momentum buffer and later steps update it, and parameters may
   * differ in that.
   */
  private stepParameter(group: SGDGroup, parameter: Parameter, gradient: Tensor): void {
    const { lr, momentum, dampening, weightDecay, nesterov, maximize } = group;
    const known = this.state.get(parameter)?.get('momentum_buffer') as Tensor | null | undefined;
    const isFirstStep = momentum !== 0 && (known === undefined || known === null);
    const buffer = isFirstStep ? keep(emptyLike(parameter)) : known;
    const buffers = momentum === 0 ? [] : [buffer as Tensor];
    fusedSgd([parameter], [gradient], buffers, {
      weightDecay,
      momentum,
      lr,
      dampening,
      nesterov,
      maximize,
      isFirstStep,
    });
    if (momentum !== 0) this.state.set(parameter, new Map([['momentum_buffer', buffer]]));
  }
}
