import type { GPTModel } from './gpt-model';

/** Models that another thread computes with at the moment, and how to wait until it does not. */
const users = new WeakMap<GPTModel, () => void>();

/** @internal Says how to wait for the calls that another thread makes on a model. */
export function setUser(model: GPTModel, settle: (() => void) | undefined): void {
  if (settle === undefined) users.delete(model);
  else users.set(model, settle);
}

/**
 * Waits, without turning the event loop, until the update that another thread makes is whole: what reads the weights now must
 * not see half of it.
 */
export function settle(model: GPTModel): void {
  users.get(model)?.();
}
