import { closest, TorchBindError } from '../errors';
import { native } from '../native/native';

/** Overload names by operator: `aten::add` -> ['Tensor', 'Scalar', 'out', ...]. */
let byOperator: Map<string, string[]> | undefined;

function table(): Map<string, string[]> {
  if (byOperator === undefined) {
    byOperator = new Map();
    for (const full of native().operatorNames()) {
      const dot = full.indexOf('.');
      const base = dot < 0 ? full : full.slice(0, dot);
      const overload = dot < 0 ? '' : full.slice(dot + 1);
      const known = byOperator.get(base);
      if (known === undefined) byOperator.set(base, [overload]);
      else known.push(overload);
    }
  }
  return byOperator;
}

/** The overloads that libtorch has registered of an operator; undefined for an operator that it does not have. */
export function overloadNames(name: string): readonly string[] | undefined {
  return table().get(name);
}

/** Rereads the names on the next request, after a library has registered more. */
export function forgetOverloadNames(): void {
  byOperator = undefined;
}

export function unknownOperator(name: string): TorchBindError {
  const near = closest(name, [...table().keys()]);
  return new TorchBindError(
    `libtorch has no operator ${name}.${near === undefined ? '' : ` Did you mean ${near}?`}`,
    'ERR_TORCHBIND_UNKNOWN_OPERATOR',
  );
}
