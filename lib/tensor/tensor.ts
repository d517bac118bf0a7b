import { describe, TorchBindError } from '../errors';
import { Tensor, unwrap, wrap, wrapOptional } from './core';
import type { ToOptions } from './core';
import { overloadSet } from './dispatch';
import { isDType } from './dtype';
import { METHOD_NAMES } from './generated/methods';
import { camelCase, Operator } from './operator';

/** Gives Tensor its operators. Each is looked up in libtorch when it is first called. */
function attachOperators(): void {
  for (const name of METHOD_NAMES.split(' ')) {
    const set = overloadSet(`aten::${name}`);
    Object.defineProperty(Tensor.prototype, camelCase(name), {
      value(this: Tensor, ...args: unknown[]): unknown {
        if (args.length === 0) return set.call1(this);
        return args.length === 1 ? set.call2(this, args[0]) : set.call([this, ...args]);
      },
      writable: true,
      configurable: true,
    });
  }
}

let toOperator: Operator | undefined;

function to(this: Tensor, target: string | Tensor | ToOptions, options: ToOptions = {}): Tensor {
  toOperator ??= new Operator('aten::to', 'dtype_layout');
  const { dtype, device, nonBlocking = false, copy = false } = { ...options, ...conversion(target) };
  if (dtype !== undefined && !isDType(dtype)) {
    throw new TorchBindError(`to(): ${describe(dtype)} is not a dtype.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
  }
  return toOperator.call([this, dtype, undefined, device ?? this.device, undefined, nonBlocking, copy]) as Tensor;
}

function conversion(target: string | Tensor | ToOptions): ToOptions {
  if (target instanceof Tensor) return { dtype: target.dtype, device: target.device };
  if (typeof target === 'string') return isDType(target) ? { dtype: target } : { device: target };
  if (target !== null && typeof target === 'object') return target;
  throw new TorchBindError(
    `to(): expected a dtype, a device or options but received ${describe(target)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

attachOperators();
Object.defineProperties(Tensor.prototype, {
  to: { value: to, writable: true, configurable: true },
  cpu: {
    value(this: Tensor): Tensor {
      return this.to({ device: 'cpu' });
    },
    writable: true,
    configurable: true,
  },
  cuda: {
    value(this: Tensor, index?: number): Tensor {
      return this.to({ device: index === undefined ? 'cuda' : `cuda:${index}` });
    },
    writable: true,
    configurable: true,
  },
  mT: {
    get(this: Tensor): Tensor {
      return this.transpose(-2, -1);
    },
    configurable: true,
  },
});

export { Tensor, unwrap, wrap, wrapOptional };
export type { BackwardOptions, NestedValues, ToOptions } from './core';
