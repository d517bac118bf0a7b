import type { GPTModel } from '../models/gpt-model';
import { setUser } from '../models/in-use';
import { Replica } from './replica';

/** The replicas of models that are in use. */
const current = new WeakMap<GPTModel, Replica>();
const users = new Map<Replica, number>();
const openings = new WeakMap<GPTModel, Promise<Replica | undefined>>();

/**
 * A replica that computes what the model computes now, to be given back by `releaseReplica`; undefined where the model must be
 * computed by its own thread.
 */
export async function acquireReplica(model: GPTModel): Promise<Replica | undefined> {
  for (;;) {
    const replica = current.get(model);
    if (replica?.isLike(model) === true) {
      users.set(replica, users.get(replica)! + 1);
      return replica;
    }
    const opening = openings.get(model);
    if (opening === undefined) return open(model, replica);
    await opening.catch(() => undefined);
  }
}

/** A changed model goes to the thread that its replica before is on: one thread computes a model. */
async function open(model: GPTModel, before: Replica | undefined): Promise<Replica | undefined> {
  const opening = Replica.open(model, before?.thread);
  openings.set(model, opening);
  try {
    const replica = await opening;
    if (replica === undefined) return undefined;
    current.set(model, replica);
    users.set(replica, 1);
    setUser(model, replica);
    return replica;
  } finally {
    openings.delete(model);
  }
}

/** Gives a replica back: with its last user it is closed. */
export async function releaseReplica(model: GPTModel, replica: Replica): Promise<void> {
  const left = users.get(replica)! - 1;
  users.set(replica, left);
  if (left > 0) return;
  users.delete(replica);
  if (current.get(model) === replica) {
    current.delete(model);
    setUser(model, undefined);
  }
  await replica.close();
}

/** Waits until no call on the model is under way: what is read of it then is of one whole update. */
export async function whenIdle(model: GPTModel): Promise<void> {
  for (let replica = current.get(model); replica?.isBusy === true; replica = current.get(model)) await replica.idle();
}
