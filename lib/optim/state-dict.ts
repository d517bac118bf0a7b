import { describe, TorchBindError } from '../errors';
import type { Parameter } from '../nn/parameter';
import { sameShape, size } from '../nn/state-dict';
import { plainNumber } from '../pickle/types';
import type { DType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';

/** State of one parameter, by PyTorch's keys. */
export type ParameterState = Map<string, unknown>;

/** A parameter group as it is in a state dict. */
export interface FileGroup {
  params: unknown[];
  values: ReadonlyMap<string, unknown>;
}

/** An error about an optimizer's state dict. */
export function stateDictError(reason: string): TorchBindError {
  return new TorchBindError(`The optimizer's state dict does not fit: ${reason}`, 'ERR_TORCHBIND_OPTIMIZER_STATE');
}

/**
 * The two halves of a `torch.optim` state dict, checked for their form.
 *
 * @throws ERR_TORCHBIND_OPTIMIZER_STATE
 */
export function readStateDict(stateDict: ReadonlyMap<string, unknown>): {
  state: Map<unknown, ParameterState>;
  groups: FileGroup[];
} {
  if (!(stateDict instanceof Map))
    throw stateDictError(`expected a Map with 'state' and 'param_groups', got ${describe(stateDict)}.`);
  const state: unknown = stateDict.get('state');
  const groups: unknown = stateDict.get('param_groups');
  if (!(state instanceof Map)) throw stateDictError(`its 'state' should be a dict but is ${describe(state)}.`);
  if (!Array.isArray(groups)) throw stateDictError(`its 'param_groups' should be a list but is ${describe(groups)}.`);
  for (const [index, values] of state) {
    if (!(values instanceof Map))
      throw stateDictError(`its state of parameter ${String(index)} should be a dict but is ${describe(values)}.`);
  }
  return {
    state: state as Map<unknown, ParameterState>,
    groups: groups.map((group: unknown, i) => {
      const params: unknown = group instanceof Map ? group.get('params') : undefined;
      if (!(group instanceof Map) || !Array.isArray(params))
        throw stateDictError(`its parameter group ${i} should be a dict with a list 'params'.`);
      return { params, values: group as Map<string, unknown> };
    }),
  };
}

/** The step count of a state entry: a tensor with one element, or the plain number of torch before 1.12. */
export function stepValue(step: unknown): number {
  if (step instanceof Tensor && step.numel() === 1) return Number(step.item());
  const number = plainNumber(step);
  if (number !== undefined) return number;
  throw stateDictError(`a 'step' should be a number or a tensor with one element but is ${describe(step)}.`);
}

/** One entry of a parameter's state: `step`, or a tensor of the parameter's shape. */
export interface StatePart {
  key: string;
  /** It may be absent or None: the next step begins it. */
  optional?: boolean;
}

/** Refuses a parameter's state that lacks a part, or has one of another shape or kind of number than the parameter. */
export function checkState(
  values: ParameterState,
  parameter: Parameter,
  parts: readonly StatePart[],
  where: string,
): void {
  for (const { key, optional = false } of parts) {
    const value = values.get(key) ?? undefined;
    if (value === undefined && !optional) {
      const found = values.size === 0 ? 'nothing' : [...values.keys()].map((name) => `'${name}'`).join(', ');
      throw stateDictError(
        `the state of ${where} lacks '${key}': it holds ${found}. It was cut off, or another class of optimizer wrote it.`,
      );
    }
    if (value !== undefined && key !== 'step' && !(value instanceof Tensor))
      throw stateDictError(`expected a tensor for '${key}' of ${where}, got ${describe(value)}.`);
  }
  for (const [key, value] of values) {
    if (key === 'step') checkStep(value, where);
    else if (value instanceof Tensor) checkTensor(value, parameter, key, where);
  }
}

function checkStep(step: unknown, where: string): void {
  const isTensor = step instanceof Tensor && step.numel() === 1;
  const isNumber = plainNumber(step) !== undefined;
  if ((isTensor || isNumber) && stepValue(step) >= 0 && Number.isFinite(stepValue(step))) return;
  const got = isTensor || isNumber ? String(stepValue(step)) : describe(step);
  throw stateDictError(`expected a count of steps, or a tensor with one, for 'step' of ${where}, got ${got}.`);
}

function checkTensor(value: Tensor, parameter: Parameter, key: string, where: string): void {
  if (!sameShape(value.shape, parameter.shape)) {
    throw stateDictError(
      `'${key}' of ${where} has shape ${size(value.shape)}, the parameter ${size(parameter.shape)}. ` +
        'The state belongs to another model, or to parameters in another order.',
    );
  }
  const wanted = kindOf(parameter.dtype);
  if (kindOf(value.dtype) !== wanted) {
    throw stateDictError(
      `expected ${wanted} numbers for '${key}' of ${where}, which is ${parameter.dtype}, got ${value.dtype}.`,
    );
  }
}

function kindOf(dtype: DType): string {
  if (dtype.startsWith('complex')) return 'complex';
  return /^b?float/.test(dtype) ? 'floating-point' : 'integral';
}
