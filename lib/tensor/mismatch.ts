import { closest, describe, TorchBindError } from '../errors';
import { Tensor } from './core';
import { isOptions } from './operator';
import type { Operator } from './operator';

/** NumPy's names of arguments, which Python's functions take too. */
const NUMPY_NAMES: ReadonlyMap<string, string> = new Map([
  ['axis', 'dim'],
  ['keepdims', 'keepdim'],
]);

/** The error for arguments that no overload takes: what was given, what is expected, what to do. */
export function mismatch(name: string, overloads: readonly Operator[], args: readonly unknown[]): TorchBindError {
  const got = args.map(describeArgument).join(', ');
  const candidates = withoutOut(overloads).map((operator) => ` * ${operator.declaration}`);
  return new TorchBindError(
    `${name.replace(/^aten::/, '')}() received an invalid combination of arguments: got (${got}), but expected one of:\n${candidates.join('\n')}${hint(overloads, args)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function withoutOut(overloads: readonly Operator[]): Operator[] {
  return overloads.filter((operator) => !operator.hasOut);
}

function hint(overloads: readonly Operator[], args: readonly unknown[]): string {
  const last = args[args.length - 1];
  if (!isOptions(last)) return positionalHint(overloads, args);
  const keys = new Set(overloads.flatMap((operator) => operator.parameters.map((parameter) => parameter.key)));
  const stray = Object.keys(last).find((key) => !keys.has(key));
  if (stray === undefined) return '';
  const near = NUMPY_NAMES.get(stray) ?? closest(stray, [...keys]);
  return `\nUnknown option '${stray}'.${near === undefined ? '' : ` Did you mean '${near}'?`}`;
}

function positionalHint(overloads: readonly Operator[], args: readonly unknown[]): string {
  for (const [i, value] of args.entries()) {
    const bases = new Set(withoutOut(overloads).map((operator) => operator.parameters[i]?.base));
    const only = bases.size === 1 ? [...bases][0] : undefined;
    if (only === 'int' && typeof value === 'number' && !Number.isInteger(value)) {
      return `\nAn index, a dimension or a size is a whole number, not ${value}.`;
    }
    const takesList = overloads.some((operator) => operator.parameters[i]?.list === true);
    if (only === 'tensor' && takesList && value instanceof Tensor) return '\nThe tensors come in one array: [a, b].';
    if (only === 'tensor' && (typeof value === 'number' || Array.isArray(value))) {
      return '\nNumbers become a tensor with tensor(...).';
    }
  }
  return '';
}

export function describeArgument(value: unknown): string {
  if (value instanceof Tensor) return 'Tensor';
  if (Array.isArray(value))
    return `[${value.slice(0, 8).map(describeArgument).join(', ')}${value.length > 8 ? ', ...' : ''}]`;
  if (isOptions(value)) return `{ ${Object.keys(value).join(', ')} }`.replace('{  }', '{}');
  return describe(value);
}
