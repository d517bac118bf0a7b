import type { Batch } from '../data';
import type { GPTModel } from '../models/gpt-model';
import { lossOf, type Precision } from '../models/precision';
import type { NativeReducer } from '../native/binding';
import { native } from '../native/native';
import type { Parameter } from '../nn/parameter';
import { reducerArguments } from '../nn/reducer';
import { getNumThreads } from '../tensor/device';
import { runInside, Scope } from '../tensor/ownership';
import { type Tensor, unwrap } from '../tensor/tensor';
import { partOf, type PartOptions } from './update';

const WHERE = 'fit';

/** What the ranks of a group average. */
export interface Averaged {
  /** The name of the process group, which belongs to the process: any thread may use it. */
  group: string;
  /** Those that are trained, by name. */
  parameters: readonly (readonly [name: string, parameter: Parameter])[];
  /** Parameters and buffers that are given the values of rank 0 first. */
  states: readonly Tensor[];
}

/**
 * The last batch of each update of a model that several ranks train: its backward pass averages the gradients of all of the
 * update. The engine is that of `DistributedDataParallel`, over the parameters of the thread that computes the model.
 */
export class Averager {
  private reducer: NativeReducer | undefined;
  private parameters: Averaged['parameters'] = [];
  private pending: { loss: Tensor; scope: Scope } | undefined;

  /** Makes a new reducer, also between the passes of a batch. Waits for the other ranks, which must all do this now. */
  async join({ group, parameters, states }: Averaged): Promise<void> {
    this.freeReducer();
    this.parameters = parameters;
    this.reducer = await native().makeReducerOffLoop(...reducerArguments(group, parameters, states, WHERE));
  }

  /** Whether it averages the gradients of these parameters, and of no others. */
  isOf(parameters: Averaged['parameters']): boolean {
    const { reducer, parameters: own } = this;
    return (
      reducer !== undefined &&
      parameters.length === own.length &&
      parameters.every(([, each], i) => each === own[i]![1])
    );
  }

  /** The loss of a batch. All that was made on the way is kept for the backward pass, which may compute some of it anew. */
  forward(model: GPTModel, batch: Batch, precision: Precision): number {
    this.drop();
    const scope = new Scope(null);
    try {
      const loss = runInside(scope, () => lossOf(model, batch, precision));
      this.pending = { loss, scope };
      return Number(loss.item());
    } catch (error) {
      scope.close();
      throw error;
    }
  }

  /** A backward pass that may call JavaScript: it waits for the other ranks on this thread. */
  backward(options: PartOptions): void {
    const { loss, scope } = this.pending!;
    const reducer = this.reducer!;
    try {
      native().prepareForForward(reducer);
      native().prepareForBackward(reducer, []);
      runInside(scope, () => partOf(loss, options).backward());
    } finally {
      this.drop();
    }
  }

  /** One that calls no JavaScript. Until it has ended, nobody may use the gradients. */
  async backwardOffLoop(options: PartOptions): Promise<void> {
    const { loss, scope } = this.pending!;
    try {
      const part = runInside(scope, () => partOf(loss, options));
      // The native thread has a pool of its own: see docs/decisions/compute-thread.md.
      if (getNumThreads() > 1) native().endThreadPool();
      await native().backwardOffLoop(this.reducer!, unwrap(part, WHERE));
    } finally {
      this.drop();
    }
  }

  /** Frees a loss, and what its backward pass needs. */
  drop(): void {
    this.pending?.scope.close();
    this.pending = undefined;
  }

  /** Drops loss and reducer. The other ranks are not told. */
  leave(): void {
    this.drop();
    this.freeReducer();
  }

  /** Takes its hooks off the parameters. */
  private freeReducer(): void {
    if (this.reducer !== undefined) native().freeReducer(this.reducer);
    this.reducer = undefined;
  }
}
