import { checkOptions } from '../errors';
import { markParameter } from '../formats/pt/tensor-marks';
import { keep, tidy } from '../tensor/scope';
import { Tensor, unwrap } from '../tensor/tensor';

/**
 * A tensor that a module learns (PyTorch's `torch.nn.Parameter`): assigned to a property of a `Module`, it is among
 * the module's parameters.
 *
 * It shares memory with `data` and belongs to no `tidy()` scope: it lives until it is disposed or nothing refers to it.
 */
export class Parameter extends Tensor {
  /**
   * @param data the initial values; its own gradient history is left behind
   * @param options.requiresGrad whether gradients are computed for it; default true
   */
  constructor(data: Tensor, options: { requiresGrad?: boolean } = {}) {
    checkOptions(options, ['requiresGrad'], 'Parameter');
    unwrap(data, 'Parameter');
    const own = keep(data.detach());
    super(own.handle);
    this.token = own.token;
    this.requiresGrad = options.requiresGrad ?? true;
    markParameter(this);
  }
}

/** @internal A parameter of values that nobody else holds. */
export function makeParameter(values: () => Tensor): Parameter {
  return tidy(() => new Parameter(values()));
}
