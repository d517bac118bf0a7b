import type { Parameter } from '../nn/parameter';
import type { AnyOptimizer } from '../optim';
import { Tensor } from '../tensor/tensor';
import { receiveLent } from './posted-module';

/** A part of an optimizer's state for a parameter, as `exp_avg`: a tensor's ticket, or another value. */
export interface PostedState {
  /** The parameter's number among the model's tensors. */
  parameter: number;
  key: string;
  ticket?: number;
  value?: unknown;
}

/** A part of an optimizer's state, before it is posted. */
export interface StatePart {
  parameter: number;
  key: string;
  value: unknown;
}

/** Parts as they are posted, with the tickets that `lend` gives for their tensors. */
export function postState(parts: readonly StatePart[], lend: (tensors: readonly Tensor[]) => number[]): PostedState[] {
  const tickets = lend(parts.flatMap(({ value }) => (value instanceof Tensor ? [value] : [])));
  let next = 0;
  return parts.map(({ parameter, key, value }) =>
    value instanceof Tensor ? { parameter, key, ticket: tickets[next++]! } : { parameter, key, value },
  );
}

/** The value of a part that was posted. */
export function receiveState({ ticket, value }: PostedState): unknown {
  return ticket === undefined ? value : receiveLent(ticket);
}

/** Puts a part into an optimizer's state. */
export function putState(state: AnyOptimizer['state'], owner: Parameter, key: string, value: unknown): void {
  const parts = state.get(owner) ?? new Map<string, unknown>();
  state.set(owner, parts.set(key, value));
}
