/** Another thread that computes with a model's weights. */
export interface ModelUser {
  /** Waits, without turning the event loop, until the update that it makes is whole. */
  settle(): void;
  /** Runs a function that changes weights while it computes nothing. */
  exclusively<T>(fn: () => T): T;
  /** Lets go of what is only kept for the next call. */
  closeUnused(): void;
}

const users = new WeakMap<object, ModelUser>();

/** @internal Says which other thread computes with a model; undefined for none. */
export function setUser(model: object, user: ModelUser | undefined): void {
  if (user === undefined) users.delete(model);
  else users.set(model, user);
}

/** Waits until no other thread is in the middle of an update: what is read of the weights then is of one whole update. */
export function settle(model: object): void {
  users.get(model)?.settle();
}

/** Runs a function that changes weights, while no other thread reads them. */
export function exclusively<T>(model: object, fn: () => T): T {
  const user = users.get(model);
  return user === undefined ? fn() : user.exclusively(fn);
}

/** Lets other threads let go of a model that ends. */
export function release(model: object): void {
  users.get(model)?.closeUnused();
}
