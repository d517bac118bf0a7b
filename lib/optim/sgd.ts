import { checkOptions, describe, isAtLeast, requireOptions, TorchBindError } from '../errors';
import type { Parameter } from '../nn/parameter';
import { keep } from '../tensor/scope';
import { emptyLike } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { fusedSgd } from './kernels';
import { isGroups, Optimizer } from './optimizer';
import type { Hyperparameter, ParameterGroup, Parameters } from './optimizer';

export interface SGDOptions {
  /** Learning rate. Default 1e-3. */
  lr?: number;
  /** Share of the last update that goes on. Default 0. */
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
export interface SGDGroupOptions extends SGDOptions {
  params: Parameters;
}

/** A group of `SGD`. */
export interface SGDGroup extends ParameterGroup, Required<SGDOptions> {
  /** What PyTorch records and this optimizer, which always uses the fused kernel, keeps for it. */
  foreach: boolean | null;
  differentiable: boolean;
  fused: boolean | null;
}

const OPTION_NAMES = ['lr', 'momentum', 'dampening', 'weightDecay', 'nesterov', 'maximize'];

/** In the order of torch 2.13's `param_groups`. */
function hyperparameters(options: SGDOptions): Hyperparameter[] {
  return [
    { file: 'lr', name: 'lr', default: options.lr ?? 1e-3, kind: 'float' },
    { file: 'momentum', name: 'momentum', default: options.momentum ?? 0, kind: 'number' },
    { file: 'dampening', name: 'dampening', default: options.dampening ?? 0, kind: 'number' },
    { file: 'weight_decay', name: 'weightDecay', default: options.weightDecay ?? 0, kind: 'number' },
    { file: 'nesterov', name: 'nesterov', default: options.nesterov ?? false, kind: 'plain' },
    { file: 'maximize', name: 'maximize', default: options.maximize ?? false, kind: 'plain' },
    { file: 'foreach', name: 'foreach', default: null, kind: 'plain' },
    { file: 'differentiable', name: 'differentiable', default: false, kind: 'plain' },
    { file: 'fused', name: 'fused', default: null, kind: 'plain' },
  ];
}

/** Stochastic gradient descent with momentum (PyTorch's `torch.optim.SGD`), by libtorch's fused kernel. */
export class SGD extends Optimizer<SGDGroup> {
  /**
   * @param params parameters (with or without names), or groups of them with options of their own
   * @throws ERR_TORCHBIND_INVALID_ARGUMENT for hyperparameters out of range, or a parameter that comes twice
   */
  constructor(params: Parameters | readonly SGDGroupOptions[], options: SGDOptions = {}) {
    checkOptions(options, OPTION_NAMES, 'SGD');
    super(hyperparameters(options));
    if (isGroups(params)) params.forEach((group) => this.addParamGroup(group));
    else this.addGroup(params, {});
  }

  /** Adds a group (PyTorch's `add_param_group`). */
  addParamGroup(group: SGDGroupOptions): void {
    requireOptions(group, ['params', ...OPTION_NAMES], 'SGD: parameter group');
    const { params, ...options } = group;
    this.addGroup(params, options);
  }

  protected override checkGroup({ lr, momentum, dampening, weightDecay, nesterov }: SGDGroup): void {
    for (const [name, value] of Object.entries({ lr, momentum, weightDecay })) {
      if (!isAtLeast(value, 0)) {
        const shown = typeof value === 'number' ? value : describe(value);
        throw new TorchBindError(`SGD: ${name} must be 0 or more, but is ${shown}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
      }
    }
    if (nesterov && (momentum <= 0 || dampening !== 0)) {
      throw new TorchBindError(
        'SGD: nesterov needs a momentum above 0 and no dampening.',
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
  }

  protected override stepGroup(group: SGDGroup): void {
    for (const parameter of group.params) {
      const gradient = parameter.grad;
      if (gradient !== null) this.stepParameter(group, parameter, gradient);
    }
  }

  /** One at a time: a first step fills the momentum buffer, later ones update it, and parameters may differ in that. */
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
