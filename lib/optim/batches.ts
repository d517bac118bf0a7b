import type { Parameter } from '../nn/parameter';
import type { Tensor } from '../tensor/tensor';

/** Where a tensor is and of what dtype: one call of a foreach or fused kernel takes tensors of one place. */
function placeOf(tensor: Tensor): string {
  return `${tensor.device} ${tensor.dtype}`;
}

/** Tensors that one foreach call takes. */
export function byPlace(tensors: readonly Tensor[]): Tensor[][] {
  return columnsByPlace(tensors, (tensor) => [tensor]).map(([column]) => column!);
}

/**
 * What one fused call updates: for each place the parameters that have a gradient, their gradients, and a list for each
 * tensor that `stateOf` gives.
 */
export function batchesOf(
  parameters: readonly Parameter[],
  stateOf: (parameter: Parameter) => Tensor[],
): (readonly [params: Tensor[], gradients: Tensor[], ...state: Tensor[][]])[] {
  const gradients = new Map<Parameter, Tensor>();
  for (const parameter of parameters) {
    const gradient = parameter.grad;
    if (gradient !== null) gradients.set(parameter, gradient);
  }
  return columnsByPlace([...gradients.keys()], (parameter) => [
    parameter,
    gradients.get(parameter)!,
    ...stateOf(parameter),
  ]) as [Tensor[], Tensor[], ...Tensor[][]][];
}

/** A row of tensors for each item, as columns for each place. */
function columnsByPlace<T extends Tensor>(items: readonly T[], rowOf: (item: T) => Tensor[]): Tensor[][][] {
  const places = new Map<string, Tensor[][]>();
  for (const item of items) {
    const row = rowOf(item);
    const columns = places.get(placeOf(item)) ?? row.map(() => []);
    places.set(placeOf(item), columns);
    row.forEach((tensor, i) => columns[i]!.push(tensor));
  }
  return [...places.values()];
}
