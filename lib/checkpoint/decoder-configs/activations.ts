import { describe, TorchBindError } from '../../errors';
import { type Activation, isGated } from '../../models/config';
import type { JsonObject } from '../files';

/** Refuses a field of a config.json, which should be what `expected` says. */
export type Refuse = (field: string, expected: string) => never;

export function refuserOf(json: JsonObject): Refuse {
  return (field, expected) => {
    throw new TorchBindError(
      `expected ${field} to be ${expected}, got ${describe(json[field])}, which torchbind does not support.`,
      'ERR_TORCHBIND_CONFIG',
    );
  };
}

/** transformers' names of the activations of GPT-2, each after those that newer versions write. */
export const gpt2Activations: Readonly<Record<string, Activation>> = {
  gelu_new: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu: 'gelu',
  gelu_python: 'gelu',
  relu: 'relu',
  silu: 'silu',
  swish: 'silu',
  quick_gelu: 'quick_gelu',
  tanh: 'tanh',
};

const activations: Readonly<Record<string, Activation>> = {
  ...gpt2Activations,
  gelu_python_tanh: 'gelu_tanh',
  relu2: 'relu2',
};
const gated: Partial<Record<Activation, Activation>> = { silu: 'swiglu', gelu: 'geglu', gelu_tanh: 'geglu_tanh' };

/** The activation that a field names. */
export function readActivation(json: JsonObject, field: string, isGate: boolean, refuse: Refuse): Activation {
  const name = json[field];
  const plain = typeof name === 'string' && Object.hasOwn(activations, name) ? activations[name]! : undefined;
  const known = Object.keys(activations).filter((each) => !isGate || gated[activations[each]!] !== undefined);
  const found = plain === undefined || !isGate ? plain : gated[plain];
  return found ?? refuse(field, `one of ${known.join(', ')}`);
}

/** transformers' name of an activation, or of the gate's. */
export function activationName(activation: Activation): string {
  const plain = isGated(activation)
    ? ({ swiglu: 'silu', geglu: 'gelu', geglu_tanh: 'gelu_tanh' } as const)[activation]
    : activation;
  if (plain === 'gelu_tanh') return 'gelu_pytorch_tanh';
  return Object.keys(activations).find((name) => activations[name] === plain)!;
}
