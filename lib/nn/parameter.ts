import { checkOptions } from '../errors';
import { markParameter } from '../formats/pt/tensor-marks';
import { native } from '../native/native';
import { empty } from '../tensor/creation';
import { bindFunction } from '../tensor/dispatch';
import { itemSize } from '../tensor/dtype';
import type { TensorOptions } from '../tensor/tensor-options';
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

/** @internal A parameter whose values are unset. */
export function emptyParameter(shape: number[], options: TensorOptions, requiresGrad = true): Parameter {
  // One element stands for all of them.
  const values = (): Tensor => (withoutMemory ? empty([], options).expand(shape) : empty(shape, options));
  return tidy(() => new Parameter(values(), { requiresGrad }));
}

let withoutMemory = false;

/**
 * @internal Makes a module for values that are loaded next, by `adoptStateDict`: parameters with unset values have no memory of their
 * own until then. It takes longer to make and free 1 GB than to map a file.
 */
export function withPlaceholders<T>(make: () => T): T {
  const before = withoutMemory;
  withoutMemory = true;
  try {
    return make();
  } finally {
    withoutMemory = before;
  }
}

/** @internal Gives placeholders that are left memory of their own. Returns whether there were any. */
export function materialise(parameters: readonly Parameter[]): boolean {
  const left = parameters.filter((parameter) => {
    const bytes = parameter.numel() * itemSize(parameter.dtype);
    return native().storageInfo(parameter.handle).nbytes < bytes;
  });
  tidy(() => {
    for (const parameter of left) {
      const { shape, dtype, device } = parameter;
      setData(parameter, empty(shape, { dtype, device }));
    }
  });
  return left.length > 0;
}

/** @internal Assignment to `Tensor.data`. */
export const setData = bindFunction<(tensor: Tensor, data: Tensor) => void>('set_data');
