import type { AccumulateOptions, TrainingEngine } from '../compute';
import { allReduce, broadcast, gather } from '../distributed/collectives';
import { isLaunchedByTorchrun } from '../distributed/environment';
import { distributedError } from '../distributed/failure';
import { groupOf, initProcessGroup, isInitialized, type ProcessGroup } from '../distributed/group';
import { allGatherObject } from '../distributed/objects';
import { TorchBindError } from '../errors';
import type { Batch } from '../data';
import type { GPTModel } from '../models/gpt-model';
import { fromTypedArray, tensor } from '../tensor/creation';
import { dispose, tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { getRandomStates } from './run-data';
import type { RunState } from './run-state';

/** What one rank wants to do next. The ranks combine their wishes, and the most urgent one counts. */
export interface Wishes {
  stop: 'aborted' | 'SIGINT' | 'SIGTERM' | undefined;
  save: boolean;
  dataEnded: boolean;
  /** A save failed, of which rank 0 has the error. */
  failed: boolean;
}

const STOPS = [undefined, 'aborted', 'SIGINT', 'SIGTERM'] as const;

/** What all ranks must have in common where a run begins. */
export interface Common {
  step: number;
  maxSteps: number;
  batchSize: number;
  gradAccumulation: number;
  evalInterval: number;
  saveEvery: number;
  seed: number | null;
  resumes: boolean;
  parameters: number;
}

/**
 * One training run on several ranks. Every rank makes the same updates: the gradients are averaged, and what is decided is decided
 * by all, because a rank that stops alone leaves the others waiting.
 */
export class Ranks {
  readonly rank: number;
  readonly size: number;

  private constructor(private readonly group: ProcessGroup) {
    this.rank = group.rank;
    this.size = group.size;
  }

  /** The ranks of the program's group; null where it has none, or is alone in it. */
  static async join(): Promise<Ranks | null> {
    if (!isInitialized() && isLaunchedByTorchrun()) await initProcessGroup();
    if (!isInitialized()) return null;
    const group = groupOf(undefined, 'fit');
    return group.size > 1 ? new Ranks(group) : null;
  }

  /** Whether this rank logs, shows progress and saves. */
  get leads(): boolean {
    return this.rank === 0;
  }

  /** @throws ERR_TORCHBIND_RANKS_DIFFER where the ranks do not begin the same run */
  async check(own: Common): Promise<void> {
    const all = (await allGatherObject(own)) as Map<keyof Common, unknown>[];
    for (const [other, theirs] of all.entries()) {
      for (const [name, value] of all[0]!) {
        if (theirs.get(name) === value) continue;
        throw new TorchBindError(
          `fit: rank 0 has ${name} ${String(value)}, rank ${other} has ${String(theirs.get(name))}. All ranks must train the same ` +
            'model with the same options, and resume from the same checkpoint directory: on several machines it must be a shared one.',
          'ERR_TORCHBIND_RANKS_DIFFER',
        );
      }
    }
  }

  /** Gives all ranks the weights of rank 0. */
  async prepare(engine: TrainingEngine, model: GPTModel): Promise<void> {
    await engine.prepare();
    await this.waiting(engine.join(this.group.name, [...model.parameters(), ...model.buffers()]));
  }

  /** Rank 0's number. */
  async same(value: number): Promise<number> {
    const shared = tensor([value], { dtype: 'float64' });
    try {
      return Number((await broadcast(shared)).item());
    } finally {
      shared.dispose();
    }
  }

  /** The mean of all ranks' numbers, bit-identical on all ranks. */
  async mean(value: number): Promise<number> {
    return (await this.reduce([value], 'sum'))[0]! / this.size;
  }

  async agree({ stop, save, dataEnded, failed }: Wishes): Promise<Wishes> {
    const own = [STOPS.indexOf(stop), Number(save), Number(dataEnded), Number(failed)];
    const all = await this.reduce(own, 'max');
    return { stop: STOPS[all[0]!], save: all[1] === 1, dataEnded: all[2] === 1, failed: all[3] === 1 };
  }

  private async reduce(values: readonly number[], op: 'sum' | 'max'): Promise<number[]> {
    const shared = tensor([...values], { dtype: 'float64' });
    try {
      return Array.from((await allReduce(shared, { op })).toTypedArray() as Float64Array);
    } finally {
      shared.dispose();
    }
  }

  /** This rank's rows of a batch of all ranks, which is freed. */
  slice(batch: Batch): Batch {
    const part = (whole: Tensor): Tensor => {
      const rows = whole.shape[0]! / this.size;
      return tidy(() => whole.narrow(0, this.rank * rows, rows).clone());
    };
    const own = { x: part(batch.x), y: part(batch.y) };
    dispose(batch);
    return own;
  }

  /**
   * Adds the gradients of the last batch of an update and averages all of the update over the ranks, unless a loss of some rank is
   * not finite. The batch is freed.
   *
   * @param sum losses of the update's batches before; not finite where one was not
   * @returns the sum, averaged
   */
  async lastBatch(
    engine: TrainingEngine,
    batch: Batch,
    sum: number,
    { parts, precision, scaler }: AccumulateOptions,
  ): Promise<number> {
    const loss = await engine.forward(batch, precision);
    const [total, unjoined] = await this.reduce([sum + loss, engine.isJoined ? 0 : 1], 'sum');
    const mean = total! / this.size;
    if (!Number.isFinite(mean)) {
      await engine.dropGradients();
      return mean;
    }
    // A program may have changed the model of one rank, which is then computed by another thread, or anew: all need a new reducer.
    if (unjoined! > 0) await this.waiting(engine.join(this.group.name, []));
    await this.waiting(engine.average({ parts, scaler }));
    return mean;
  }

  /** What waits for the other ranks. */
  private async waiting(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      throw distributedError(error, `fit (rank ${this.rank} of ${this.size})`);
    }
  }

  /** The random states of all ranks, at rank 0; its own at the others. */
  async randomStates(device: string): Promise<Record<string, Uint8Array>> {
    const own = getRandomStates(device);
    const states = { ...own };
    for (const [name, bytes] of Object.entries(own)) {
      const held = fromTypedArray(bytes, [bytes.length]);
      const all = (await gather(held)) ?? [];
      all.slice(1).forEach((state, i) => (states[keyOf(name, i + 1)] = state.toTypedArray() as Uint8Array));
      dispose([held, all]);
    }
    return states;
  }
}

/** A bundle names the random states of ranks but the first as `cpu@1`. */
function keyOf(device: string, rank: number): string {
  return rank === 0 ? device : `${device}@${rank}`;
}

/** This rank's random states among those that a bundle holds, and how many ranks saved it. */
export function randomStatesOf(
  random: RunState['random'],
  rank: number,
): { states: RunState['random']; ranks: number } {
  const ranks = 1 + Math.max(0, ...Object.keys(random).map((key) => Number(/@(\d+)$/.exec(key)?.[1] ?? 0)));
  const devices = Object.keys(random).filter((key) => !key.includes('@'));
  const own = devices.flatMap((device) => {
    const state = random[keyOf(device, rank)];
    return state === undefined ? [] : [[device, state] as const];
  });
  return { states: Object.fromEntries(own), ranks };
}
