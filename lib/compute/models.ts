import type { GPTModel } from '../models/gpt-model';
import { type ModelUser, setUser } from '../models/in-use';
import { native } from '../native/native';
import { Replica, type StorageCopies } from './replica';

/** How long a replica is kept for the next call after it was used last, in milliseconds: making one takes several. */
const KEPT = 1000;

/** The replicas of a model. Sequences that began before the model was changed are generated from the one they began with. */
class ModelReplicas implements ModelUser {
  newest: Replica | undefined;
  opening: Promise<Replica | undefined> | undefined;
  /** How many use each replica. */
  private readonly users = new Map<Replica, number>();
  private timer: NodeJS.Timeout | undefined;

  /** Counts a user of a replica. */
  take(replica: Replica): Replica {
    clearTimeout(this.timer);
    native().endThreadPool(); // the compute thread's is in use from here
    this.users.set(replica, (this.users.get(replica) ?? 0) + 1);
    return replica;
  }

  /** @param keep the replica for the next call where nobody else uses it */
  giveBack(replica: Replica, keep: boolean): void {
    const left = this.users.get(replica)! - 1;
    this.users.set(replica, left);
    if (left > 0) return;
    if (!keep || replica !== this.newest) this.close(replica);
    else this.timer = setTimeout(() => this.closeUnused(), KEPT).unref();
  }

  closeUnused(): void {
    for (const [replica, count] of this.users) if (count === 0) this.close(replica);
  }

  private close(replica: Replica): void {
    this.users.delete(replica);
    if (replica === this.newest) this.newest = undefined;
    replica.close();
  }

  settle(): void {
    for (const replica of this.users.keys()) replica.settle();
  }

  exclusively<T>(fn: () => T): T {
    return [...this.users.keys()].reduce((run, replica) => () => replica.exclusively(run), fn)();
  }
}

const models = new WeakMap<GPTModel, ModelReplicas>();

function replicasOf(model: GPTModel): ModelReplicas {
  let found = models.get(model);
  if (found === undefined) {
    models.set(model, (found = new ModelReplicas()));
    setUser(model, found);
  }
  return found;
}

/**
 * A replica that computes what the model computes now, to be given back by `releaseReplica`; undefined where the model must be
 * computed by its own thread.
 */
export async function acquireReplica(model: GPTModel): Promise<Replica | undefined> {
  const replicas = replicasOf(model);
  for (;;) {
    const { newest } = replicas;
    if (newest?.isLike(model) === true) return replicas.take(newest);
    if (replicas.opening === undefined) break;
    await replicas.opening;
  }
  const before = replicas.newest;
  // A changed model goes to the thread that its replica before is on: one thread computes a model.
  replicas.opening = Replica.open(model, before?.thread);
  try {
    const opened = await replicas.opening;
    if (opened === undefined) return undefined;
    replicas.newest = opened;
    replicas.closeUnused();
    return replicas.take(opened);
  } finally {
    replicas.opening = undefined;
  }
}

/** Counts a further user of a replica that is in use, who gives it back by `releaseReplica` too. */
export function shareReplica(model: GPTModel, replica: Replica): void {
  replicasOf(model).take(replica);
}

/**
 * Gives a replica back.
 *
 * @param keep it for a moment, for the next call
 */
export function releaseReplica(model: GPTModel, replica: Replica, { keep }: { keep: boolean }): void {
  models.get(model)!.giveBack(replica, keep);
}

export const NO_COPIES: StorageCopies = new Map();

/**
 * Takes something of a model and its training at one moment: at once, or while another thread trains the model, after the update
 * under way. Then the memory cannot be copied on write, and that thread copies it.
 *
 * @param take reads before it first awaits; what it returns is awaited
 */
export async function atWholeUpdate<T>(model: GPTModel, take: (copies: StorageCopies) => Promise<T>): Promise<T> {
  const replicas = models.get(model);
  replicas?.closeUnused(); // its memory can be copied on write then
  const newest = replicas?.newest;
  if (newest?.trains !== true) return take(NO_COPIES);
  let taken: Promise<T> | undefined;
  await newest.copyStorages((copies) => {
    taken = take(copies);
  });
  return taken!;
}
