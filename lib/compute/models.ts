import type { GPTModel } from '../models/gpt-model';
import { setUser } from '../models/in-use';
import { Replica, type StorageCopies } from './replica';

/** The newest replica of each model that has any. */
const current = new WeakMap<GPTModel, Replica>();
/** All replicas of a model: sequences that began before it was changed are generated from the replica that they began with. */
const replicas = new WeakMap<GPTModel, Set<Replica>>();
/** How many use each replica. */
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
    const all = replicas.get(model) ?? new Set();
    replicas.set(model, all.add(replica));
    setUser(model, { settle: () => settleAll(all), exclusively: (fn) => exclusively(all, fn) });
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
  if (current.get(model) === replica) current.delete(model);
  const all = replicas.get(model)!;
  all.delete(replica);
  if (all.size === 0) setUser(model, undefined);
  await replica.close();
}

function settleAll(all: ReadonlySet<Replica>): void {
  for (const replica of all) replica.settle();
}

function exclusively<T>(all: ReadonlySet<Replica>, fn: () => T): T {
  return [...all].reduce((run, replica) => () => replica.exclusively(run), fn)();
}

export const NO_COPIES: StorageCopies = new Map();

/**
 * Takes something of a model and its training at one moment: at once, or while another thread trains the model, after the update
 * under way. Then the memory cannot be copied on write, and that thread copies it.
 *
 * @param take reads before it first awaits; what it returns is awaited
 */
export async function atWholeUpdate<T>(model: GPTModel, take: (copies: StorageCopies) => Promise<T>): Promise<T> {
  const replica = current.get(model);
  if (replica?.trains !== true) return take(NO_COPIES);
  let taken: Promise<T> | undefined;
  await replica.copyStorages((copies) => {
    taken = take(copies);
  });
  return taken!;
}
